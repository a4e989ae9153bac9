"""Epsilon of a person who is in several clients: what one client's guarantee is worth to k of them.

Without sampling, k clients move the sum by at most k times as far as one, so that the noise counts
for a k-th of what it does for one client; with Gaussian or Laplace noise that is exact.

Sampled releases have two bounds, of which the smaller counts:

* Poisson sampling as one client, for noise that is independent over rounds: the person is in a
  cohort if any of its clients is, with probability 1 - (1 - q)^k, and then moves the sum by at most
  the k-fold. The output with the person is a mixture over which of its clients were drawn. The
  divergence from the output without is convex in the mixture, and grows with each shift (less shift
  is the same with more noise), so that it is largest where each part of it but the empty one is the
  k-fold shift. That also holds where the person's clients are drawn for different rounds: shifts of
  several rounds have no larger norm together than all of them in one. Fixed-size samples are
  bounded by no sampling here, by the same convexity.
* k steps: from the data with the person to the data without go k steps of one client. If a step is
  (e, d)-DP, all of them are (k e, d (1 + e^e + ... + e^((k-1) e)))-DP; the d of a step is chosen so
  that this is delta. Vadhan 2017, "The complexity of differential privacy", lemma 2.2, before its
  last inequality.
"""

import math

import dp_accounting
from dp_accounting import dp_event

from fl_research.errors import InputError
from fl_research.privacy.accountants import (
    ComposedReleases,
    check_delta,
    claimed_epsilon,
    epsilon_by_accountant,
)
from fl_research.privacy.parts import Parts, releases_in, without_sampling

_LEAST_LOG_DELTA = math.log(1e-300)
_SMALLEST_DELTA_OF_LOSSES = 1e-16  # Rounding errors hide what is below.
_COARSENESS = 4
_STEPS_IN_LOG_DELTA = 24


def person_epsilon(
    event: dp_accounting.DpEvent,
    delta: float,
    relation: dp_accounting.NeighboringRelation,
    clients_per_person: int,
) -> float:
    """Returns epsilon for a person who is in up to so many clients.

    Args:
      event: All releases, as sampled; multipliers relative to the sensitivity to one client.
      delta: In (0, 1), of the person's guarantee.
      relation: The neighbouring relation of one client; a person's is the same for all of its
        clients at once.
      clients_per_person: At least 1; nobody may be in more.

    Returns:
      Epsilon, not below the claimed one of a client and equal to it for 1; infinite without a
      guarantee.

    Raises:
      InputError: If an argument is out of range or no accountant applies to the event.
    """
    one_client = claimed_epsilon(epsilon_by_accountant(event, delta, relation)).epsilon
    return max(one_client, group_epsilon(event, delta, relation, clients_per_person))


def group_epsilon(
    event: dp_accounting.DpEvent,
    delta: float,
    relation: dp_accounting.NeighboringRelation,
    clients: int,
) -> float:
    """Returns epsilon for any group of so many clients, by the smaller of the two bounds.

    Args:
      event: All releases, as sampled; multipliers relative to the sensitivity to one client.
      delta: In (0, 1).
      relation: The neighbouring relation of one client.
      clients: At least 1.

    Raises:
      InputError: If an argument is out of range or no accountant applies to the event.
    """
    check_delta(delta)
    together = group_event(event, clients)
    as_one = claimed_epsilon(epsilon_by_accountant(together, delta, relation)).epsilon
    parts = releases_in(event)
    sampled = any(hasattr(leaf, "event") for leaf, _ in parts)
    if clients == 1 or not sampled:
        return as_one
    return min(as_one, epsilon_by_steps(parts, delta, relation, clients))


def changed_client_epsilon(
    event: dp_accounting.DpEvent, delta: float, relation: dp_accounting.NeighboringRelation
) -> float:
    """Returns epsilon for data sets that differ in what one client holds, not in who is there.

    A claim under add-or-remove-one or zero-out compares a client with nothing. With other records
    its update is another, up to twice the clip norm away: without sampling that is half the noise
    multiplier. With sampling it is two steps, one out and one in, or no sampling if that is less.

    Args:
      event: All releases, as sampled; multipliers relative to the sensitivity to one client.
      delta: In (0, 1).
      relation: The neighbouring relation of the claim, add-or-remove-one or zero-out.

    Returns:
      Infinite without a guarantee.
    """
    check_delta(delta)
    parts = releases_in(event)
    unsampled = group_event(without_sampling(event), 2)
    as_replaced = claimed_epsilon(epsilon_by_accountant(unsampled, delta, relation)).epsilon
    if not any(hasattr(leaf, "event") for leaf, _ in parts):
        return as_replaced
    return min(as_replaced, epsilon_by_steps(parts, delta, relation, 2))


def group_event(event: dp_accounting.DpEvent, clients: int) -> dp_accounting.DpEvent:
    """Returns the releases as they concern a group of clients that is counted as one.

    Args:
      event: All releases, as sampled; multipliers relative to the sensitivity to one client.
      clients: At least 1.

    Raises:
      InputError: If there is no client or the event cannot be read.
    """
    if clients < 1:
        raise InputError(f"clients={clients} is no group; give 1 or more")
    if clients == 1:
        return event
    return dp_accounting.ComposedDpEvent(
        [
            dp_accounting.SelfComposedDpEvent(_of_group(leaf, clients), count)
            for leaf, count in releases_in(event)
        ]
    )


def epsilon_by_steps(
    parts: Parts, delta: float, relation: dp_accounting.NeighboringRelation, clients: int
) -> float:
    """Returns epsilon of a group by as many steps of one client.

    Any delta of a step that leads to no more than the wanted one gives a bound; the largest is
    looked for by bisection.

    Args:
      parts: Releases and their counts, from `parts.releases_in`.
      delta: In (0, 1).
      relation: The neighbouring relation of one client.
      clients: At least 1.

    Returns:
      Infinite where no step is small enough.
    """
    composed = ComposedReleases(
        parts, relation, smallest_delta=_SMALLEST_DELTA_OF_LOSSES, coarseness=_COARSENESS
    )

    def epsilon_of_step(log_delta: float) -> float:
        """The claimed epsilon of one client."""
        return claimed_epsilon(composed.epsilons(math.exp(log_delta))).epsilon

    def fits(log_delta: float) -> bool:
        """Whether steps of this delta lead to the wanted one or less."""
        return log_delta + _log_growth(epsilon_of_step(log_delta), clients) <= math.log(delta)

    low, high = math.log(delta), math.log(delta)
    while not fits(low):
        if low <= _LEAST_LOG_DELTA:
            return math.inf
        low, high = max(2 * low, _LEAST_LOG_DELTA), low
    for _ in range(_STEPS_IN_LOG_DELTA if low < high else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return clients * epsilon_of_step(low)


def _log_growth(epsilon: float, clients: int) -> float:
    """log(1 + e^epsilon + ... + e^((clients - 1) epsilon))."""
    if math.isinf(epsilon):
        return math.inf
    largest = (clients - 1) * epsilon
    return largest + math.log(math.fsum(math.exp(-i * epsilon) for i in range(clients)))


def _of_group(leaf: dp_accounting.DpEvent, clients: int) -> dp_accounting.DpEvent:
    """One release as it concerns the group."""
    if isinstance(leaf, dp_event.NonPrivateDpEvent):
        return leaf
    if isinstance(leaf, dp_event.PoissonSampledDpEvent):
        rate = leaf.sampling_probability
        together = -math.expm1(clients * math.log1p(-rate)) if rate < 1 else 1.0
        return dp_accounting.PoissonSampledDpEvent(together, _of_group(leaf.event, clients))
    if isinstance(leaf, dp_event.SampledWithoutReplacementDpEvent):
        return _of_group(leaf.event, clients)
    return type(leaf)(leaf.noise_multiplier / clients)
