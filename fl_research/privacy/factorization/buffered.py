"""Buffered linear Toeplitz strategies (BLT): correlated noise from a memory of a few vectors.

C has c_0 = 1 and c_j = sum_i w_i lambda_i^(j-1) for j >= 1. With one buffer s_i for each pair of an
output weight w_i and a decay lambda_i, all of them zero at the start, the noise of a round is
x = z - sum_i w_i s_i, and then s_i becomes lambda_i s_i + x. That is exactly C^-1 z.

The optimum is searched with w_i > 0, w_1 + w_2 + ... < 1 and 0 < lambda_i < 1, so that the
coefficients neither fall below zero nor increase and their sensitivity is known. C^-1 has the same
form with the eigenvalues of diag(lambda) - sqrt(w) sqrt(w)^T as decays, which costs O(rounds) and
not O(rounds^2). L-BFGS-B runs from a few fixed starts; the optimum with one buffer less is one.

Dvijotham, McMahan, Pillutla, Steinke, Thakurta 2024, Efficient and Near-Optimal Noise Generation
for Streaming Differential Privacy; McMahan, Xu, Zhang 2024, A Hassle-free Algorithm for Strong
Differential Privacy in Federated Learning Systems.
"""

import dataclasses
import functools
import math

import numpy as np
from scipy import linalg, optimize, special

from fl_research.argument_checks import require_at_least
from fl_research.errors import InputError
from fl_research.privacy.factorization.participations import most_participations
from fl_research.privacy.factorization.prefix_loss import log_loss_and_gradient

MOST_BUFFERS = 5

_SETTINGS = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-14, "gtol": 1e-8}
_LARGEST_LOGIT = 18.0  # Decays stay 1e-8 away from 0 and 1.
_SMALL_SHARE = 1e-3


@dataclasses.dataclass(frozen=True)
class BufferedStrategy:
    """A Toeplitz matrix C that is given by its buffers.

    Attributes:
      output_weights: w_i, 0 or more, with a sum of at most 1.
      decays: lambda_i, one for each weight, above 0 and below 1.
    """

    output_weights: tuple[float, ...]
    decays: tuple[float, ...]

    def __post_init__(self) -> None:
        weights, decays = self.output_weights, self.decays
        if not weights or len(weights) != len(decays):
            raise InputError(
                f"output_weights={weights!r} and decays={decays!r} do not match; "
                "give as many of the one as of the other, 1 or more"
            )
        if not all(0 < decay < 1 for decay in decays):
            raise InputError(f"decays={decays!r} are not possible; give numbers between 0 and 1")
        if not all(weight >= 0 for weight in weights) or not sum(weights) <= 1:
            raise InputError(
                f"output_weights={weights!r} are not possible; "
                "give numbers of 0 or more with a sum of at most 1"
            )

    def coefficients(self, rounds: int) -> np.ndarray:
        """Returns c_0, c_1, ...: float64[rounds], not negative and not increasing.

        Args:
          rounds: 1 or more.

        Raises:
          InputError: `rounds` is below 1.
        """
        require_at_least("rounds", rounds, 1)
        return np.concatenate([[1.0], sum(self.buffer_coefficients(rounds))])

    def buffer_coefficients(self, rounds: int) -> list[np.ndarray]:
        """Returns what each buffer adds to c_1, c_2, ...: float64[rounds - 1] a buffer."""
        # A running product never rounds up, and so never increases.
        return [
            weight * _powers(decay, rounds - 1)
            for weight, decay in zip(self.output_weights, self.decays, strict=True)
        ]

    def inverse_coefficients(self, rounds: int) -> np.ndarray:
        """Returns the coefficients of C^-1, float64[rounds], in O(rounds)."""
        roots = np.sqrt(self.output_weights)
        decays, vectors = linalg.eigh(np.diag(self.decays) - np.outer(roots, roots))
        inverse = np.zeros(rounds)
        inverse[0] = 1.0
        for decay, weight in zip(decays, (roots @ vectors) ** 2, strict=True):
            inverse[1:] -= weight * _powers(decay, rounds - 1)
        return inverse


def correlated_noise(strategy: BufferedStrategy, z: np.ndarray) -> np.ndarray:
    """Returns C^-1 z, round by round, with a memory of one vector a buffer.

    Args:
      strategy: The matrix C.
      z: float64[rounds, ...], independent noise.
    """
    z = np.asarray(z, np.float64)
    weights, decays = np.array(strategy.output_weights), np.array(strategy.decays)
    buffers = np.zeros((len(weights), *z.shape[1:]))
    x = np.zeros_like(z)
    for t in range(len(z)):
        x[t] = z[t] - np.tensordot(weights, buffers, axes=1)
        buffers = decays.reshape(-1, *[1] * (z.ndim - 1)) * buffers + x[t]
    return x


@functools.lru_cache(maxsize=64)
def optimal_buffers(
    *, rounds: int, buffers: int, max_participations: int | None, min_separation: int
) -> BufferedStrategy:
    """Returns the buffers with the smallest mean prefix error at equal privacy.

    The search is local, from several starts; one more buffer never makes the result worse.

    Args:
      rounds: Rounds of the run, 1 or more.
      buffers: Vectors of memory, from 1 to `MOST_BUFFERS`.
      max_participations: Most rounds with one client, 1 or more; None for no limit.
      min_separation: Rounds from one participation to the next, 1 or more.

    Returns:
      The strategy, slowest decay first.

    Raises:
      InputError: A number is out of range.
    """
    participations = most_participations(
        rounds=rounds, min_separation=min_separation, max_participations=max_participations
    )
    require_at_least("buffers", buffers, 1)
    if buffers > MOST_BUFFERS:
        raise InputError(f"buffers={buffers} are too many; give at most {MOST_BUFFERS}")
    if rounds == 1:
        return BufferedStrategy((0.0,) * buffers, (0.5,) * buffers)  # No round needs the buffers.

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        return _loss_and_gradient(parameters, rounds, participations, min_separation)

    starts = _spread_starts(rounds, min_separation, buffers)
    if buffers > 1:
        fewer = optimal_buffers(
            rounds=rounds,
            buffers=buffers - 1,
            max_participations=max_participations,
            min_separation=min_separation,
        )
        starts += _starts_with_one_more(fewer, rounds)
    results = [
        optimize.minimize(
            loss_and_gradient,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(-40.0, 40.0)] * buffers + [(-_LARGEST_LOGIT, _LARGEST_LOGIT)] * buffers,
            options=_SETTINGS,
        )
        for start in starts
    ]
    return _strategy(min(results, key=lambda result: result.fun).x)


def _powers(decay: float, count: int) -> np.ndarray:
    """1, decay, decay^2, ..., by multiplication."""
    powers = np.full(count, decay)
    powers[:1] = 1.0
    return np.cumprod(powers)


def _strategy(parameters: np.ndarray) -> BufferedStrategy:
    """The strategy of free parameters: logs of weights over the weight left out, decays' logits."""
    logs, logits = np.split(parameters, 2)
    # The factor keeps rounding from lifting the sum above 1.
    weights = special.softmax(np.append(logs, 0.0))[:-1] * (1 - 1e-12)
    decays = special.expit(logits)
    order = np.argsort(-logits, kind="stable")
    return BufferedStrategy(tuple(weights[order].tolist()), tuple(decays[order].tolist()))


def _parameters(weights: np.ndarray, decays: np.ndarray) -> np.ndarray:
    """The free parameters of weights (sum below 1) and decays."""
    left = max(1.0 - weights.sum(), 1e-9)
    logits = np.clip(special.logit(decays), -_LARGEST_LOGIT, _LARGEST_LOGIT)
    return np.concatenate([np.log(np.maximum(weights, 1e-12) / left), logits])


def _loss_and_gradient(
    parameters: np.ndarray, rounds: int, participations: int, min_separation: int
) -> tuple[float, np.ndarray]:
    """The log loss, and its gradient by the free parameters."""
    strategy = _strategy(parameters)
    weights, decays = np.array(strategy.output_weights), np.array(strategy.decays)
    loss, by_column = log_loss_and_gradient(
        strategy.coefficients(rounds),
        strategy.inverse_coefficients(rounds),
        participations=participations,
        min_separation=min_separation,
    )
    steps = np.arange(rounds - 1)
    powers = np.stack([_powers(decay, rounds - 1) for decay in decays])
    by_weight = powers @ by_column[1:]
    by_decay = weights / decays * (powers @ (steps * by_column[1:]))
    by_log = weights * (by_weight - weights @ by_weight)
    by_logit = by_decay * decays * (1 - decays)
    place = np.argsort(np.argsort(-parameters[len(weights) :], kind="stable"))
    return loss, np.concatenate([by_log[place], by_logit[place]])


def _spread_starts(rounds: int, min_separation: int, buffers: int) -> list[np.ndarray]:
    """Starts with memories spread evenly on a log scale, up to the separation and the rounds."""
    starts = []
    for longest in sorted({max(2, min(min_separation, rounds)), max(2, rounds)}):
        shares = (np.arange(buffers) + 0.5) / buffers
        lengths = np.exp(shares * math.log(2.0 * longest))
        weights = 0.5 * lengths**-0.5 / np.sum(lengths**-0.5)
        starts.append(_parameters(weights, 1.0 - 1.0 / (lengths + 1.0)))
    return starts


def _starts_with_one_more(fewer: BufferedStrategy, rounds: int) -> list[np.ndarray]:
    """Starts at an optimum, with one more buffer of little weight and a short or long memory."""
    weights, decays = np.array(fewer.output_weights), np.array(fewer.decays)
    share = np.append(weights * (1 - _SMALL_SHARE), _SMALL_SHARE * weights.sum())
    # As good as the optimum itself: with next to no weight, the new buffer changes nothing.
    none = np.append(weights, 1e-12)
    slower = 1.0 - (1.0 - decays.max()) / 4.0
    faster = decays.min() / 2.0
    middle = special.expit(np.mean(special.logit(np.append(decays, 1.0 - 1.0 / (rounds + 1.0)))))
    starts = [_parameters(share, np.append(decays, new)) for new in (slower, faster, middle)]
    return [*starts, _parameters(none, np.append(decays, 0.5))]
