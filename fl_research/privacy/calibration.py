"""The noise for a target epsilon, and the releases that fit into one.

Epsilon falls with the noise and rises with the number of releases. A rough bound that is quick to
compute finds the place; the claimed epsilon then decides, in a handful of evaluations.
"""

import functools
import itertools
import math
from collections.abc import Callable

import dp_accounting
from scipy import optimize

from fl_research.data.client_sampling import ClientSampling
from fl_research.errors import InputError
from fl_research.privacy.accountants import check_delta
from fl_research.privacy.accounting_rules.independent import Rule as IndependentRule
from fl_research.privacy.accounting_rules.rule import AccountingRule
from fl_research.privacy.composition import JITTER
from fl_research.privacy.rounding import rounded_up
from fl_research.privacy.worst_case import all_fit, worst_case, worst_rough_epsilon

LOWEST_NOISE_MULTIPLIER = 0.01
HIGHEST_NOISE_MULTIPLIER = 10_000.0
_DIGITS = 5
_TINY = 1e-12
_STEPS = 6

Epsilon = Callable[[float], float]


def calibrate_noise_multiplier(
    *,
    target_epsilon: float,
    delta: float,
    sampling: ClientSampling,
    rounds: int,
    rule: AccountingRule | None = None,
) -> float:
    """Returns the least noise with which all rounds stay within the target.

    Args:
      target_epsilon: The claimed epsilon not to pass, above 0.
      delta: In (0, 1).
      sampling: The sampler of all cohorts.
      rounds: Releases, at least 1.
      rule: How they add up; fresh Gaussian noise in each if None.

    Returns:
      The standard deviation of the noise on the sum over the clip norm, rounded up to 5 digits. It
      leaves room for the rounding of noise and clip to float32.

    Raises:
      InputError: If an argument is out of range, or no noise multiplier between
        `LOWEST_NOISE_MULTIPLIER` and `HIGHEST_NOISE_MULTIPLIER` meets the target; the message says
        what is possible.
    """
    _check_target(target_epsilon)
    check_delta(delta)
    if rounds < 1:
        raise InputError(f"rounds={rounds} releases nothing; give 1 or more")
    rule = rule or IndependentRule()
    rule.require_sampling(sampling)
    relation, _ = rule.relation(sampling)

    def events(multiplier: float) -> list[dp_accounting.DpEvent]:
        """All rounds, with a little less noise than asked for."""
        event = rule.release_event(multiplier * (1 - JITTER))
        return rule.planned_events(event, rounds, sampling)

    def claimed(multiplier: float) -> float:
        """The epsilon that a report would state."""
        return worst_case(events(multiplier), delta, relation).claim.epsilon

    def rough(multiplier: float) -> float:
        """A bound on it that is quick to compute."""
        return worst_rough_epsilon(events(multiplier), delta, relation)

    _check_feasible(target_epsilon, claimed)
    quick = rough if rough(HIGHEST_NOISE_MULTIPLIER) < target_epsilon else claimed
    return _least_multiplier(quick, claimed, target_epsilon)


def max_releases(
    *,
    noise_multiplier: float,
    target_epsilon: float,
    delta: float,
    sampling: ClientSampling,
    limit: int,
    rule: AccountingRule | None = None,
) -> int:
    """Returns how many releases fit into the target.

    Args:
      noise_multiplier: Standard deviation of the noise on the sum over the clip norm.
      target_epsilon: The claimed epsilon not to pass, above 0.
      delta: In (0, 1).
      sampling: The sampler of all cohorts.
      limit: The count to stop at.
      rule: How releases add up; fresh Gaussian noise in each if None.

    Returns:
      A count in [0, limit].

    Raises:
      InputError: If an argument is out of range.
    """
    _check_target(target_epsilon)
    check_delta(delta)
    rule = rule or IndependentRule()
    rule.require_sampling(sampling)
    release = rule.release_event(noise_multiplier)
    relation, _ = rule.relation(sampling)

    def fit(count: int) -> bool:
        """Whether the claimed epsilon of so many releases is within the target."""
        events = rule.planned_events(release, count, sampling)
        return all_fit(events, delta, relation, target_epsilon)

    def rough_fit(count: int) -> bool:
        """Whether a bound on it is."""
        events = rule.planned_events(release, count, sampling)
        return worst_rough_epsilon(events, delta, relation) <= target_epsilon

    # Bisection on the rough bound, then steps of the claimed epsilon above what it allows.
    low = _last_that_fits(rough_fit, 0, limit + 1)
    step = 1
    while low < limit and fit(high := min(limit, low + step)):
        low, step = high, 2 * step
    return _last_that_fits(fit, low, min(limit + 1, low + step))


def _last_that_fits(fit: Callable[[int], bool], low: int, high: int) -> int:
    """Bisects; `low` fits and `high` is known or taken not to."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fit(middle) else (low, middle)
    return low


def _check_target(target_epsilon: float) -> None:
    """Raises InputError unless the target is a positive number."""
    if not (math.isfinite(target_epsilon) and target_epsilon > 0):
        raise InputError(f"target_epsilon={target_epsilon} cannot be met; give a number above 0")


def _check_feasible(target_epsilon: float, claimed: Epsilon) -> None:
    """Raises InputError if the target is met by no noise within the limits, or by almost none."""
    least = claimed(HIGHEST_NOISE_MULTIPLIER)
    if least > target_epsilon:
        raise InputError(
            f"target_epsilon={target_epsilon} is out of reach: even the noise multiplier "
            f"{HIGHEST_NOISE_MULTIPLIER:g} gives {rounded_up(least)}; ask for at least that, or "
            "take fewer rounds, smaller cohorts or a larger delta"
        )
    most = claimed(LOWEST_NOISE_MULTIPLIER)
    if most <= target_epsilon:
        raise InputError(
            f"target_epsilon={target_epsilon} asks for no protection: the noise multiplier "
            f"{LOWEST_NOISE_MULTIPLIER:g} already gives {rounded_up(most)}; ask for less than that"
        )


def _least_multiplier(quick: Epsilon, claimed: Epsilon, target_epsilon: float) -> float:
    """Solves on logarithmic scales, where epsilon is nearly a straight line of the multiplier."""

    def gap(epsilon: Epsilon, log_multiplier: float) -> float:
        """Positive where the noise is too small."""
        return math.log(max(epsilon(math.exp(log_multiplier)), _TINY) / target_epsilon)

    x = optimize.brentq(
        functools.partial(gap, quick),
        math.log(LOWEST_NOISE_MULTIPLIER),
        math.log(HIGHEST_NOISE_MULTIPLIER),
        xtol=1e-4,
    )
    slope = (gap(quick, x + 1e-2) - gap(quick, x - 1e-2)) / 2e-2
    previous = gap(claimed, x)
    for _ in range(_STEPS):
        if abs(previous) < 1e-6 or slope >= 0:
            break
        step = -previous / slope
        x += step
        value = gap(claimed, x)
        previous, slope = value, (value - previous) / step
    return _round_up(math.exp(x), claimed, target_epsilon)


def _round_up(multiplier: float, epsilon: Epsilon, target_epsilon: float) -> float:
    """The first number of `_DIGITS` digits, from the multiplier upwards, that keeps the target."""
    unit = 10.0 ** (math.floor(math.log10(multiplier)) + 1 - _DIGITS)
    for steps in itertools.count(math.ceil(multiplier * (1 - 1e-6) / unit)):
        rounded = float(f"{steps * unit:.{_DIGITS}g}")
        if epsilon(rounded) <= target_epsilon:
            return rounded
    raise AssertionError("more noise never costs more")
