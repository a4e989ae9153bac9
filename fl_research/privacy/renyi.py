"""Rényi divergences of releases, added up and converted into epsilon.

Divergences are dp_accounting's, with three additions. Their rounding errors, which can make a tiny
one zero, are allowed for. Fixed-size sampling is bounded by no sampling where that is less: a
mixture of outputs is never easier to tell apart than the outputs. Sampled Laplace noise is bounded
by its pure epsilon: the divergence of order a is at most min(epsilon, a epsilon^2 / 2).

Mironov 2017, "Rényi differential privacy"; Bun and Steinke 2016, "Concentrated differential
privacy", proposition 3.3; Canonne, Kamath, Steinke 2020, "The discrete Gaussian for differential
privacy", proposition 12.
"""

import functools
import math

import dp_accounting
import numpy as np
from dp_accounting import dp_event, rdp

from fl_research.privacy.parts import Parts
from fl_research.privacy.pure_dp import pure_epsilon

DEFAULT_ORDERS: tuple[float, ...] = tuple(rdp.rdp_privacy_accountant.DEFAULT_RDP_ORDERS)
INTEGER_ORDERS: tuple[float, ...] = tuple(range(2, 257))

_ROUNDING = 1e-14


def divergences(
    parts: Parts, relation: dp_accounting.NeighboringRelation, orders: tuple[float, ...]
) -> np.ndarray | None:
    """Returns the Rényi divergence of all releases together at each order.

    Args:
      parts: Releases and their counts, from `parts.releases_in`.
      relation: As the library accounts it, see `accountants.accounted_relation`.
      orders: Above 1.

    Returns:
      float64[orders], infinite without a guarantee; None where a release has no known divergence.
    """
    total = np.zeros(len(orders))
    for leaf, count in parts:
        one = _divergences(leaf, relation, orders)
        if one is None:
            return None
        total = total + count * one
    return total


def epsilon_of(
    total: np.ndarray, orders: tuple[float, ...], delta: float, *, classic: bool = False
) -> float:
    """Returns the epsilon of Rényi divergences.

    Args:
      total: float64[orders], from `divergences`.
      orders: Above 1.
      delta: In (0, 1).
      classic: Whether to convert as before 2021.
    """
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
    epsilon = pure_epsilon(leaf, relation)
    if epsilon is not None:
        return np.minimum(epsilon, np.array(orders) * (epsilon * epsilon / 2))
    accountant = rdp.RdpAccountant(orders, relation)
    if not accountant.supports(leaf):
        return None
    known = accountant.compose(leaf).rdp
    if isinstance(leaf, dp_event.GaussianDpEvent):
        return known
    order = np.array(orders)
    known = np.maximum(known, 0) + _ROUNDING * order / (order - 1)
    unsampled = rdp.RdpAccountant(orders, relation).compose(leaf.event).rdp
    return np.minimum(known, unsampled)
