"""Toeplitz strategies against dense linear algebra, all participation patterns and closed forms."""

import itertools
import math

import numpy as np
import pytest
from scipy import linalg

from fl_research.errors import InputError
from fl_research.privacy.factorization import toeplitz
from tests.privacy.factorization.participation_patterns import patterns

ONCE = {"max_participations": 1, "min_separation": 1}


def dense(coefficients: np.ndarray, rounds: int) -> np.ndarray:
    column = np.zeros(rounds)
    kept = min(rounds, len(coefficients))
    column[:kept] = coefficients[:kept]
    return linalg.toeplitz(column, np.zeros(rounds))


def falling(seed: int, count: int) -> np.ndarray:
    """Coefficients that do not increase, some of them equal, the first above zero."""
    drawn = np.random.default_rng(seed).exponential(size=count).round(1)
    return np.sort(drawn)[::-1] + (0.1 if seed % 2 else 0.0) + np.eye(count)[0]


@pytest.mark.parametrize("seed", range(6))
def test_sensitivity_is_that_of_the_worst_pattern(seed: int) -> None:
    for rounds, bands, separation, limit in itertools.product(
        (1, 5, 9), (1, 3, 9), (1, 2, 4), (1, 3, 9)
    ):
        coefficients = falling(seed, bands)
        matrix = dense(coefficients, rounds)
        worst = max(np.sum((matrix @ p) ** 2) for p in patterns(rounds, limit, separation))
        found = toeplitz.squared_sensitivity(
            coefficients, rounds=rounds, max_participations=limit, min_separation=separation
        )
        assert found == pytest.approx(worst, rel=1e-12)


def test_columns_of_few_bands_are_orthogonal() -> None:
    coefficients = falling(1, 7)
    found = toeplitz.squared_sensitivity(
        coefficients, rounds=100, max_participations=5, min_separation=7
    )
    assert found == pytest.approx(5 * np.sum(coefficients**2), rel=1e-12)


def test_a_limit_that_the_rounds_cannot_reach_is_no_limit() -> None:
    coefficients = falling(2, 4)
    free, limited = (
        toeplitz.squared_sensitivity(
            coefficients, rounds=10, max_participations=limit, min_separation=3
        )
        for limit in (None, 4)
    )
    assert free == limited


def test_by_hand() -> None:
    """1 / (1 + x / 2) = 1 - x / 2 + x^2 / 4; prefix sums 1, 1/2, 3/4."""
    np.testing.assert_allclose(toeplitz.inverse_coefficients((1, 0.5), 3), [1, -0.5, 0.25])
    np.testing.assert_allclose(toeplitz.prefix_errors((1, 0.5), 3), [1, 1.25, 1.8125])
    limits = {"rounds": 3, "max_participations": 2, "min_separation": 2}
    # Participations in rounds 0 and 2: C times them is (1, 1/2, 1).
    assert toeplitz.squared_sensitivity((1, 0.5), **limits) == 2.25
    assert toeplitz.max_squared_error((1, 0.5), **limits) == 1.8125 * 2.25
    expected = (1 + 1.25 + 1.8125) / 3 * 2.25
    assert toeplitz.mean_squared_error((1, 0.5), **limits) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(("bands", "rounds"), [(1, 1), (1, 6), (4, 40), (40, 40), (9, 4)])
def test_errors_and_noise_agree_with_dense_matrices(bands: int, rounds: int) -> None:
    coefficients = falling(3, bands)
    matrix = dense(coefficients, rounds)
    inverse = np.linalg.inv(matrix)
    np.testing.assert_allclose(
        toeplitz.inverse_coefficients(coefficients, rounds), inverse[:, 0], atol=1e-12
    )
    rows = np.sum((np.tri(rounds) @ inverse) ** 2, axis=1)
    np.testing.assert_allclose(toeplitz.prefix_errors(coefficients, rounds), rows, rtol=1e-12)
    z = np.random.default_rng(0).normal(size=(rounds, 2, 3))
    noise = toeplitz.correlated_noise(coefficients, z)
    np.testing.assert_allclose(np.tensordot(matrix, noise, axes=1), z, atol=1e-12)


def test_losses_do_not_depend_on_the_scale() -> None:
    limits = {"rounds": 30, "max_participations": 4, "min_separation": 6}
    coefficients = falling(4, 8)
    for loss in (toeplitz.mean_squared_error, toeplitz.max_squared_error):
        assert loss(7 * coefficients, **limits) == pytest.approx(loss(coefficients, **limits))


def test_independent_noise_adds_up() -> None:
    limits = {"rounds": 50, "max_participations": 3, "min_separation": 10}
    assert toeplitz.mean_squared_error(toeplitz.INDEPENDENT_NOISE, **limits) == 3 * 51 / 2
    assert toeplitz.max_squared_error(toeplitz.INDEPENDENT_NOISE, **limits) == 3 * 50


def test_the_square_root_of_prefix_sums() -> None:
    coefficients = toeplitz.square_root_coefficients(60)
    binomials = [math.comb(2 * k, k) / 4**k for k in range(60)]
    np.testing.assert_allclose(coefficients, binomials, rtol=1e-13)
    root = dense(np.array(coefficients), 60)
    np.testing.assert_allclose(root @ root, np.tri(60), atol=1e-13)


@pytest.mark.parametrize("rounds", [4, 10, 100, 1000, 10_000])
def test_the_square_roots_error_is_a_landau_constant(rounds: int) -> None:
    """Brutman 1982, A sharp estimate of the Landau constants: between 1 and 1.0663 + ln(T) / pi."""
    coefficients = toeplitz.square_root_coefficients(rounds)
    error = math.sqrt(toeplitz.max_squared_error(coefficients, rounds=rounds, **ONCE))
    assert error == pytest.approx(np.sum(np.square(coefficients)), rel=1e-9)
    assert 1 <= error - math.log(rounds) / math.pi < 1.0663


@pytest.mark.parametrize("seed", range(20))
def test_no_other_toeplitz_matrix_has_a_smaller_largest_error(seed: int) -> None:
    root = np.array(toeplitz.square_root_coefficients(30))
    others = [falling(seed, 30), root ** (0.7 + seed / 33)]
    best = toeplitz.max_squared_error(root, rounds=30, **ONCE)
    for other in others:
        assert toeplitz.max_squared_error(other, rounds=30, **ONCE) > best


@pytest.mark.parametrize("coefficients", [(1, 0.5, 0.6), (1, -0.1), (1, 1 + 1e-15)])
def test_a_sensitivity_that_is_not_known_is_refused(coefficients: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="do not increase"):
        toeplitz.squared_sensitivity(coefficients, rounds=5, **ONCE)
    # Beyond the last round they do not matter.
    assert toeplitz.squared_sensitivity(coefficients, rounds=1, **ONCE) == 1


@pytest.mark.parametrize("coefficients", [(), (0.0, 0.0), (-1.0,), (1.0, math.nan), ((1.0,),)])
def test_coefficients_without_an_inverse_are_refused(coefficients: tuple) -> None:
    with pytest.raises(InputError, match="have no inverse"):
        toeplitz.prefix_errors(coefficients, 5)
    with pytest.raises(InputError, match="have no inverse"):
        toeplitz.correlated_noise(coefficients, np.ones(3))


def test_no_rounds_are_refused() -> None:
    for call in (toeplitz.prefix_errors, toeplitz.inverse_coefficients):
        with pytest.raises(InputError, match="rounds=0"):
            call((1.0,), 0)
    with pytest.raises(InputError, match="rounds=0"):
        toeplitz.square_root_coefficients(0)
