"""A lower bound of epsilon from many runs with and without one client.

A mechanism with (epsilon, delta) gives every event E, on every two neighbouring inputs,
P_in(E) <= exp(epsilon) P_out(E) + delta, with "in" and "out" in either place and E or its
complement. So an event that is much more probable on one input refutes a small epsilon:

1. Half of the runs chooses the event: "the statistic is at least a threshold" or "at most", with
   the threshold that would give the highest bound on this half.
2. The other half, which had no say in it, counts how often the event happens on each input.
3. Clopper-Pearson bounds of both rates give the bound. Each rate may be wrong with half of the
   allowed probability. With both bounds right, the event and its complement both give a right
   bound of epsilon, so the larger of the two needs no further correction.

The bound assumes that runs are independent and that "in" and "out" are neighbours; it assumes
nothing of the mechanism.

Jagielski, Ullman, Oprea 2020, Auditing Differentially Private Machine Learning (arXiv:2006.07709);
Nasr, Hayes, Steinke et al. 2023, Tight Auditing of Differentially Private Machine Learning.
"""

import dataclasses

import numpy as np

from fl_research.argument_checks import require_at_least
from fl_research.audit.binomial_bounds import error_of, lower_bound, upper_bound
from fl_research.audit.gaussian_epsilon import require_delta
from fl_research.errors import InputError

_RANKS = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepeatedRunsAudit:
    """What many runs on two neighbouring inputs say of epsilon.

    Attributes:
      epsilon_lower: Lower bound of epsilon at `delta`, 0 or more; 0 says nothing.
      delta: In (0, 1).
      confidence: Least probability, over the runs, that the bound holds.
      threshold: Of the statistic; chosen on the first half of the runs.
      above: Whether the event is "at least the threshold"; else "at most the threshold".
      choosing_in: Runs with the client that chose the event.
      choosing_out: Runs without the client that chose the event.
      counted_in: Runs with the client that were counted.
      counted_out: Runs without the client that were counted.
      true_positives: Counted runs with the client in which the event happened.
      false_positives: Counted runs without the client in which the event happened.
      true_positive_rate_lower: Lower bound of the probability of the event with the client.
      false_positive_rate_upper: Upper bound of the probability of the event without the client.
      by_complement: Whether the complement of the event gave the higher bound.
      largest_possible: What these numbers of runs could have shown at most.
    """

    epsilon_lower: float
    delta: float
    confidence: float
    threshold: float
    above: bool
    choosing_in: int
    choosing_out: int
    counted_in: int
    counted_out: int
    true_positives: int
    false_positives: int
    true_positive_rate_lower: float
    false_positive_rate_upper: float
    by_complement: bool
    largest_possible: float


def audit_repeated_runs(
    in_statistics: np.ndarray,
    out_statistics: np.ndarray,
    *,
    delta: float,
    confidence: float = 0.95,
) -> RepeatedRunsAudit:
    """Bounds epsilon from below.

    The first half of each array, in the order given, chooses the event; the rest is counted.

    Args:
      in_statistics: float[n], one number a run with the client, n of 4 or more; finite.
      out_statistics: float[m], one number a run without the client, m of 4 or more; finite.
      delta: In (0, 1).
      confidence: Least probability that the bound holds, in (0, 1).

    Raises:
      InputError: An argument is out of its range.
    """
    require_delta(delta)
    error = error_of(confidence)
    ins = _checked_statistics("in_statistics", in_statistics)
    outs = _checked_statistics("out_statistics", out_statistics)
    half_in, half_out = len(ins) // 2, len(outs) // 2
    threshold, above = _chosen_event(ins[:half_in], outs[:half_out], delta, error)
    sign = 1.0 if above else -1.0
    trials = len(ins) - half_in, len(outs) - half_out
    counts = (
        int(np.sum(sign * ins[half_in:] >= sign * threshold)),
        int(np.sum(sign * outs[half_out:] >= sign * threshold)),
    )
    tpr = float(lower_bound(counts[0], trials[0], error / 2))
    fpr = float(upper_bound(counts[1], trials[1], error / 2))
    direct, complement = (float(x) for x in _epsilons(np.array(tpr), np.array(fpr), delta))
    return RepeatedRunsAudit(
        epsilon_lower=max(direct, complement, 0.0),
        delta=float(delta),
        confidence=float(confidence),
        threshold=threshold,
        above=above,
        choosing_in=half_in,
        choosing_out=half_out,
        counted_in=trials[0],
        counted_out=trials[1],
        true_positives=counts[0],
        false_positives=counts[1],
        true_positive_rate_lower=tpr,
        false_positive_rate_upper=fpr,
        by_complement=complement > max(direct, 0.0),
        largest_possible=_largest_epsilon(*trials, error, delta),
    )


def detectable_epsilon(runs: int, confidence: float, delta: float) -> float:
    """Returns the largest epsilon that `audit_repeated_runs` can ever show with so many runs.

    It is what perfect separation of all runs would give.

    Args:
      runs: Runs with the client, and as many without it; 4 or more.
      confidence: Least probability that the bound holds, in (0, 1).
      delta: In (0, 1).

    Returns:
      Epsilon, 0 or more.

    Raises:
      InputError: An argument is out of its range.
    """
    require_at_least("runs", runs, 4)
    require_delta(delta)
    counted = runs - runs // 2
    return _largest_epsilon(counted, counted, error_of(confidence), delta)


def _largest_epsilon(counted_in: int, counted_out: int, error: float, delta: float) -> float:
    """Epsilon from an event that always happens with the client and never without it."""
    tpr = lower_bound(counted_in, counted_in, error / 2)
    fpr = upper_bound(0, counted_out, error / 2)
    return float(np.maximum(np.maximum(*_epsilons(tpr, fpr, delta)), 0.0))


def _epsilons(tpr: np.ndarray, fpr: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """Epsilon by the event and by its complement; minus infinity where delta explains it."""
    with np.errstate(divide="ignore"):
        direct = np.log(np.maximum(tpr - delta, 0)) - np.log(fpr)
        complement = np.log(np.maximum(1 - fpr - delta, 0)) - np.log1p(-tpr)
    return direct, complement


def _chosen_event(
    ins: np.ndarray, outs: np.ndarray, delta: float, error: float
) -> tuple[float, bool]:
    """The threshold and the side that would give the highest bound on these runs."""
    best = (-np.inf, 0.0, True)
    for above in (True, False):
        # "At most a threshold" is "at least" for the negated statistic.
        sign = 1.0 if above else -1.0
        sorted_in, sorted_out = np.sort(sign * ins), np.sort(sign * outs)
        thresholds = _candidates(sorted_in, sorted_out)
        hits_in = len(ins) - np.searchsorted(sorted_in, thresholds)
        hits_out = len(outs) - np.searchsorted(sorted_out, thresholds)
        tpr = lower_bound(hits_in, len(ins), error / 2)
        fpr = upper_bound(hits_out, len(outs), error / 2)
        scores = np.maximum(*_epsilons(tpr, fpr, delta))
        winner = int(np.argmax(scores))
        if scores[winner] > best[0]:
            best = (float(scores[winner]), sign * float(thresholds[winner]), above)
    return best[1], best[2]


def _candidates(sorted_in: np.ndarray, sorted_out: np.ndarray) -> np.ndarray:
    """Thresholds midway below some of the runs, most of them in the four tails."""
    pooled = np.unique(np.concatenate([sorted_in, sorted_out]))
    chosen = []
    for values in (sorted_in, sorted_out):
        last = len(values) - 1
        ranks = np.unique(np.geomspace(1, len(values), _RANKS).astype(int)) - 1
        chosen += [values[ranks], values[last - ranks]]
    places = np.unique(np.searchsorted(pooled, np.concatenate(chosen)))
    # Also the next higher value, so that a gap above the highest chosen run is tried.
    places = np.unique(np.minimum(np.concatenate([places, places + 1]), len(pooled) - 1))
    below = pooled[np.maximum(places - 1, 0)]
    middle = below + (pooled[places] - below) / 2
    # Neighbouring floats have no middle: the value itself then separates them.
    return np.where(middle > below, middle, pooled[places])


def _checked_statistics(name: str, statistics: np.ndarray) -> np.ndarray:
    """Returns the runs' numbers as float64."""
    statistics = np.asarray(statistics, np.float64)
    if statistics.ndim != 1 or len(statistics) < 4:
        raise InputError(
            f"{name} has shape {list(statistics.shape)}; give one number a run, of 4 or more runs"
        )
    if not np.isfinite(statistics).all():
        raise InputError(f"{name} is not finite in {np.sum(~np.isfinite(statistics))} runs")
    return statistics
