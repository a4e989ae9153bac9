"""Epsilon of releases that are each pure DP: by adding up, and by advanced composition.

A release is pure DP if no output is more than e^epsilon times likelier with a unit than without:
Laplace noise, sampled or not, and no Gaussian. Pure epsilons add up ("basic"). For a delta above
zero less is enough ("advanced"): of all mechanisms of the same epsilon, randomised response is the
easiest to tell apart, also when it is composed, so that its privacy losses, which are binomial,
bound everybody's. Where the epsilons differ, Hoeffding's inequality bounds the sum of the losses.

Kairouz, Oh, Viswanath 2015, "The composition theorem for differential privacy", theorems 3.3 and
3.5; Balle, Barthe, Gaboardi 2018, "Privacy amplification by subsampling", theorems 8 and 9.
"""

import math
from collections.abc import Callable

import dp_accounting
import numpy as np
from dp_accounting import dp_event
from scipy import special, stats

from fl_research.privacy.parts import Parts

_ROUNDING_OF_TAILS = 1e-9  # Relative; 30 times the worst measured, of a million releases.


def pure_epsilon(
    leaf: dp_accounting.DpEvent, relation: dp_accounting.NeighboringRelation
) -> float | None:
    """Returns the pure epsilon of one release.

    A sample at rate q brings epsilon down to log(1 + q (e^epsilon - 1)): Poisson sampling where a
    unit is added or removed, a sample of fixed size where one is replaced.

    Args:
      leaf: A release, from `parts.releases_in`.
      relation: As the library accounts it, see `accountants.accounted_relation`.

    Returns:
      Infinite for a non-private release; None for one that is not pure DP, or whose sampler does
      not go with the relation.
    """
    if isinstance(leaf, dp_event.NonPrivateDpEvent):
        return math.inf
    if isinstance(leaf, dp_event.LaplaceDpEvent):
        return 1 / leaf.noise_multiplier
    relations = dp_accounting.NeighboringRelation
    if isinstance(leaf, dp_event.PoissonSampledDpEvent):
        rate, fitting = leaf.sampling_probability, relations.ADD_OR_REMOVE_ONE
    elif isinstance(leaf, dp_event.SampledWithoutReplacementDpEvent):
        rate, fitting = leaf.sample_size / leaf.source_dataset_size, relations.REPLACE_ONE
    else:
        return None
    unsampled = pure_epsilon(leaf.event, relation)
    if unsampled is None or relation is not fitting:
        return None
    return _amplified(unsampled, rate)


def basic_epsilon(parts: Parts, relation: dp_accounting.NeighboringRelation) -> float | None:
    """Returns the sum of the pure epsilons; it holds at every delta, also at zero.

    Args:
      parts: Releases and their counts, from `parts.releases_in`.
      relation: As in `pure_epsilon`.

    Returns:
      Infinite without a guarantee, None where a release is not pure DP.
    """
    epsilons = _epsilons(parts, relation)
    return None if epsilons is None else _sum(epsilons, lambda epsilon: epsilon)


def advanced_epsilon(
    parts: Parts, delta: float, relation: dp_accounting.NeighboringRelation
) -> float | None:
    """Returns epsilon by advanced composition, the best possible where all epsilons are equal.

    Args:
      parts: Releases and their counts, from `parts.releases_in`.
      delta: In (0, 1).
      relation: As in `pure_epsilon`.

    Returns:
      At most the basic one; infinite without a guarantee, None where a release is not pure DP.
    """
    epsilons = _epsilons(parts, relation)
    if epsilons is None:
        return None
    basic = _sum(epsilons, lambda epsilon: epsilon)
    if not epsilons or math.isinf(basic):
        return basic
    # A release of less epsilon is also one of the largest.
    count = sum(count for _, count in epsilons)
    equal = _epsilon_of_equal_releases(max(epsilon for epsilon, _ in epsilons), count, delta)
    return min(basic, equal, _epsilon_by_hoeffding(epsilons, delta))


def _epsilons(
    parts: Parts, relation: dp_accounting.NeighboringRelation
) -> list[tuple[float, int]] | None:
    """The pure epsilon of each part and its count."""
    pairs = [(pure_epsilon(leaf, relation), count) for leaf, count in parts]
    known = [(epsilon, count) for epsilon, count in pairs if epsilon is not None]
    return known if len(known) == len(pairs) else None


def _amplified(epsilon: float, rate: float) -> float:
    """log(1 + rate (e^epsilon - 1)), for every epsilon that a number can be."""
    if rate >= 1 or math.isinf(epsilon):
        return epsilon
    if epsilon < 1:
        return math.log1p(rate * math.expm1(epsilon))
    return float(np.logaddexp(math.log1p(-rate), math.log(rate) + epsilon))


def _sum(epsilons: list[tuple[float, int]], of_one: Callable[[float], float]) -> float:
    """The sum of a function of epsilon over all releases."""
    return math.fsum(count * of_one(epsilon) for epsilon, count in epsilons)


def _epsilon_by_hoeffding(epsilons: list[tuple[float, int]], delta: float) -> float:
    """Loss that randomised response exceeds with probability delta at most.

    Each loss lies within epsilon of 0 and has the mean epsilon tanh(epsilon / 2).
    """
    mean = _sum(epsilons, lambda epsilon: epsilon * math.tanh(epsilon / 2))
    squares = _sum(epsilons, lambda epsilon: epsilon * epsilon)
    return mean + math.sqrt(2 * squares * math.log(1 / delta))


def _epsilon_of_equal_releases(epsilon: float, count: int, delta: float) -> float:
    """The exact epsilon of randomised response, `count` times.

    Its loss is (2 m - count) epsilon if m answers are true, so that

        delta(loss of m) = P[true >= m] - e^loss P[true >= m of somebody else].
    """
    likely, unlikely = special.expit(epsilon), special.expit(-epsilon)

    def tails(true: int) -> tuple[float, float]:
        """P[true answers >= true] with and without the unit, the first up, the second down."""
        with np.errstate(divide="ignore"):  # SciPy's word for a tail too thin for a number: 0.
            there, instead = stats.binom.sf(true - 1, count, [likely, unlikely])
        return float(there) * (1 + _ROUNDING_OF_TAILS), float(instead) * (1 - _ROUNDING_OF_TAILS)

    def exceeds(true: int) -> bool:
        """Whether the loss of so many true answers is not enough for delta."""
        there, instead = tails(true)
        loss = (2 * true - count) * epsilon
        return there - (math.exp(loss + math.log(instead)) if instead else 0.0) > delta

    low, high = (count - 1) // 2, count  # The loss of `low` is below zero, that of `high` enough.
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if exceeds(middle) else (low, middle)
    there, instead = tails(high)
    if there <= delta:
        return max(0.0, (2 * high - 2 - count) * epsilon)
    return max(0.0, math.log((there - delta) / instead)) if instead else math.inf
