"""Lower bounds of epsilon from the cosines of one run's canaries: by thresholds, and by a fit.

By thresholds: on a grid that was fixed before the run, count the canaries beyond each threshold.
Clopper-Pearson bounds the probability of that for a canary that took part; for one that took no
part it is known (`canaries.log_false_positive_rate`), or counted on held-out canaries, whichever is
less. P_in(E) <= exp(epsilon) P_out(E) + delta, for the event and for its complement, then bounds
epsilon. The allowed error is divided by the number of thresholds (Bonferroni), so that the best of
them may be picked after the fact.

By a fit: if the cosines are independent and normal, Student's t and the chi-square law bound their
mean and standard deviation, each with its share of the allowed error; the bound is the least
epsilon between normals over all parameters within these bounds. Epsilon grows with the distance of
the means, so that only the ratio of the standard deviations needs a search.

Both need the canaries' cosines to be as good as independent within the one run. For a Gaussian
mechanism with many more dimensions than canaries they are (Andrew et al. 2023, arXiv:2302.03098);
no test on a single run can confirm it for an arbitrary mechanism. Steinke, Nasr, Jagielski 2023,
Privacy Auditing with One (1) Training Run, do without, with a different and weaker statistic.
"""

import dataclasses

import numpy as np
from scipy import stats

from fl_research.audit.binomial_bounds import lower_bound, upper_bound
from fl_research.audit.canaries import log_false_positive_rate
from fl_research.audit.gaussian_epsilon import epsilons_between_normals

# In standard deviations of the cosine of a canary that took no part, 1 / sqrt(dimension).
THRESHOLD_GRID = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0)

_POINTS = 41
_PASSES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThresholdBound:
    """The best bound over the grid.

    Attributes:
      epsilon_lower: Lower bound of epsilon, 0 or more.
      threshold: A cosine.
      exceeding: Canaries that took part and lie above the threshold.
      held_out_exceeding: Canaries that took no part and lie above it; None without any.
      true_positive_rate_lower: Lower bound of the probability to lie above it, taking part.
      log_false_positive_rate_upper: Log of the upper bound of the same, taking no part.
      by_complement: Whether "not above the threshold" gave the bound.
    """

    epsilon_lower: float
    threshold: float
    exceeding: int
    held_out_exceeding: int | None
    true_positive_rate_lower: float
    log_false_positive_rate_upper: float
    by_complement: bool


def threshold_bound(
    observed: np.ndarray,
    *,
    dimension: int,
    delta: float,
    error: float,
    held_out: np.ndarray | None = None,
    rounds: int = 1,
    directions: str = "sphere",
) -> ThresholdBound:
    """Bounds epsilon from below, whatever law the cosines have.

    Args:
      observed: float[k], the cosine of each canary that took part, or its largest over the rounds.
      dimension: Coordinates of the release, 2 or more.
      delta: In (0, 1).
      error: Largest allowed probability that the bound lies above epsilon, in (0, 1).
      held_out: float[h], the same of canaries that took no part.
      rounds: Releases that each number is the largest over, 1 or more.
      directions: One of `canaries.DIRECTIONS`.

    Raises:
      InputError: An argument is out of its range.
    """
    grid = np.array([score for score in THRESHOLD_GRID if score**2 < dimension])
    thresholds = grid / np.sqrt(dimension)
    share = error / len(grid)
    exceeding = np.sum(observed > thresholds[:, np.newaxis], axis=1)
    log_fpr = log_false_positive_rate(
        thresholds, dimension=dimension, directions=directions, rounds=rounds
    )
    held_out_exceeding = None
    if held_out is not None:
        share /= 2
        held_out_exceeding = np.sum(held_out > thresholds[:, np.newaxis], axis=1)
        counted = upper_bound(held_out_exceeding, len(held_out), share)
        log_fpr = np.minimum(log_fpr, np.log(counted))
    tpr = lower_bound(exceeding, len(observed), share)
    with np.errstate(divide="ignore"):
        direct = np.log(np.maximum(tpr - delta, 0)) - log_fpr
        complement = np.log(np.maximum(-np.expm1(log_fpr) - delta, 0)) - np.log1p(-tpr)
    best = int(np.argmax(np.maximum(direct, complement)))
    return ThresholdBound(
        epsilon_lower=float(max(direct[best], complement[best], 0.0)),
        threshold=float(thresholds[best]),
        exceeding=int(exceeding[best]),
        held_out_exceeding=None if held_out_exceeding is None else int(held_out_exceeding[best]),
        true_positive_rate_lower=float(tpr[best]),
        log_false_positive_rate_upper=float(log_fpr[best]),
        by_complement=bool(complement[best] > max(direct[best], 0.0)),
    )


def normal_bound(
    observed: np.ndarray,
    *,
    dimension: int,
    delta: float,
    error: float,
    held_out: np.ndarray | None = None,
) -> float:
    """Bounds epsilon from below, if the cosines are independent and normal.

    Args:
      observed: float[k], the statistic of each canary that took part, k of 2 or more, not all
        equal.
      dimension: Coordinates of the release.
      delta: In (0, 1).
      error: Largest allowed probability that the bound lies above epsilon, in (0, 1).
      held_out: float[h], the same of canaries that took no part; without them their law is taken
        to be N(0, 1/dimension).

    Returns:
      Epsilon, 0 or more; a search that ends at most about 1e-4 above the least value.
    """
    if held_out is None:
        share = error / 3
        mean = _mean_bound(observed, share)
        std = 1 / float(np.sqrt(dimension))
        null_bounds = std, std
    else:
        share = error / 6
        mean = _mean_bound(observed, share) + _mean_bound(-held_out, share)
        null_bounds = _std_bounds(held_out, share)
    return _least_epsilon(max(mean, 0.0), null_bounds, _std_bounds(observed, share), delta)


def _mean_bound(values: np.ndarray, error: float) -> float:
    """Lower bound of the mean, by Student's t."""
    spread = np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) + stats.t.ppf(error, len(values) - 1) * spread)


def _std_bounds(values: np.ndarray, error: float) -> tuple[float, float]:
    """Bounds of the standard deviation, each wrong with probability `error`, by chi-square."""
    freedom = len(values) - 1
    squares = freedom * np.var(values, ddof=1)
    low, high = squares / stats.chi2.isf(error, freedom), squares / stats.chi2.ppf(error, freedom)
    return float(np.sqrt(low)), float(np.sqrt(high))


def _least_epsilon(
    shift: float, null_bounds: tuple[float, float], bounds: tuple[float, float], delta: float
) -> float:
    """Least epsilon between N(0, std_0²) and N(shift, std_1²) over both ranges.

    Epsilon depends on the ratio of the standard deviations, and on the shift in units of them. So
    at each ratio it is least where both are as large as their ranges let them be, and only the
    ratio is searched: a grid, and finer grids around its best point.
    """
    low, high = bounds[0] / null_bounds[1], bounds[1] / null_bounds[0]
    least = np.inf
    for _ in range(_PASSES):
        ratios = np.geomspace(low, high, _POINTS)
        null_stds = np.minimum(null_bounds[1], bounds[1] / ratios)
        epsilons = epsilons_between_normals(0.0, null_stds, shift, ratios * null_stds, delta)
        place = int(np.argmin(epsilons))
        least = min(least, float(epsilons[place]))
        low, high = ratios[max(place - 1, 0)], ratios[min(place + 1, _POINTS - 1)]
    return least
