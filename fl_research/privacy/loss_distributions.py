"""Epsilon by privacy loss distributions, made safe and quick at the edges of double precision.

A privacy loss is the log of how much likelier an output is with a unit than without; losses of
releases add up, so that their distributions are convolved. dp_accounting does that on a grid, with
every rounding upwards (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022, "Connect the dots"). Two
things are added: rounding errors of its Fourier transform, which can take 1e-14 off delta, are
allowed for; and the steps of the grid grow with epsilon, so that an answer takes about a second
whatever the setting.
"""

import functools
import math

import dp_accounting
import numpy as np
from dp_accounting import dp_event, pld
from dp_accounting.pld import privacy_loss_distribution
from scipy import optimize, special

from fl_research.privacy.events import effective_noise_multiplier
from fl_research.privacy.parts import Parts

LARGEST_EPSILON = 500.0
"""Above it the library's e^-loss runs out of double precision."""

_STEP = 1e-4
_STEPS_OF_ONE_RELEASE = 2e5
_STEP_OVER_EPSILON = 2e-5
_ROUNDING_OF_DELTA = 2e-16  # For each convolution; eight times the worst that was measured.


def pld_epsilon(
    parts: Parts,
    delta: float,
    relation: dp_accounting.NeighboringRelation,
    bound: float,
    coarseness: float = 1.0,
) -> float | None:
    """Returns epsilon by privacy loss distributions.

    Args:
      parts: Releases and their counts, from `parts.releases_in`.
      delta: In (0, 1).
      relation: The neighbouring relation.
      bound: Any upper bound of epsilon.
      coarseness: How many times the steps are larger than they should be; more is quicker.

    Returns:
      An upper bound of epsilon, infinite without a guarantee; None for releases that this does not
      account, for a delta that is lost in rounding errors, and for sampled releases whose bound is
      above `LARGEST_EPSILON`.
    """
    accountant = pld.PLDAccountant(relation)
    if not all(accountant.supports(leaf) for leaf, _ in parts):
        return None
    if not parts:
        return 0.0
    if any(isinstance(leaf, dp_event.NonPrivateDpEvent) for leaf, _ in parts):
        return math.inf
    sampled = [count for leaf, count in parts if isinstance(leaf, dp_event.PoissonSampledDpEvent)]
    if bound > LARGEST_EPSILON:
        return None if sampled else _gaussian_epsilon(parts, delta)
    exact_delta = delta - _ROUNDING_OF_DELTA * (sum(sampled) + len(parts) - 1)
    if exact_delta < delta / 2:
        return None
    step = coarseness * _step(parts, bound)
    total = functools.reduce(
        lambda left, right: left.compose(right),
        (_composed_losses(leaf, count, step) for leaf, count in parts),
    )
    return float(total.get_epsilon_for_delta(exact_delta))


def _gaussian_epsilon(parts: Parts, delta: float) -> float:
    """The exact epsilon of Gaussians without sampling (Balle and Wang 2018, theorem 8)."""
    mu = math.sqrt(math.fsum(count / leaf.noise_multiplier**2 for leaf, count in parts))

    def excess(epsilon: float) -> float:
        """log delta(epsilon) - log delta."""
        there = special.log_ndtr(mu / 2 - epsilon / mu)
        instead = epsilon + special.log_ndtr(-mu / 2 - epsilon / mu)
        return float(there + np.log1p(-np.exp(min(instead - there, -1e-300))) - math.log(delta))

    if excess(0.0) <= 0:
        return 0.0
    high = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta))
    return float(optimize.brentq(excess, 0.0, high, rtol=1e-12)) * (1 + 1e-9)


def _step(parts: Parts, bound: float) -> float:
    """The step of the losses: the library's own, doubled as long as nobody could see it."""
    smallest = min(effective_noise_multiplier(getattr(leaf, "event", leaf)) for leaf, _ in parts)
    widest_loss = 0.5 / smallest**2 + 10 / smallest
    wanted = max(bound * _STEP_OVER_EPSILON, widest_loss / _STEPS_OF_ONE_RELEASE)
    return _STEP * 2.0 ** max(0, math.floor(math.log2(wanted / _STEP)))


@functools.lru_cache(maxsize=16)
def _losses(
    leaf: dp_accounting.DpEvent, step: float
) -> privacy_loss_distribution.PrivacyLossDistribution:
    """The privacy loss distribution of one sampled release; the slow part, a second or less."""
    return privacy_loss_distribution.from_gaussian_mechanism(
        leaf.event.noise_multiplier,
        sampling_prob=leaf.sampling_probability,
        value_discretization_interval=step,
    )


@functools.lru_cache(maxsize=8)
def _composed_losses(
    leaf: dp_accounting.DpEvent, count: int, step: float
) -> privacy_loss_distribution.PrivacyLossDistribution:
    """The same after `count` releases; Gaussians without sampling are one Gaussian."""
    if isinstance(leaf, dp_event.PoissonSampledDpEvent):
        return _losses(leaf, step).self_compose(count)
    return privacy_loss_distribution.from_gaussian_mechanism(
        leaf.noise_multiplier / math.sqrt(count), value_discretization_interval=step
    )
