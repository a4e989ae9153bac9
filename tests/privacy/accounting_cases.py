"""Samplers, exact Gaussian epsilons and short names that the accounting tests share."""

import math
from collections.abc import Callable

import dp_accounting
from scipy import optimize, special

from fl_research.data.client_sampling import (
    ClientSampling,
    FixedSizeSampling,
    FullParticipation,
    PoissonSampling,
)
from fl_research.privacy import accounting
from fl_research.privacy.accountants import EpsilonByAccountant

Gaussian = dp_accounting.GaussianDpEvent
ADD_OR_REMOVE = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
REPLACE = dp_accounting.NeighboringRelation.REPLACE_ONE
ZERO_OUT = dp_accounting.NeighboringRelation.REPLACE_SPECIAL
FULL = FullParticipation(population=1000)
DELTA = 1e-5


def poisson(rate: float) -> PoissonSampling:
    return PoissonSampling(population=10_000, sampling_rate=rate)


def fixed_size(cohort_size: int) -> FixedSizeSampling:
    return FixedSizeSampling(population=10_000, cohort_size=cohort_size)


def epsilons(
    sampling: ClientSampling, noise: float, releases: int = 1, delta: float = DELTA
) -> EpsilonByAccountant:
    event = accounting.repeated_event(Gaussian(noise), releases, sampling)
    return accounting.epsilon_by_accountant(event, delta, accounting.relation_for(sampling)[0])


def claimed(
    sampling: ClientSampling, noise: float, releases: int = 1, delta: float = DELTA
) -> float:
    return accounting.claimed_epsilon(epsilons(sampling, noise, releases, delta)).epsilon


def smallest_epsilon(delta_of: Callable[[float], float], delta: float) -> float:
    """Where a decreasing exact delta(epsilon) meets delta; 0 if it starts below."""
    if delta_of(0.0) <= delta:
        return 0.0
    high = 1.0
    while delta_of(high) > delta:
        high *= 2
    return optimize.brentq(
        lambda x: math.log(max(delta_of(x), 1e-300) / delta), 0, high, xtol=1e-12
    )


def exact_gaussian_delta(mu: float, epsilon: float) -> float:
    """Balle and Wang 2018, theorem 8, for sensitivity / standard deviation = mu."""
    first = special.log_ndtr(mu / 2 - epsilon / mu)
    second = epsilon + special.log_ndtr(-mu / 2 - epsilon / mu)
    return math.exp(first) * -math.expm1(min(second - first, 0.0))


def exact_gaussian_epsilon(noise: float, releases: int, delta: float) -> float:
    mu = math.sqrt(releases) / noise
    return smallest_epsilon(lambda epsilon: exact_gaussian_delta(mu, epsilon), delta)
