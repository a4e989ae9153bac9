"""The best banded strategy against other optimisers, lower bounds and the square root."""

import itertools
import math

import numpy as np
import pytest
from scipy import linalg, optimize

from fl_research.errors import InputError
from fl_research.privacy.factorization.banded import optimal_banded_coefficients
from fl_research.privacy.factorization.prefix_loss import log_loss_and_gradient
from fl_research.privacy.factorization.toeplitz import (
    inverse_coefficients,
    mean_squared_error,
    square_root_coefficients,
)


def loss_of(bands: int, **limits: int) -> float:
    return mean_squared_error(optimal_banded_coefficients(bands=bands, **limits), **limits)


@pytest.mark.parametrize(("participations", "separation"), [(1, 1), (4, 5), (10, 2)])
def test_the_loss_and_its_gradient(participations: int, separation: int) -> None:
    """The loss against the plain formula, the gradient against differences."""
    column = np.array([1.0, 0.6, 0.5, 0.2, 0.1])

    def loss_and_gradient(column: np.ndarray) -> tuple[float, np.ndarray]:
        return log_loss_and_gradient(
            column,
            inverse_coefficients(column, 20),
            participations=participations,
            min_separation=separation,
        )

    loss, gradient = loss_and_gradient(column)
    plain = mean_squared_error(
        column, rounds=20, max_participations=participations, min_separation=separation
    )
    assert math.exp(loss) == pytest.approx(plain, rel=1e-12)
    steps = 1e-6 * np.eye(5)
    differences = [
        (loss_and_gradient(column + step)[0] - loss_and_gradient(column - step)[0]) / 2e-6
        for step in steps
    ]
    np.testing.assert_allclose(gradient, differences, atol=1e-8)


@pytest.mark.parametrize(
    ("rounds", "bands", "participations", "separation"),
    [(12, 2, 3, 4), (12, 4, 3, 4), (16, 8, 4, 3), (10, 10, 1, 1), (9, 4, 9, 1), (30, 9, 4, 7)],
)
def test_another_optimiser_finds_nothing_better(
    rounds: int, bands: int, participations: int, separation: int
) -> None:
    """SLSQP without our gradient, from three random starts, under the constraints themselves."""
    limits = {
        "rounds": rounds, "max_participations": participations, "min_separation": separation
    }  # fmt: skip

    def loss(later: np.ndarray) -> float:
        column = np.minimum.accumulate(np.clip([1.0, *later], 0, 1))
        return math.log(mean_squared_error(column, **limits))

    others = [
        optimize.minimize(
            loss,
            np.sort(np.random.default_rng(seed).uniform(size=bands - 1))[::-1],
            method="SLSQP",
            bounds=[(0, 1)] * (bands - 1),
            constraints={"type": "ineq", "fun": lambda later: -np.diff([1.0, *later])},
            options={"maxiter": 500, "ftol": 1e-12},
        ).fun
        for seed in range(3)
    ]
    ours = math.log(loss_of(bands, **limits))
    assert ours <= min(others) + 1e-9
    assert ours == pytest.approx(min(others), abs=1e-5)


def test_full_bands_lie_between_the_best_matrix_and_the_square_root() -> None:
    """The best matrix of any shape, by the fixed point of Denisov et al. 2022, and the square root.

    Improved Differential Privacy for SGD via Optimal Private Linear Operators on Adaptive Streams:
    with v = diag of R = sqrt(V^(1/2) A^T A V^(1/2)), the smallest sum of errors is that of v.
    """
    rounds = 50
    limits = {"rounds": rounds, "max_participations": 1, "min_separation": 1}
    gram = np.tri(rounds).T @ np.tri(rounds)
    v = np.ones(rounds)
    for _ in range(300):
        scaled = np.sqrt(v)[:, None] * gram * np.sqrt(v)
        root = linalg.sqrtm(scaled).real
        v = np.diag(root).copy()
    strategy_gram = root / np.sqrt(np.outer(v, v))
    np.testing.assert_allclose(np.diag(strategy_gram), 1, rtol=1e-9)
    lowest = np.trace(np.linalg.solve(strategy_gram, gram)) / rounds
    best = loss_of(rounds, **limits)
    assert lowest < best < mean_squared_error(square_root_coefficients(rounds), **limits)
    assert math.sqrt(best / lowest) < 1.05


@pytest.mark.parametrize(("participations", "separation"), [(1, 1), (5, 20), (20, 5), (100, 1)])
def test_more_bands_are_never_worse(participations: int, separation: int) -> None:
    limits = {"rounds": 100, "max_participations": participations, "min_separation": separation}
    losses = [loss_of(bands, **limits) for bands in (1, 2, 3, 5, 8, 13, 20, 40, 70, 100)]
    for fewer, more in itertools.pairwise(losses):
        assert more <= fewer * (1 + 1e-9)


def test_many_bands_reach_the_optimum_of_all_bands() -> None:
    limits = {"rounds": 300, "max_participations": 1, "min_separation": 1}
    assert loss_of(250, **limits) == pytest.approx(loss_of(300, **limits), rel=1e-3)
    assert loss_of(20, **limits) > 1.05 * loss_of(300, **limits)


@pytest.mark.parametrize(
    ("rounds", "bands", "separation"), [(2000, 400, 400), (1000, 100, 50), (40, 40, 1)]
)
def test_the_sensitivity_is_known_and_one(rounds: int, bands: int, separation: int) -> None:
    """The second case is one where the first search ends in coefficients that increase."""
    coefficients = optimal_banded_coefficients(
        rounds=rounds, bands=bands, max_participations=10, min_separation=separation
    )
    assert len(coefficients) == bands
    assert np.all(np.diff(coefficients) <= 0) and min(coefficients) >= 0
    assert np.sum(np.square(coefficients)) == pytest.approx(1, rel=1e-12)


def test_one_band_is_independent_noise() -> None:
    limits = {"rounds": 10, "max_participations": 2, "min_separation": 3}
    assert optimal_banded_coefficients(bands=1, **limits) == (1.0,)


def test_impossible_numbers_are_refused() -> None:
    limits = {"rounds": 10, "max_participations": 2, "min_separation": 3}
    with pytest.raises(InputError, match="bands=11 are more than rounds=10"):
        optimal_banded_coefficients(bands=11, **limits)
    with pytest.raises(InputError, match="bands=0 "):
        optimal_banded_coefficients(bands=0, **limits)
    with pytest.raises(InputError, match="max_participations=0 "):
        optimal_banded_coefficients(bands=1, **{**limits, "max_participations": 0})
