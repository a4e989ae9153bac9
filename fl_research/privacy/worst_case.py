"""The claim for the unit that meets least protection, where units differ."""

import dataclasses
import math
from collections.abc import Sequence

import dp_accounting

from fl_research.privacy.accountants import (
    Claim,
    EpsilonByAccountant,
    claimed_epsilon,
    epsilon_by_accountant,
    fits,
    rough_epsilon,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorstCase:
    """The event that costs most, and what it costs."""

    event: dp_accounting.DpEvent
    epsilon_by_accountant: EpsilonByAccountant
    claim: Claim


def worst_case(
    events: Sequence[dp_accounting.DpEvent],
    delta: float,
    relation: dp_accounting.NeighboringRelation,
) -> WorstCase:
    """Returns the event with the largest claimed epsilon.

    Args:
      events: At least one.
      delta: In (0, 1).
      relation: The neighbouring relation of all.

    Raises:
      InputError: If delta is out of range or an event cannot be read.
    """
    bounds = [math.inf]
    if len(events) > 1:
        bounds = [rough_epsilon(event, delta, relation) for event in events]
    worst: WorstCase | None = None
    # A rough bound is never below the claim: what is bounded by the worst so far needs no more.
    for bound, event in sorted(zip(bounds, events, strict=True), key=lambda pair: -pair[0]):
        if worst is not None and bound <= worst.claim.epsilon:
            break
        by_accountant = epsilon_by_accountant(event, delta, relation)
        claim = claimed_epsilon(by_accountant)
        if worst is None or claim.epsilon > worst.claim.epsilon:
            worst = WorstCase(event=event, epsilon_by_accountant=by_accountant, claim=claim)
    assert worst is not None, "there is at least one event"
    return worst


def worst_rough_epsilon(
    events: Sequence[dp_accounting.DpEvent],
    delta: float,
    relation: dp_accounting.NeighboringRelation,
) -> float:
    """Returns a quick bound that is not below the claim of `worst_case`; see `rough_epsilon`."""
    return max(rough_epsilon(event, delta, relation) for event in events)


def all_fit(
    events: Sequence[dp_accounting.DpEvent],
    delta: float,
    relation: dp_accounting.NeighboringRelation,
    target_epsilon: float,
) -> bool:
    """Whether the claimed epsilon of every event is at most the target."""
    return all(fits(event, delta, relation, target_epsilon) for event in events)
