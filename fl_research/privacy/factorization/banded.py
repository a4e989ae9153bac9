"""The banded Toeplitz strategy with the smallest mean prefix error at equal privacy.

C is lower-triangular Toeplitz with `bands` coefficients; the noise of a round then needs the noise
of the last bands - 1 rounds. The coefficients minimise `prefix_loss` by L-BFGS-B, from the square
root of A cut off at the last band. Their sensitivity is known when they neither fall below zero nor
increase. Where the first search, among coefficients from 0 to c_0, ends in some that increase, as
it does with many more bands than the separation, a second one makes them of steps d_j >= 0:
c_j = d_j + d_(j+1) + ... The searches are local. The loss does not depend on the scale, which is
chosen at the end.

Choquette-Choo, Ganesh, McKenna, McMahan, Rush, Thakurta, Xu 2023, (Amplified) Banded Matrix
Factorization: A unified approach to private training; McMahan, Xu, Zhang 2024, A Hassle-free
Algorithm for Strong Differential Privacy in Federated Learning Systems.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize

from fl_research.argument_checks import require_at_least
from fl_research.errors import InputError
from fl_research.privacy.factorization.participations import most_participations
from fl_research.privacy.factorization.prefix_loss import log_loss_and_gradient
from fl_research.privacy.factorization.toeplitz import (
    INDEPENDENT_NOISE,
    inverse_coefficients,
    square_root_coefficients,
)

Bound = tuple[float, float | None]
LossAndGradient = Callable[[np.ndarray], tuple[float, np.ndarray]]

_SETTINGS = {"maxiter": 1000, "maxfun": 2000, "maxcor": 30, "ftol": 1e-15, "gtol": 1e-9}


@functools.lru_cache(maxsize=64)
def optimal_banded_coefficients(
    *, rounds: int, bands: int, max_participations: int | None, min_separation: int
) -> tuple[float, ...]:
    """Returns c_0, ..., c_(bands-1) of the best banded Toeplitz strategy.

    Bands beyond `min_separation` are possible; they let the columns of one client overlap.

    Args:
      rounds: Rounds of the run, 1 or more.
      bands: Number of coefficients, from 1 to `rounds`; 1 is independent noise.
      max_participations: Most rounds with one client, 1 or more; None for no limit.
      min_separation: Rounds from one participation to the next, 1 or more.

    Returns:
      Coefficients that are not negative and do not increase, with squares that sum to 1: one
      participation has sensitivity 1.

    Raises:
      InputError: A number is out of range.
    """
    participations = most_participations(
        rounds=rounds, min_separation=min_separation, max_participations=max_participations
    )
    require_at_least("bands", bands, 1)
    if bands > rounds:
        raise InputError(f"bands={bands} are more than rounds={rounds}; give at most the rounds")
    if bands == 1:
        return INDEPENDENT_NOISE

    def loss_and_gradient(column: np.ndarray) -> tuple[float, np.ndarray]:
        return log_loss_and_gradient(
            column,
            inverse_coefficients(column, rounds),
            participations=participations,
            min_separation=min_separation,
        )

    column = _best_below_one(loss_and_gradient, bands)
    if not np.all(np.diff(column) <= 0):
        column = _best_not_increasing(loss_and_gradient, column)
    return tuple((column / np.linalg.norm(column)).tolist())


def _best_below_one(loss_and_gradient: LossAndGradient, bands: int) -> np.ndarray:
    """The best c_0 = 1 and c_j from 0 to 1; they may increase, which takes few iterations."""

    def of_later_coefficients(later: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = loss_and_gradient(np.append(1.0, later))
        return loss, gradient[1:]

    start = np.array(square_root_coefficients(bands))[1:]
    return np.append(1.0, _minimum(of_later_coefficients, start, [(0.0, 1.0)] * len(start)))


def _best_not_increasing(loss_and_gradient: LossAndGradient, free: np.ndarray) -> np.ndarray:
    """The best coefficients found that do not increase, as sums of steps of 0 or more.

    The search starts from the running minimum of `free`, coefficients that may increase.
    """
    bands = len(free)
    root = np.array(square_root_coefficients(bands))
    start = np.minimum.accumulate(free) if np.all(np.isfinite(free)) else root

    def of_steps(steps: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = loss_and_gradient(np.cumsum(steps[::-1])[::-1])
        return loss, np.cumsum(gradient)

    # The scale is free; the first bound keeps c_0 above zero.
    bounds = [(1e-6, None), *[(0.0, None)] * (bands - 1)]
    found = np.cumsum(_minimum(of_steps, -np.diff([*start, 0.0]), bounds)[::-1])[::-1]
    # A local search may miss these two.
    candidates = [found, root, np.eye(bands)[0]]
    return min(candidates, key=lambda column: loss_and_gradient(column)[0])


def _minimum(
    loss_and_gradient: LossAndGradient, start: np.ndarray, bounds: Sequence[Bound]
) -> np.ndarray:
    """The place of the smallest loss that L-BFGS-B finds, all within bounds."""
    return optimize.minimize(
        loss_and_gradient,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options=_SETTINGS,
    ).x
