"""Epsilon estimated within one training run, from canary clients with random directions.

1. k canaries, clients whose update is a random direction of the clip's length, take part in the
   run like any other client.
2. Each canary's statistic is the cosine between its direction and what is released: the final
   model minus the initial one, or, for an observer of all rounds, the largest over the rounds'
   updates.
3. A canary that took no part has a cosine with the law N(0, 1/d), or, for the largest over rounds,
   the law that held-out canaries show. The point estimate is epsilon between that normal law and
   one fitted to the canaries that took part.
4. The paper gives no confidence bound. Two are added (`one_shot_bounds`): one by thresholds and
   one by the fit.

The point estimate is biased upwards at small epsilon: by chance the fitted variance differs from
the null's, and at a small delta that costs privacy in the far tail. It is no bound. It describes
this canary and this observer; neither it nor a lower bound shows that the mechanism is private.

Canaries also hide each other: to each the k - 1 others are noise of variance (k - 1)/d. Where that
is not small against the variance of the mechanism's own noise, in units of a canary's length, the
estimate and the bounds come out too low. So k belongs well below d times that variance.

Andrew, Kairouz, Oh, Oprea, McMahan, Suriyakumar 2023, One-shot Empirical Privacy Estimation for
Federated Learning (arXiv:2302.03098).
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from fl_research.argument_checks import require_at_least
from fl_research.audit.binomial_bounds import error_of
from fl_research.audit.gaussian_epsilon import epsilon_between_normals, require_delta
from fl_research.audit.one_shot_bounds import ThresholdBound, normal_bound, threshold_bound
from fl_research.errors import InputError

# Numbers of a chunk of canaries that are held as float64 at a time: 64 MB.
_NUMBERS_AT_ONCE = 8_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneShotEstimate:
    """What one run's canaries say of epsilon.

    The headline bound is `epsilon_lower`, by thresholds: it needs no law for the canaries that took
    part, and the law of the others is known whatever the mechanism did. `epsilon_lower_if_normal`
    rests on the normal law far beyond the k points that were seen; canaries that take part in
    unequal numbers of rounds, for one, are a mixture, whose fitted variance would be read as a loss
    of privacy. It is no ground for an alarm.

    Attributes:
      canaries: How many took part.
      held_out: How many took no part and were measured; 0 without any.
      dimension: Coordinates of the release.
      rounds: Releases that the statistic is the largest over.
      directions: One of `canaries.DIRECTIONS`.
      delta: In (0, 1).
      confidence: Least probability of each bound to hold, by itself, under its assumption.
      mean: Of the observed statistics.
      std: Their standard deviation.
      null_mean: Mean of the law taken for a canary that took no part.
      null_std: Its standard deviation.
      epsilon: Point estimate; no bound.
      epsilon_lower: Lower bound of epsilon by thresholds, if the canaries' statistics are
        independent.
      epsilon_lower_if_normal: Lower bound by the fit, if they are independent and normal.
      threshold: The counts behind `epsilon_lower`.
      bounded_by: How `epsilon_lower` was made and what it assumes, in words.
    """

    canaries: int
    held_out: int
    dimension: int
    rounds: int
    directions: str
    delta: float
    confidence: float
    mean: float
    std: float
    null_mean: float
    null_std: float
    epsilon: float
    epsilon_lower: float
    epsilon_lower_if_normal: float
    threshold: ThresholdBound
    bounded_by: str


def cosines(released: np.ndarray, canaries: np.ndarray | Iterable[np.ndarray]) -> np.ndarray:
    """Returns the cosine of each canary with the released vector.

    Works on some rows at a time, in float64.

    Args:
      released: float[d], not all zero, finite.
      canaries: float[k, d] of any lengths above 0, or chunks of it, float[some, d], in order.

    Returns:
      float64[k] in [-1, 1].

    Raises:
      InputError: A shape does not fit, or a vector is zero or not finite.
    """
    released = np.asarray(released, np.float64)
    if released.ndim != 1:
        raise InputError(f"released has shape {list(released.shape)}; give one vector")
    length = np.linalg.norm(released)
    if not 0 < length < np.inf:
        raise InputError(
            f"released has the length {length}; an audit needs a finite vector that is not zero"
        )
    parts = [_cosines_of_rows(released / length, rows) for rows in _row_groups(canaries, released)]
    return np.concatenate(parts) if parts else np.zeros(0)


def one_shot_estimate(
    observed: np.ndarray,
    *,
    dimension: int,
    delta: float,
    held_out: np.ndarray | None = None,
    rounds: int = 1,
    directions: str = "sphere",
    confidence: float = 0.95,
) -> OneShotEstimate:
    """Estimates epsilon and bounds it from below.

    Args:
      observed: float[k], k of 2 or more: the cosine of each canary that took part, or its largest
        over the rounds.
      dimension: Coordinates of the release, 2 or more.
      delta: In (0, 1).
      held_out: float[h], h of 2 or more: the same statistic of canaries that took no part. Needed
        where `rounds` is above 1; for one round the known law serves.
      rounds: Releases that each number is the largest over, 1 or more.
      directions: How the canaries were drawn, one of `canaries.DIRECTIONS`.
      confidence: Of each of the two lower bounds, in (0, 1).

    Raises:
      InputError: An argument is out of its range, or held-out canaries are missing.
    """
    require_at_least("dimension", dimension, 2)
    require_at_least("rounds", rounds, 1)
    require_delta(delta)
    error = error_of(confidence)
    observed = _checked_statistics("observed", observed)
    if held_out is not None:
        held_out = _checked_statistics("held_out", held_out)
    null_mean, null_std = _null_moments(held_out, dimension, rounds)
    mean, std = _moments(observed)
    by_threshold = threshold_bound(
        observed,
        dimension=dimension,
        delta=delta,
        error=error,
        held_out=held_out,
        rounds=rounds,
        directions=directions,
    )
    return OneShotEstimate(
        canaries=len(observed),
        held_out=0 if held_out is None else len(held_out),
        dimension=dimension,
        rounds=rounds,
        directions=directions,
        delta=float(delta),
        confidence=float(confidence),
        mean=mean,
        std=std,
        null_mean=null_mean,
        null_std=null_std,
        epsilon=epsilon_between_normals(null_mean, null_std, mean, std, delta),
        epsilon_lower=by_threshold.epsilon_lower,
        epsilon_lower_if_normal=normal_bound(
            observed, dimension=dimension, delta=delta, error=error, held_out=held_out
        ),
        threshold=by_threshold,
        bounded_by=_bound_in_words(rounds, directions, held_out is not None),
    )


def _null_moments(held_out: np.ndarray | None, dimension: int, rounds: int) -> tuple[float, float]:
    """Mean and standard deviation of the law taken for a canary that took no part."""
    if held_out is not None:
        return _moments(held_out)
    if rounds > 1:
        raise InputError(
            f"rounds={rounds} needs held_out: the largest cosine over rounds has no known law; "
            "measure canaries that took no part"
        )
    return 0.0, 1 / float(np.sqrt(dimension))


def _moments(statistics: np.ndarray) -> tuple[float, float]:
    """Mean and sample standard deviation."""
    return float(np.mean(statistics)), float(np.std(statistics, ddof=1))


def _bound_in_words(rounds: int, directions: str, has_held_out: bool) -> str:
    """How the headline bound was made, and what it assumes."""
    null = (
        "the exact law of a random direction"
        if directions == "sphere"
        else "a bound that holds for random signs whatever the release"
    )
    if rounds > 1:
        null += f", times {rounds} rounds (union bound)"
    if has_held_out:
        null += ", or the count of held-out canaries where that is less"
    return (
        "Clopper-Pearson bound of the share of canaries beyond the best of a fixed grid of "
        f"thresholds, Bonferroni over the grid; false positives by {null}. Assumes that the "
        "canaries' cosines are independent within the run; assumes no normal law."
    )


def _row_groups(
    canaries: np.ndarray | Iterable[np.ndarray], released: np.ndarray
) -> Iterator[np.ndarray]:
    """Yields float64 matrices of a few canaries each."""
    chunks = [canaries] if isinstance(canaries, np.ndarray) else canaries
    at_once = max(1, _NUMBERS_AT_ONCE // len(released))
    for chunk in chunks:
        if np.ndim(chunk) != 2 or np.shape(chunk)[1] != len(released):
            raise InputError(
                f"canaries has a chunk of shape {list(np.shape(chunk))}; give rows of "
                f"{len(released)} numbers, as many as released has"
            )
        for start in range(0, len(chunk), at_once):
            yield np.asarray(chunk[start : start + at_once], np.float64)


def _cosines_of_rows(unit: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Cosines of some rows with a unit vector."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    if not np.all((lengths > 0) & np.isfinite(lengths)):
        raise InputError("canaries has a row that is zero or not finite; give unit directions")
    return np.clip(rows @ unit / lengths, -1.0, 1.0)


def _checked_statistics(name: str, statistics: np.ndarray) -> np.ndarray:
    """Returns the canaries' numbers as float64."""
    statistics = np.asarray(statistics, np.float64)
    if statistics.ndim != 1 or len(statistics) < 2:
        raise InputError(
            f"{name} has shape {list(statistics.shape)}; give one cosine a canary, of 2 or more"
        )
    if not np.all(np.abs(statistics) <= 1):
        raise InputError(f"{name} has values outside of -1 to 1; give cosines")
    if np.ptp(statistics) == 0:
        raise InputError(f"{name} has {len(statistics)} equal cosines; random directions differ")
    return statistics
