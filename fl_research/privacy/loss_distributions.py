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

from fl_research.privacy.parts import Parts

LARGEST_EPSILON = 500.0
"""Above it the library's e^-loss runs out of double precision."""

_STEP = 1e-4
_STEPS_OF_ONE_RELEASE = 2e5
_STEP_OVER_EPSILON = 2e-5
_ROUNDING_OF_DELTA = 2e-16  # For each convolution; eight times the worst that was measured.


class ComposedLosses:
    """The losses of all releases together, composed once, for epsilon at as many deltas as wanted.

    Args:
      parts: Releases and their counts, from `parts.releases_in`.
      relation: As the library accounts it, see `accountants.accounted_relation`.
      largest_bound: An upper bound of every epsilon that will be asked for.
      coarseness: How many times the steps are larger than they should be; more is quicker.
    """

    def __init__(
        self,
        parts: Parts,
        relation: dp_accounting.NeighboringRelation,
        largest_bound: float,
        coarseness: float = 1.0,
    ) -> None:
        accountant = pld.PLDAccountant(relation)
        self._parts = parts
        self._supported = all(accountant.supports(leaf) for leaf, _ in parts)
        self._private = not any(isinstance(leaf, dp_event.NonPrivateDpEvent) for leaf, _ in parts)
        self._convolved = [
            count for leaf, count in parts if not isinstance(leaf, dp_event.GaussianDpEvent)
        ]
        self._largest_bound = min(largest_bound, LARGEST_EPSILON)
        self._coarseness = coarseness

    def epsilon(self, delta: float, bound: float) -> float | None:
        """Returns epsilon by privacy loss distributions.

        Args:
          delta: In (0, 1).
          bound: Any upper bound of epsilon at this delta, at most the largest one.

        Returns:
          An upper bound of epsilon, infinite without a guarantee; None for releases that this does
          not account, for a delta that is lost in rounding errors, and, unless all releases are
          Gaussians without sampling, where the bound is above `LARGEST_EPSILON`.
        """
        if not self._supported:
            return None
        if not self._parts:
            return 0.0
        if not self._private:
            return math.inf
        if bound > LARGEST_EPSILON:
            return None if self._convolved else _gaussian_epsilon(self._parts, delta)
        convolutions = sum(self._convolved) + len(self._parts) - 1
        exact_delta = delta - _ROUNDING_OF_DELTA * convolutions
        if exact_delta < delta / 2:
            return None
        return float(self._total.get_epsilon_for_delta(exact_delta))

    @functools.cached_property
    def _total(self) -> privacy_loss_distribution.PrivacyLossDistribution:
        """The composed losses."""
        step = self._coarseness * _step(self._parts, self._largest_bound)
        return functools.reduce(
            lambda left, right: left.compose(right),
            (_composed_losses(leaf, count, step) for leaf, count in self._parts),
        )


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
    widest_loss = max(_widest_loss(getattr(leaf, "event", leaf)) for leaf, _ in parts)
    wanted = max(bound * _STEP_OVER_EPSILON, widest_loss / _STEPS_OF_ONE_RELEASE)
    return _STEP * 2.0 ** max(0, math.floor(math.log2(wanted / _STEP)))


def _widest_loss(noise: dp_accounting.DpEvent) -> float:
    """A loss that one unsampled release hardly ever passes."""
    if isinstance(noise, dp_event.LaplaceDpEvent):
        return float(1 / noise.noise_multiplier)
    return float(0.5 / noise.noise_multiplier**2 + 10 / noise.noise_multiplier)


@functools.lru_cache(maxsize=16)
def _losses(
    leaf: dp_accounting.DpEvent, step: float
) -> privacy_loss_distribution.PrivacyLossDistribution:
    """The privacy loss distribution of one release; the slow part, a second or less."""
    noise, rate = getattr(leaf, "event", leaf), getattr(leaf, "sampling_probability", 1.0)
    make = (
        privacy_loss_distribution.from_laplace_mechanism
        if isinstance(noise, dp_event.LaplaceDpEvent)
        else privacy_loss_distribution.from_gaussian_mechanism
    )
    return make(noise.noise_multiplier, sampling_prob=rate, value_discretization_interval=step)


@functools.lru_cache(maxsize=8)
def _composed_losses(
    leaf: dp_accounting.DpEvent, count: int, step: float
) -> privacy_loss_distribution.PrivacyLossDistribution:
    """The same after `count` releases; Gaussians without sampling are one Gaussian."""
    if isinstance(leaf, dp_event.GaussianDpEvent):
        together = dp_accounting.GaussianDpEvent(leaf.noise_multiplier / math.sqrt(count))
        return _losses(together, step)
    return _losses(leaf, step).self_compose(count)
