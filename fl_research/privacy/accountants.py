"""Epsilon of an event by every accountant that applies, and which of them is the claim.

* "pld": dp_accounting's privacy loss distributions, discretised so that they overestimate
  (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022, "Connect the dots").
* "rdp": dp_accounting's Rényi divergences, converted to (epsilon, delta) as today (Canonne, Kamath,
  Steinke 2020, proposition 12).
* "rdp_classic": the same divergences, converted as before 2021: the least of
  RDP(order) + log(1/delta) / (order - 1) (Mironov 2017). Never less than "rdp"; for comparison
  with older numbers.

Two things are added to the library's Rényi divergences. Their rounding errors, which can make a
tiny one zero, are allowed for, and fixed-size sampling is bounded by no sampling where that is
less: a mixture of outputs is never easier to tell apart than the outputs.
"""

import dataclasses
import functools
import importlib.metadata
import math
from collections.abc import Mapping, Sequence

import dp_accounting
import numpy as np
from dp_accounting import dp_event, rdp

from fl_research.errors import InputError
from fl_research.privacy.loss_distributions import pld_epsilon
from fl_research.privacy.parts import Parts, releases_in
from fl_research.privacy.rounding import rounded_up

EpsilonByAccountant = dict[str, float | None]

DEFAULT_ORDERS: tuple[float, ...] = tuple(rdp.rdp_privacy_accountant.DEFAULT_RDP_ORDERS)
INTEGER_ORDERS: tuple[float, ...] = tuple(range(2, 257))

_ROUGH_ORDERS: tuple[float, ...] = tuple(range(2, 65))  # Integer ones are cheap.
_ROUGH_COARSENESS = 16

_ROUNDING_OF_RDP = 1e-14

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


def epsilon_by_accountant(
    event: dp_accounting.DpEvent, delta: float, relation: dp_accounting.NeighboringRelation
) -> EpsilonByAccountant:
    """Returns epsilon by "pld", "rdp" and "rdp_classic".

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
    parts = releases_in(event)
    return dict(_epsilons(parts, float(delta), relation))


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
    return _rdp_epsilon(releases_in(event), float(delta), relation, tuple(orders), classic)


def claimed_epsilon(by_accountant: Mapping[str, float | None]) -> Claim:
    """Returns the smallest of the bounds that hold, by "pld" and "rdp".

    Each of them is an upper bound, so that the smaller one is too. The classic conversion is never
    the smaller one and is left out.

    Raises:
      InputError: If no accountant applies.
    """
    bounds = {
        name: value for name in ("pld", "rdp") if (value := by_accountant.get(name)) is not None
    }
    if not bounds:
        raise InputError("no accountant applies to these releases; choose another mechanism")
    accountant = min(bounds, key=lambda name: bounds[name])
    if math.isinf(bounds[accountant]):
        return Claim(math.inf, None, "a release without noise: there is no guarantee")
    if len(bounds) == 1:
        reason = f"the only accountant that applies ({accountant})"
    else:
        reason = "the smaller of two upper bounds that both hold: " + ", ".join(
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
    parts = releases_in(event)
    bounds = {
        "pld": _pld_epsilon(parts, delta, relation, _ROUGH_COARSENESS),
        "rdp": _rdp_epsilon(parts, delta, relation, _ROUGH_ORDERS, False),
    }
    return claimed_epsilon(bounds).epsilon


@functools.lru_cache(maxsize=4096)
def _epsilons(
    parts: Parts, delta: float, relation: dp_accounting.NeighboringRelation
) -> tuple[tuple[str, float | None], ...]:
    """Epsilon by every accountant."""
    return (
        ("pld", _pld_epsilon(parts, delta, relation)),
        ("rdp", _rdp_epsilon(parts, delta, relation, DEFAULT_ORDERS, False)),
        ("rdp_classic", _rdp_epsilon(parts, delta, relation, DEFAULT_ORDERS, True)),
    )


def _rdp_epsilon(
    parts: Parts,
    delta: float,
    relation: dp_accounting.NeighboringRelation,
    orders: tuple[float, ...],
    classic: bool,
) -> float | None:
    """Adds up the divergences of all parts and converts them."""
    total = np.zeros(len(orders))
    for leaf, count in parts:
        divergences = _divergences(leaf, relation, orders)
        if divergences is None:
            return None
        total = total + count * divergences
    if not total.any():
        return 0.0
    if np.isinf(total).all():
        return math.inf
    if classic:
        return float(np.min(total + math.log(1 / delta) / (np.array(orders) - 1)))
    return float(rdp.compute_epsilon(orders, total, delta)[0])


@functools.lru_cache(maxsize=1024)
def _divergences(
    leaf: dp_accounting.DpEvent,
    relation: dp_accounting.NeighboringRelation,
    orders: tuple[float, ...],
) -> np.ndarray | None:
    """Rényi divergences of one release at each order; None where they are not known."""
    accountant = rdp.RdpAccountant(orders, relation)
    if not accountant.supports(leaf):
        return None
    divergences = accountant.compose(leaf).rdp
    if isinstance(leaf, dp_event.GaussianDpEvent | dp_event.NonPrivateDpEvent):
        return divergences
    order = np.array(orders)
    divergences = np.maximum(divergences, 0) + _ROUNDING_OF_RDP * order / (order - 1)
    unsampled = rdp.RdpAccountant(orders, relation).compose(leaf.event).rdp
    return np.minimum(divergences, unsampled)


def _pld_epsilon(
    parts: Parts,
    delta: float,
    relation: dp_accounting.NeighboringRelation,
    coarseness: float = 1.0,
) -> float | None:
    """Epsilon by loss distributions; a rough bound says how fine they have to be."""
    bound = _rdp_epsilon(parts, delta, relation, _ROUGH_ORDERS, False)
    return None if bound is None else pld_epsilon(parts, delta, relation, bound, coarseness)
