"""Epsilon at a given delta between two normal distributions of any means and variances.

The pair (P, Q) satisfies epsilon at delta when the hockey-stick divergence
max over events A of P(A) - exp(epsilon) Q(A) is at most delta, and likewise with P and Q swapped.
The best A is where the log of the ratio of the densities exceeds epsilon. For two normal
distributions that log is a quadratic, so A lies between its two roots or outside of them, and both
probabilities come from the normal distribution function, here in logarithms. The divergence falls
as epsilon grows; bisection finds where it meets delta.

Balle and Wang 2018, Improving the Gaussian Mechanism for Differential Privacy (arXiv:1805.06530),
for equal variances; Andrew et al. 2023, One-shot Empirical Privacy Estimation for Federated
Learning (arXiv:2302.03098), for two variances.
"""

import numpy as np
from scipy import special

from fl_research.argument_checks import is_finite_number, require_positive
from fl_research.errors import InputError

_DOUBLINGS = 1000
_HALVINGS = 48


def epsilon_between_normals(
    mean_0: float, std_0: float, mean_1: float, std_1: float, delta: float
) -> float:
    """Returns the least epsilon at delta between N(mean_0, std_0²) and N(mean_1, std_1²).

    It is symmetric in the two: the larger of the two one-sided values.

    Args:
      mean_0: Mean of the first.
      std_0: Standard deviation of the first, above 0.
      mean_1: Mean of the second, in the same unit.
      std_1: Standard deviation of the second, above 0.
      delta: In (0, 1).

    Returns:
      Epsilon, 0 or more, to about 12 digits.

    Raises:
      InputError: An argument is out of its range.
    """
    for name, mean in (("mean_0", mean_0), ("mean_1", mean_1)):
        if not is_finite_number(mean):
            raise InputError(f"{name}={mean!r} is not possible; give a finite number")
    require_positive("std_0", std_0)
    require_positive("std_1", std_1)
    require_delta(delta)
    return float(epsilons_between_normals(mean_0, std_0, mean_1, std_1, delta))


def epsilons_between_normals(
    mean_0: np.ndarray | float,
    std_0: np.ndarray | float,
    mean_1: np.ndarray | float,
    std_1: np.ndarray | float,
    delta: float,
) -> np.ndarray:
    """Returns `epsilon_between_normals` for arrays that broadcast, float64; checks no argument."""
    mean_0, std_0, mean_1, std_1 = np.broadcast_arrays(
        *(np.asarray(x, np.float64) for x in (mean_0, std_0, mean_1, std_1))
    )
    difference = np.abs(mean_1 - mean_0)
    # Each direction in the unit of the distribution that the event is compared with.
    shifts = np.stack([difference / std_0, difference / std_1])
    ratios = np.stack([std_1 / std_0, std_0 / std_1])
    return _one_sided(shifts, ratios, float(delta)).max(axis=0)


def log_divergence(epsilon: np.ndarray, shift: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Returns the log of the hockey-stick divergence of N(shift, ratio²) from N(0, 1).

    Args:
      epsilon: 0 or more.
      shift: Difference of the means, in standard deviations of the second.
      ratio: Standard deviation of the first in that of the second, above 0.

    Returns:
      log max over A of P(A) - exp(epsilon) Q(A), minus infinity where that is zero; broadcast.
    """
    epsilon, shift, ratio = np.broadcast_arrays(epsilon, shift, ratio)
    # With x = shift + ratio u, the log of the densities' ratio is bend u² + slope u + level.
    bend = (ratio - 1) * (ratio + 1) / 2
    slope = shift * ratio
    level = shift**2 / 2 - np.log(ratio) - epsilon
    discriminant = shift**2 + 4 * bend * (np.log(ratio) + epsilon)
    with np.errstate(divide="ignore", invalid="ignore"):
        # The form of the roots that does not cancel; equal variances give one root at infinity.
        half = -(slope + np.copysign(np.sqrt(np.maximum(discriminant, 0)), slope)) / 2
        first = half / bend
        second = np.where(half == 0, first, level / half)
        low, high = np.minimum(first, second), np.maximum(first, second)
        log_p = _log_probability(low, high, bend >= 0)
        log_q = _log_probability(shift + ratio * low, shift + ratio * high, bend >= 0)
        log_ratio = epsilon + log_q - log_p
        result = np.where(log_ratio < 0, log_p + np.log(-np.expm1(log_ratio)), -np.inf)
    # Without roots a quadratic that opens downwards is nowhere positive. Not a number: P is Q.
    empty = (discriminant < 0) | np.isnan(result)
    return np.where(empty, -np.inf, result)


def require_delta(delta: float) -> None:
    """Raises InputError unless 0 < delta < 1."""
    if not is_finite_number(delta) or not 0 < delta < 1:
        raise InputError(f"delta={delta!r} is not possible; give a number between 0 and 1")


def _one_sided(shift: np.ndarray, ratio: np.ndarray, delta: float) -> np.ndarray:
    """Least epsilon at which N(shift, ratio²) diverges from N(0, 1) by at most delta."""
    log_delta = np.log(delta)
    high = np.ones_like(shift)
    for _ in range(_DOUBLINGS):
        above = log_divergence(high, shift, ratio) > log_delta
        if not above.any():
            break
        high = np.where(above, 2 * high, high)
    low = np.where(high > 1, high / 2, 0.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = log_divergence(middle, shift, ratio) > log_delta
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    at_zero = log_divergence(np.zeros_like(shift), shift, ratio) <= log_delta
    return np.where(at_zero, 0.0, (low + high) / 2)


def _log_probability(low: np.ndarray, high: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Log of a standard normal's probability outside of [low, high], or inside of it."""
    tails = np.logaddexp(special.log_ndtr(low), special.log_ndtr(-high))
    # Inside: on the side of the mean where the distribution function is small.
    flip = low + high > 0
    near, far = np.where(flip, -low, high), np.where(flip, -high, low)
    log_near = special.log_ndtr(near)
    inside = log_near + np.log(-np.expm1(special.log_ndtr(far) - log_near))
    return np.where(outside, tails, inside)
