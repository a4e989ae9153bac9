"""Epsilon of a search: many trials are run, and the best one is released.

Picking the best of several private runs costs more than one of them, even if the others are thrown
away: a unit can decide which one wins. A grid of a known size costs as much as releasing all of its
trials. A secret random number of trials costs much less: as long as nobody can tell how often the
search looked, the winner says little more than one trial does. The price depends on how the number
is drawn; with gamma and the mean of a truncated negative binomial distribution it is, in Rényi
divergences of one trial,

    RDP(a) + log(mean) / (a - 1) + (1 + shape) min over b of ((1 - 1/b) RDP(b) - log(gamma) / b),

and a pure epsilon becomes (2 + shape) times as large. Papernot and Steinke 2022, "Hyperparameter
tuning with Rényi differential privacy", theorems 2 and 6, corollary 3.

All of it holds only if the search shows nothing but the winner and its score, if each trial's
settings are drawn without looking at the data or at other trials, and if what scores a trial
belongs to the trial's releases or was computed on public data.
"""

import dataclasses
import math

import dp_accounting
import numpy as np
from dp_accounting import dp_event, rdp
from scipy import optimize

from fl_research.errors import InputError
from fl_research.privacy import pure_dp, renyi
from fl_research.privacy.accountants import (
    DEFAULT_ORDERS,
    accounted_relation,
    check_delta,
    claimed_epsilon,
    epsilon_by_accountant,
)
from fl_research.privacy.parts import releases_in

MOST_TRIALS = 1_000_000
"""The largest mean that a search may have."""

_LARGEST_SHAPE = 100.0
_ROUNDING = 1e-9
_NEVER = -60.0  # The log of a probability that no draw meets.


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomTrials:
    """A random number of trials.

    Attributes:
      mean: Trials on average, from 1 to `MOST_TRIALS`.
      shape: Of the truncated negative binomial distribution: 0 is the logarithmic and 1 the
        geometric distribution; up to 100. Infinite: a Poisson distribution, which can be 0 trials,
        and then nothing is released.

    Raises:
      InputError: If a value is out of range.
    """

    mean: float
    shape: float

    def __post_init__(self) -> None:
        if not 1 <= self.mean <= MOST_TRIALS:
            raise InputError(f"mean={self.mean} is no mean of trials; give 1 to {MOST_TRIALS:,}")
        if not (0 <= self.shape <= _LARGEST_SHAPE or self.shape == math.inf):
            raise InputError(
                f"shape={self.shape} is no shape of a distribution of trials; give 0 to "
                f"{_LARGEST_SHAPE:g}, such as 1 for a geometric one, or infinity for Poisson"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FixedTrials:
    """A number of trials that is known beforehand, such as the size of a grid.

    Attributes:
      count: At least 1.

    Raises:
      InputError: If it is less.
    """

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"count={self.count} tries nothing; give 1 or more trials")


def selection_event(
    trial_event: dp_accounting.DpEvent, trials: RandomTrials | FixedTrials
) -> dp_accounting.DpEvent:
    """Returns the accounting event of the whole search, for a record of it.

    Args:
      trial_event: All releases of one trial; of the costliest one, where trials differ.
      trials: How many there are.
    """
    if isinstance(trials, FixedTrials):
        return dp_accounting.SelfComposedDpEvent(trial_event, trials.count)
    return dp_event.RepeatAndSelectDpEvent(trial_event, trials.mean, trials.shape)


def selection_epsilon(
    trial_event: dp_accounting.DpEvent,
    *,
    delta: float,
    relation: dp_accounting.NeighboringRelation,
    trials: RandomTrials | FixedTrials,
) -> float:
    """Returns the epsilon of releasing the best of all trials.

    Args:
      trial_event: All releases of one trial, as sampled; of the costliest one, where trials differ.
        A grid whose trials differ can be given exactly, as the composition of its trials and
        `FixedTrials(count=1)`.
      delta: In (0, 1), of the whole search.
      relation: The neighbouring relation.
      trials: How many trials there are.

    Returns:
      Epsilon, infinite without a guarantee.

    Raises:
      InputError: If delta is out of range, or no accountant applies to the event.
    """
    check_delta(delta)
    if isinstance(trials, FixedTrials) or (trials.mean == 1 and math.isfinite(trials.shape)):
        # With a mean of 1 there is always one trial.
        all_trials = trials if isinstance(trials, FixedTrials) else FixedTrials(count=1)
        event = selection_event(trial_event, all_trials)
        return claimed_epsilon(epsilon_by_accountant(event, delta, relation)).epsilon
    parts, relation = releases_in(trial_event), accounted_relation(relation)
    one_trial = renyi.divergences(parts, relation, DEFAULT_ORDERS)
    if one_trial is None:
        raise InputError("no accountant applies to these releases; choose another mechanism")
    if not np.isfinite(one_trial).any():
        return math.inf
    together = selection_divergences(one_trial, DEFAULT_ORDERS, trials)
    epsilon = renyi.epsilon_of(together, DEFAULT_ORDERS, delta)
    pure = pure_dp.basic_epsilon(parts, relation)
    return epsilon if pure is None else min(epsilon, (2 + trials.shape) * pure)


def selection_divergences(
    one_trial: np.ndarray, orders: tuple[float, ...], trials: RandomTrials
) -> np.ndarray:
    """Returns the Rényi divergences of the best of a random number of trials.

    Args:
      one_trial: float64[orders], of one trial.
      orders: Above 1, rising.
      trials: How many trials there are.
    """
    order = np.array(orders)
    together = one_trial + math.log(trials.mean) / (order - 1)
    if math.isinf(trials.shape):
        excess = [
            rdp.rdp_privacy_accountant.compute_delta(
                orders, one_trial, math.log1p(1 / (order - 1))
            )[0]
            for order in orders
        ]
        together = together + trials.mean * np.array(excess)
    else:
        halting = _log_inverse_gamma(trials) * (1 + _ROUNDING)
        together = together + (1 + trials.shape) * np.min(
            (1 - 1 / order) * one_trial + halting / order
        )
    # A divergence of a higher order is never the smaller one.
    return np.minimum.accumulate(together[::-1])[::-1]


def draw_trials(generator: np.random.Generator, mean: float, shape: float) -> int:
    """Draws the number of trials of a search.

    The number must stay secret, and so must the seed behind the generator.

    Args:
      generator: From a secret seed of the search, such as `randomness.generator` gives.
      mean: As in `RandomTrials`.
      shape: As in `RandomTrials`.

    Returns:
      At least 1; of a Poisson distribution at least 0.

    Raises:
      InputError: If mean or shape is out of range.
    """
    trials = RandomTrials(mean=mean, shape=shape)
    if math.isinf(shape):
        return int(generator.poisson(mean))
    if mean == 1:
        return 1
    wanted = generator.uniform()
    log_inverse_gamma = _log_inverse_gamma(trials)
    log_stay = math.log(-math.expm1(-log_inverse_gamma))
    count, reached = 1, 0.0
    log_probability = log_stay - _log_normaliser(log_inverse_gamma, shape)
    while True:
        reached += math.exp(log_probability)
        if wanted < reached or (count > mean and log_probability < _NEVER):
            return count
        log_probability += log_stay + math.log((count + shape) / (count + 1))
        count += 1


def _log_inverse_gamma(trials: RandomTrials) -> float:
    """-log(gamma) of the distribution with this mean.

    The mean is shape (1/gamma - 1) / (1 - gamma^shape), or its limit where the shape is 0.
    """
    if trials.mean == 1:
        return 0.0

    def log_mean(x: float) -> float:
        """Of gamma = e^-x, relative to the one that is wanted."""
        below = -math.expm1(-trials.shape * x) / trials.shape if trials.shape else x
        return x + math.log(-math.expm1(-x) / below / trials.mean)

    high = 1.0
    while log_mean(high) < 0:
        high *= 2
    return float(optimize.brentq(log_mean, 1e-9, high, xtol=1e-14, rtol=1e-14))


def _log_normaliser(log_inverse_gamma: float, shape: float) -> float:
    """log of the sum of all (1 - gamma)^k binomial(k + shape - 1, k) / shape over k >= 1."""
    if shape == 0:
        return math.log(log_inverse_gamma)
    exponent = shape * log_inverse_gamma
    return exponent + math.log(-math.expm1(-exponent) / shape)
