"""Buffered strategies against dense matrices, other optimisers, and mixtures of many decays."""

import itertools
import math

import numpy as np
import pytest
from scipy import linalg, optimize

from fl_research.errors import InputError
from fl_research.privacy.factorization import buffered, toeplitz
from fl_research.privacy.factorization.banded import optimal_banded_coefficients
from fl_research.privacy.factorization.buffered import BufferedStrategy, optimal_buffers
from fl_research.privacy.factorization.prefix_loss import log_loss_and_gradient

STRATEGIES = [
    BufferedStrategy((0.3,), (0.9,)),
    BufferedStrategy((0.25, 0.25), (0.98, 0.6)),
    BufferedStrategy((0.2, 0.0, 0.8), (0.999, 0.5, 1e-6)),
    BufferedStrategy((0.1, 0.1, 0.1, 0.1, 0.1), (0.9999, 0.9998, 0.7, 0.7, 0.01)),
]


def loss_of(buffers: int, **limits: int) -> float:
    strategy = optimal_buffers(buffers=buffers, **limits)
    return toeplitz.mean_squared_error(strategy.coefficients(limits["rounds"]), **limits)


def test_coefficients_by_hand() -> None:
    strategy = BufferedStrategy((0.5, 0.25), (0.5, 0.1))
    np.testing.assert_allclose(strategy.coefficients(4), [1, 0.75, 0.275, 0.1275], rtol=1e-15)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rounds", [1, 2, 300])
def test_inverse_and_noise_agree_with_dense_matrices(
    strategy: BufferedStrategy, rounds: int
) -> None:
    coefficients = strategy.coefficients(rounds)
    assert np.all(np.diff(coefficients) <= 0)
    matrix = linalg.toeplitz(coefficients, np.zeros(rounds))
    inverse = np.linalg.inv(matrix)[:, 0]
    np.testing.assert_allclose(strategy.inverse_coefficients(rounds), inverse, atol=1e-12)
    z = np.random.default_rng(0).normal(size=(rounds, 2, 3))
    noise = buffered.correlated_noise(strategy, z)
    np.testing.assert_allclose(np.tensordot(matrix, noise, axes=1), z, atol=1e-11)
    np.testing.assert_allclose(toeplitz.correlated_noise(coefficients, z), noise, atol=1e-11)


@pytest.mark.parametrize(("buffers", "seed"), itertools.product((1, 2, 5), range(3)))
def test_the_gradient_is_that_of_differences(buffers: int, seed: int) -> None:
    place = np.random.default_rng(seed).normal(size=2 * buffers)
    _, gradient = buffered._loss_and_gradient(place, 60, 4, 7)
    differences = [
        (
            buffered._loss_and_gradient(place + step, 60, 4, 7)[0]
            - buffered._loss_and_gradient(place - step, 60, 4, 7)[0]
        )
        / 2e-6
        for step in 1e-6 * np.eye(2 * buffers)
    ]
    np.testing.assert_allclose(gradient, differences, atol=1e-7)


@pytest.mark.parametrize(
    ("rounds", "participations", "separation"), [(100, 1, 1), (200, 5, 40), (200, 8, 10)]
)
def test_one_buffer_is_the_best_of_a_plane(
    rounds: int, participations: int, separation: int
) -> None:
    """Brute force over weights and decays, then a search that uses no gradient."""
    limits = {
        "rounds": rounds, "max_participations": participations, "min_separation": separation
    }  # fmt: skip

    def loss(place: np.ndarray) -> float:
        weight, decay = place
        if not (0 <= weight <= 1 and 0 < decay < 1):
            return math.inf
        strategy = BufferedStrategy((weight,), (decay,))
        return toeplitz.mean_squared_error(strategy.coefficients(rounds), **limits)

    plane = itertools.product(np.linspace(0, 1, 21), 1 - np.geomspace(1e-4, 0.99, 30))
    start = min(plane, key=loss)
    best = optimize.minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-7}).fun
    assert loss_of(1, **limits) == pytest.approx(best, rel=1e-7)


@pytest.mark.parametrize(
    ("rounds", "participations", "separation"), [(300, 1, 1), (400, 4, 100), (300, 10, 20)]
)
def test_five_buffers_are_as_good_as_a_mixture_of_many_decays(
    rounds: int, participations: int, separation: int
) -> None:
    """All weights on a fine grid of decays, optimised together, leave next to nothing to gain."""
    decays = np.append(1 - np.geomspace(1e-4, 1, 80)[:-1], 1e-9)
    powers = decays[:, None] ** np.arange(rounds - 1)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        column = np.append(1.0, weights @ powers)
        value, gradient = log_loss_and_gradient(
            column,
            toeplitz.inverse_coefficients(column, rounds),
            participations=participations,
            min_separation=separation,
        )
        return value, powers @ gradient[1:]

    found = optimize.minimize(
        loss,
        np.full(80, 0.005),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * 80,
        constraints={"type": "ineq", "fun": lambda weights: 1 - weights.sum()},
        options={"maxiter": 1000, "ftol": 1e-13},
    )
    ours = loss_of(5, rounds=rounds, max_participations=participations, min_separation=separation)
    assert 0.999 < ours / math.exp(found.fun) < 1 + 1e-6


@pytest.mark.parametrize(
    ("rounds", "participations", "separation"),
    [(1000, 1, 1), (1000, 10, 100), (1000, 10, 20), (60, 60, 1), (2, 1, 1), (2, 2, 1)],
)
def test_more_buffers_are_never_worse_and_full_bands_are_best(
    rounds: int, participations: int, separation: int
) -> None:
    limits = {
        "rounds": rounds, "max_participations": participations, "min_separation": separation
    }  # fmt: skip
    losses = [loss_of(buffers, **limits) for buffers in range(1, 6)]
    for fewer, more in itertools.pairwise(losses):
        assert more <= fewer * (1 + 1e-9)
    independent = toeplitz.mean_squared_error(toeplitz.INDEPENDENT_NOISE, **limits)
    assert losses[0] <= independent * (1 + 1e-7)
    bands = rounds if participations == 1 else separation
    if bands == rounds or participations * separation == rounds:
        best = optimal_banded_coefficients(bands=bands, **limits)
        assert losses[-1] >= toeplitz.mean_squared_error(best, **limits) * (1 - 1e-9)


def test_five_buffers_nearly_reach_full_bands_for_one_participation() -> None:
    limits = {"rounds": 1000, "max_participations": 1, "min_separation": 1}
    best = optimal_banded_coefficients(bands=1000, **limits)
    assert loss_of(5, **limits) < 1.001 * toeplitz.mean_squared_error(best, **limits)
    assert loss_of(1, **limits) > 1.1 * toeplitz.mean_squared_error(best, **limits)


def test_a_single_round_needs_no_buffers() -> None:
    limits = {"rounds": 1, "max_participations": 1, "min_separation": 1}
    assert loss_of(3, **limits) == 1


@pytest.mark.parametrize(
    ("weights", "decays", "words"),
    [
        ((), (), "do not match"),
        ((0.1,), (0.1, 0.2), "do not match"),
        ((0.1,), (1.0,), "between 0 and 1"),
        ((0.1,), (math.nan,), "between 0 and 1"),
        ((0.6, 0.6), (0.1, 0.2), "sum of at most 1"),
        ((-0.1,), (0.2,), "0 or more"),
        ((math.nan,), (0.2,), "0 or more"),
    ],
)
def test_impossible_buffers_are_refused(
    weights: tuple[float, ...], decays: tuple[float, ...], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        BufferedStrategy(weights, decays)


@pytest.mark.parametrize("buffers", [0, 6])
def test_impossible_numbers_of_buffers_are_refused(buffers: int) -> None:
    with pytest.raises(InputError, match=f"buffers={buffers} "):
        optimal_buffers(rounds=5, buffers=buffers, max_participations=1, min_separation=1)
