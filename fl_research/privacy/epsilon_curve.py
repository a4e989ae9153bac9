"""The whole curve of guarantees: the claimed epsilon at many deltas, composed once.

A mechanism has no single epsilon: each delta has its own, and a reader may hold another delta to be
small enough. The releases are composed once, for the smallest delta, and every other is read off.
"""

from collections.abc import Sequence

import dp_accounting
import numpy as np

from fl_research.errors import InputError
from fl_research.privacy.accountants import ComposedReleases, claimed_epsilon
from fl_research.privacy.parts import releases_in

DEFAULT_DELTAS: tuple[float, ...] = tuple(float(f"{x:.6g}") for x in np.logspace(-10, -2, 17))
"""From 1e-10 to 1e-2, two to each power of ten."""

_COARSENESS = 2


def epsilon_curve(
    event: dp_accounting.DpEvent,
    relation: dp_accounting.NeighboringRelation,
    deltas: Sequence[float] = DEFAULT_DELTAS,
) -> list[tuple[float, float | None]]:
    """Returns the claimed epsilon at each delta.

    Each is an upper bound, and not below what `accountants.claimed_epsilon` says of that delta but
    for rounding; it may be above by the steps of the privacy losses, which are twice as large here.

    Args:
      event: All releases, as sampled; multipliers relative to the sensitivity.
      relation: The neighbouring relation.
      deltas: At least one, each in (0, 1), in any order.

    Returns:
      Pairs of delta and epsilon in the order given; None where no finite bound is known.

    Raises:
      InputError: If there is no delta, one is out of range, or the event cannot be read.
    """
    if not deltas:
        raise InputError("deltas=[] asks for nothing; give at least one, such as 1e-5")
    composed = ComposedReleases(
        releases_in(event), relation, smallest_delta=min(deltas), coarseness=_COARSENESS
    )
    return [(float(delta), _claimed(composed, float(delta))) for delta in deltas]


def _claimed(composed: ComposedReleases, delta: float) -> float | None:
    """The claim at one delta; None without a guarantee."""
    by_accountant = composed.epsilons(delta)
    if all(value is None for value in by_accountant.values()):
        return None
    claim = claimed_epsilon(by_accountant)
    return None if claim.accountant is None else claim.epsilon
