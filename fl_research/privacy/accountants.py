"""Epsilon of an event by every accountant that applies, and which of them is the claim.

* "pld": dp_accounting's privacy loss distributions, discretised so that they overestimate
  (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022, "Connect the dots").
* "rdp": dp_accounting's Rényi divergences, converted to (epsilon, delta) as today (Canonne, Kamath,
  Steinke 2020, proposition 12).
* "rdp_classic": the same divergences, converted as before 2021: the least of
  RDP(order) + log(1/delta) / (order - 1) (Mironov 2017). Never less than "rdp"; for comparison
  with older numbers.
* "basic" and "advanced": for releases that are each pure DP, such as Laplace noise; see `pure_dp`.
"""

import dataclasses
import functools
import importlib.metadata
import math
from collections.abc import Mapping, Sequence

import dp_accounting

from fl_research.errors import InputError
from fl_research.privacy import pure_dp, renyi
from fl_research.privacy.loss_distributions import ComposedLosses
from fl_research.privacy.parts import Parts, releases_in
from fl_research.privacy.renyi import DEFAULT_ORDERS, INTEGER_ORDERS
from fl_research.privacy.rounding import rounded_up

__all__ = [
    "ACCOUNTANT_DESCRIPTIONS",
    "DEFAULT_ORDERS",
    "INTEGER_ORDERS",
    "Claim",
    "ComposedReleases",
    "EpsilonByAccountant",
    "accounted_relation",
    "check_delta",
    "claimed_epsilon",
    "epsilon_by_accountant",
    "fits",
    "rdp_epsilon",
    "rough_epsilon",
]

EpsilonByAccountant = dict[str, float | None]

_ROUGH_ORDERS: tuple[float, ...] = tuple(range(2, 65))  # Integer ones are cheap.
_ROUGH_COARSENESS = 16

_CLAIMABLE = ("pld", "rdp", "advanced", "basic")

_VERSION = f"dp-accounting {importlib.metadata.version('dp-accounting')}"
_ORDERS_IN_WORDS = "orders 1.1 to 10.9 in steps of 0.1, 11 to 63, 128, 256, 512, 1024"
ACCOUNTANT_DESCRIPTIONS: Mapping[str, str] = {
    "pld": f"{_VERSION}, privacy loss distributions by connect-the-dots, pessimistic, losses in "
    "steps of 1e-4, coarser in proportion to epsilon where that is above 10; above 500 "
    "only without sampling, where it has a closed form",
    "rdp": f"{_VERSION}, Rényi DP with the conversion of Canonne, Kamath and Steinke 2020, "
    + _ORDERS_IN_WORDS,
    "rdp_classic": f"{_VERSION}, Rényi DP with the classic conversion RDP + log(1/delta) / "
    f"(order - 1) of Mironov 2017, {_ORDERS_IN_WORDS}; for comparison with older numbers",
    "basic": "the sum of pure epsilons, each amplified by its sampling (Balle, Barthe and Gaboardi "
    "2018); for releases that are pure DP, such as Laplace noise",
    "advanced": "composition of pure epsilons, optimal where they are equal (Kairouz, Oh and "
    "Viswanath 2015, theorem 3.3), else by Hoeffding's inequality (theorem 3.5 there)",
}


@dataclasses.dataclass(frozen=True)
class Claim:
    """The epsilon that is stated, and why.

    Attributes:
      epsilon: Infinite where there is no guarantee.
      accountant: A key of `ACCOUNTANT_DESCRIPTIONS`; None where there is no guarantee.
      reason: Why this accountant, in words.
    """

    epsilon: float
    accountant: str | None
    reason: str


def check_delta(delta: float) -> None:
    """Raises InputError unless 0 < delta < 1."""
    if not 0 < delta < 1:
        raise InputError(
            f"delta={delta} does not lie between 0 and 1, both excluded; take one well below "
            "1 / number of clients, such as 1e-5"
        )


def accounted_relation(
    relation: dp_accounting.NeighboringRelation,
) -> dp_accounting.NeighboringRelation:
    """Returns the relation under which the library accounts the same pair of output distributions.

    Zeroing out a unit is add-or-remove-one for all releases here. Its data counts as nothing in the
    sum, so that without sampling the sum is the one without the unit. Under Poisson sampling the
    unit enters each cohort by a coin of its own: given everybody else's coins, the output is a
    mixture of sums with and without its data against the sum without, whether its empty place was
    drawn or there is no place. Fixed-size samples are another matter: who leaves makes place for
    somebody else, and who is zeroed out does not. The library accounts those for replace-one only.
    """
    relations = dp_accounting.NeighboringRelation
    return relations.ADD_OR_REMOVE_ONE if relation is relations.REPLACE_SPECIAL else relation


class ComposedReleases:
    """All releases together, composed once, for epsilon at as many deltas as wanted.

    Args:
      parts: Releases and their counts, from `parts.releases_in`.
      relation: The neighbouring relation.
      smallest_delta: The smallest delta that will be asked for, in (0, 1).
      coarseness: How many times the steps of "pld" are larger than they should be: quicker, and
        still a bound.
      orders: Rényi orders above 1.
    """

    def __init__(
        self,
        parts: Parts,
        relation: dp_accounting.NeighboringRelation,
        *,
        smallest_delta: float,
        coarseness: float = 1.0,
        orders: tuple[float, ...] = DEFAULT_ORDERS,
    ) -> None:
        check_delta(smallest_delta)
        self._parts = parts
        self._relation = accounted_relation(relation)
        self._orders = orders
        self._total = renyi.divergences(parts, self._relation, orders)
        self._rough_total = renyi.divergences(parts, self._relation, _ROUGH_ORDERS)
        largest_bound = self._rough_bound(smallest_delta)
        self._losses = ComposedLosses(
            parts, self._relation, math.inf if largest_bound is None else largest_bound, coarseness
        )

    def epsilons(self, delta: float) -> EpsilonByAccountant:
        """Returns what `epsilon_by_accountant` does, at a delta not below the smallest.

        Raises:
          InputError: If delta is out of range.
        """
        check_delta(delta)
        rough = self._rough_bound(delta)
        rdp = classic = None
        if self._total is not None:
            rdp = renyi.epsilon_of(self._total, self._orders, delta)
            classic = renyi.epsilon_of(self._total, self._orders, delta, classic=True)
        return {
            "pld": None if rough is None else self._losses.epsilon(delta, rough),
            "rdp": rdp,
            "rdp_classic": classic,
            "basic": pure_dp.basic_epsilon(self._parts, self._relation),
            "advanced": pure_dp.advanced_epsilon(self._parts, delta, self._relation),
        }

    def _rough_bound(self, delta: float) -> float | None:
        """A bound that says how fine the losses have to be."""
        if self._rough_total is None:
            return None
        return renyi.epsilon_of(self._rough_total, _ROUGH_ORDERS, delta)


def epsilon_by_accountant(
    event: dp_accounting.DpEvent, delta: float, relation: dp_accounting.NeighboringRelation
) -> EpsilonByAccountant:
    """Returns epsilon by "pld", "rdp", "rdp_classic", "basic" and "advanced".

    Args:
      event: All releases, as sampled; noise multipliers relative to the sensitivity.
      delta: In (0, 1).
      relation: The neighbouring relation.

    Returns:
      A bound for each accountant, None where it does not apply, infinite without a guarantee.

    Raises:
      InputError: If delta is out of range or the event cannot be read.
    """
    check_delta(delta)
    return dict(_epsilons(releases_in(event), float(delta), relation))


def rdp_epsilon(
    event: dp_accounting.DpEvent,
    delta: float,
    relation: dp_accounting.NeighboringRelation,
    *,
    orders: Sequence[float] = DEFAULT_ORDERS,
    classic: bool = False,
) -> float | None:
    """Returns epsilon by Rényi DP, None where the event is not one it can account.

    Args:
      event: All releases, as sampled.
      delta: In (0, 1).
      relation: The neighbouring relation.
      orders: Rényi orders above 1; published numbers may rest on integer ones.
      classic: Whether to convert as before 2021.

    Raises:
      InputError: If delta is out of range or the event cannot be read.
    """
    check_delta(delta)
    wanted = tuple(orders)
    total = renyi.divergences(releases_in(event), accounted_relation(relation), wanted)
    return None if total is None else renyi.epsilon_of(total, wanted, delta, classic=classic)


def claimed_epsilon(by_accountant: Mapping[str, float | None]) -> Claim:
    """Returns the smallest of the bounds that hold, by "pld", "rdp", "basic" and "advanced".

    Each of them is an upper bound, so that the smallest one is too. The classic conversion is never
    the smallest one and is left out.

    Raises:
      InputError: If no accountant applies.
    """
    bounds = {name: value for name in _CLAIMABLE if (value := by_accountant.get(name)) is not None}
    if not bounds:
        raise InputError("no accountant applies to these releases; choose another mechanism")
    accountant = min(bounds, key=lambda name: bounds[name])
    if math.isinf(bounds[accountant]):
        return Claim(math.inf, None, "a release without noise: there is no guarantee")
    if len(bounds) == 1:
        reason = f"the only accountant that applies ({accountant})"
    else:
        which = "the smaller of two upper bounds that both hold: "
        if len(bounds) > 2:
            which = f"the smallest of {len(bounds)} upper bounds that all hold: "
        reason = which + ", ".join(
            f"{name} {rounded_up(value, 6)}"
            for name, value in sorted(bounds.items(), key=lambda x: x[1])
        )
    return Claim(bounds[accountant], accountant, reason)


def fits(
    event: dp_accounting.DpEvent,
    delta: float,
    relation: dp_accounting.NeighboringRelation,
    target_epsilon: float,
) -> bool:
    """Whether the claimed epsilon of the event is at most the target.

    Asks the cheap accountant first, so that it takes about a millisecond until the target is near.
    """
    cheap = rdp_epsilon(event, delta, relation)
    if cheap is not None and cheap <= target_epsilon:
        return True
    return claimed_epsilon(epsilon_by_accountant(event, delta, relation)).epsilon <= target_epsilon


def rough_epsilon(
    event: dp_accounting.DpEvent, delta: float, relation: dp_accounting.NeighboringRelation
) -> float:
    """Returns a quick bound that is not below the claimed epsilon, for searches.

    Within about a percent where epsilon is above 0.1, and some ten times as fast.

    Raises:
      InputError: As `epsilon_by_accountant`.
    """
    check_delta(delta)
    composed = ComposedReleases(
        releases_in(event),
        relation,
        smallest_delta=delta,
        coarseness=_ROUGH_COARSENESS,
        orders=_ROUGH_ORDERS,
    )
    return claimed_epsilon(composed.epsilons(delta)).epsilon


@functools.lru_cache(maxsize=4096)
def _epsilons(
    parts: Parts, delta: float, relation: dp_accounting.NeighboringRelation
) -> tuple[tuple[str, float | None], ...]:
    """Epsilon by every accountant."""
    composed = ComposedReleases(parts, relation, smallest_delta=delta)
    return tuple(composed.epsilons(delta).items())
