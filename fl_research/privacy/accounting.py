"""From releases to epsilon: what most callers need of the accounting, and what it means.

A noise multiplier is everywhere the standard deviation of the noise on the sum of the updates
divided by the clip norm. The parts: `composition` turns releases and a sampler into an event,
`accountants` the event into epsilons and a claim, `calibration` a target into noise or rounds.
"""

import math

import dp_accounting
from dp_accounting import dp_event

from fl_research.errors import InputError
from fl_research.privacy.accountants import claimed_epsilon, epsilon_by_accountant
from fl_research.privacy.calibration import calibrate_noise_multiplier
from fl_research.privacy.composition import (
    compose,
    relation_for,
    relation_name,
    repeated_event,
)
from fl_research.privacy.parts import releases_in, without_sampling

__all__ = [
    "best_true_positive_rate",
    "calibrate_noise_multiplier",
    "claimed_epsilon",
    "compose",
    "epsilon_by_accountant",
    "epsilon_without_amplification",
    "large_delta_warning",
    "max_odds_factor",
    "mu_gdp",
    "relation_for",
    "relation_name",
    "repeated_event",
    "zcdp_rho",
]


def epsilon_without_amplification(
    event: dp_accounting.DpEvent,
    delta: float,
    relation: dp_accounting.NeighboringRelation,
) -> float:
    """Returns the claimed epsilon of the same releases as if every unit took part in each.

    The relation and the sensitivity stay. Only accountants that apply to the releases as they were
    sampled are asked, so that the two numbers can stand side by side.

    Args:
      event: All releases, as sampled.
      delta: In (0, 1).
      relation: The neighbouring relation.

    Returns:
      Epsilon, infinite without a guarantee.

    Raises:
      InputError: If delta is out of range or the event cannot be read.
    """
    as_run = epsilon_by_accountant(event, delta, relation)
    unsampled = epsilon_by_accountant(without_sampling(event), delta, relation)
    return claimed_epsilon(
        {name: unsampled[name] for name, value in as_run.items() if value is not None}
    ).epsilon


def max_odds_factor(epsilon: float) -> float:
    """Returns e^epsilon: how much one unit's presence can change anybody's odds, but for delta."""
    return math.exp(epsilon) if epsilon < 700 else math.inf


def best_true_positive_rate(epsilon: float, delta: float, false_positive_rate: float) -> float:
    """Returns the best true positive rate of any test for one unit's presence.

    Kairouz, Oh, Viswanath 2015, "The composition theorem for differential privacy".

    Args:
      epsilon: At least 0, or infinite.
      delta: In [0, 1].
      false_positive_rate: Of the test, in [0, 1].

    Returns:
      min(1, e^epsilon * rate + delta, 1 - e^-epsilon * (1 - delta - rate)), in [0, 1].

    Raises:
      InputError: If an argument is out of range.
    """
    for name, value, most in (
        ("epsilon", epsilon, math.inf),
        ("delta", delta, 1.0),
        ("false_positive_rate", false_positive_rate, 1.0),
    ):
        if not 0 <= value <= most:
            raise InputError(f"{name}={value} is out of range; give a number from 0 to {most}")
    rising = max_odds_factor(epsilon) * false_positive_rate if false_positive_rate else 0.0
    falling = 1.0 - math.exp(-epsilon) * (1.0 - delta - false_positive_rate)
    return min(1.0, rising + delta, falling)


def zcdp_rho(event: dp_accounting.DpEvent) -> float:
    """Returns rho of zero-concentrated DP as if every unit took part in each release.

    A Gaussian has 1 / (2 multiplier^2); Laplace noise, as every pure epsilon, epsilon^2 / 2 with an
    epsilon of 1 / multiplier. They add up; sampling does not lower them. Bun and Steinke 2016,
    "Concentrated differential privacy", propositions 1.4 and 1.6.

    Args:
      event: All releases; multipliers relative to the sensitivity.

    Returns:
      Rho, infinite without a guarantee.
    """
    return math.fsum(
        count * 0.5 / leaf.noise_multiplier**2
        if isinstance(leaf, dp_event.GaussianDpEvent | dp_event.LaplaceDpEvent)
        else math.inf
        for leaf, count in releases_in(without_sampling(event))
    )


def mu_gdp(event: dp_accounting.DpEvent) -> float | None:
    """Returns mu of Gaussian DP where it says exactly what the releases cost.

    Telling apart with and without a unit is then just as hard as telling N(0, 1) from N(mu, 1).
    Gaussians without sampling compose to such a pair: mu^2 is the sum of 1 / multiplier^2. Dong,
    Roth, Su 2022, "Gaussian differential privacy", corollary 3.3.

    Args:
      event: All releases, as sampled; multipliers relative to the sensitivity.

    Returns:
      Mu; None where any release is sampled, not Gaussian, or has no noise.
    """
    parts = releases_in(event)
    if not all(isinstance(leaf, dp_event.GaussianDpEvent) for leaf, _ in parts):
        return None
    return math.sqrt(math.fsum(count / leaf.noise_multiplier**2 for leaf, count in parts))


def large_delta_warning(delta: float, clients: int, units: str = "clients") -> str | None:
    """Returns what is wrong with a delta of one over the number of units or more.

    Args:
      delta: In (0, 1).
      clients: How many units the guarantee is for, clients or records.
      units: What they are, in words.

    Returns:
      A sentence without its full stop; None where delta is small enough.
    """
    if delta < 1 / clients:
        return None
    return (
        f"delta={delta:g} is not below 1 / {clients:,}, one over the number of {units}: it allows "
        "a mechanism that publishes somebody's data; take a smaller delta"
    )
