"""Error and sensitivity of noise that a lower-triangular Toeplitz matrix correlates over rounds.

A server wants the prefix sums A x of T rounds' sums x; A is lower-triangular and all ones. The
mechanism releases A (x + C^-1 z): z is independent noise, C has c_0 on its diagonal, c_1 below it
and so on. Privacy is that of z added to C x, so it depends on the largest norm of C times one
client's participations. Coefficients that are not negative and do not increase make early and close
participations the worst: the inner product of columns i < j of C is the sum over t < T - j of
c_t c_(t+j-i), which falls with j and with j - i. Rounds 0, b, 2b, ... have the smallest of both.

Inverses are power series: C^-1 is Toeplitz, with the coefficients of 1 / (c_0 + c_1 x + ...).

Choquette-Choo, Ganesh, McKenna, McMahan, Rush, Thakurta, Xu 2023, (Amplified) Banded Matrix
Factorization; Kalinin and Lampert 2024, Banded Square Root Matrix Factorization for Differentially
Private Model Training (the worst participations); Dvijotham, McMahan, Pillutla, Steinke, Thakurta
2024, Efficient and Near-Optimal Noise Generation for Streaming Differential Privacy; Fichtenberger,
Henzinger, Upadhyay 2023, Constant Matters (the square root of A).
"""

from collections.abc import Sequence

import numpy as np
from scipy import signal

from fl_research.argument_checks import require_at_least
from fl_research.errors import InputError
from fl_research.privacy.factorization.participations import most_participations

Coefficients = Sequence[float] | np.ndarray

INDEPENDENT_NOISE: tuple[float, ...] = (1.0,)
"""Coefficients of the identity: every round has noise of its own, as in DP-FedAvg."""


def square_root_coefficients(rounds: int) -> tuple[float, ...]:
    """Returns the coefficients of the square root of A: binom(2k, k) / 4^k.

    For one participation no Toeplitz matrix has a smaller `max_squared_error`.

    Args:
      rounds: Number of coefficients, 1 or more.

    Raises:
      InputError: `rounds` is below 1.
    """
    require_at_least("rounds", rounds, 1)
    steps = np.arange(1, rounds)
    return tuple(np.concatenate([[1.0], np.cumprod((2 * steps - 1) / (2 * steps))]).tolist())


def squared_sensitivity(
    coefficients: Coefficients,
    *,
    rounds: int,
    max_participations: int | None,
    min_separation: int,
) -> float:
    """Returns the largest squared norm of C times one client's participations.

    With at most `min_separation` coefficients the columns of C in one pattern are orthogonal, and
    this is the number of participations times the sum of squares, less what the last rows cut off.

    Args:
      coefficients: c_0, c_1, ...; those that are left out are zero, those beyond the rounds unused.
      rounds: Rounds of the run, 1 or more.
      max_participations: Most rounds with one client, 1 or more; None for no limit.
      min_separation: Rounds from one participation to the next, 1 or more.

    Returns:
      In units of the squared clip norm.

    Raises:
      InputError: A number is out of range, or the coefficients are negative or increase, so that
        the worst participations are not known.
    """
    column = _checked_column(coefficients, rounds)
    if column.min() < 0 or np.any(np.diff(column) > 0):
        raise InputError(
            f"coefficients={_shown(column)} are negative or increase, and their sensitivity is not "
            "known; give coefficients of 0 or more that do not increase"
        )
    participations = most_participations(
        rounds=rounds, min_separation=min_separation, max_participations=max_participations
    )
    image = participation_image(column, rounds, participations, min_separation)
    return float(image @ image)


def participation_image(
    column: np.ndarray, rounds: int, participations: int, min_separation: int
) -> np.ndarray:
    """Returns C times the indicator of rounds 0, b, 2b, ...: float64[rounds].

    Args:
      column: float64[at most rounds], the first coefficients.
      rounds: Rounds of the run.
      participations: Number of participations, all within the rounds.
      min_separation: The distance b of two of them.
    """
    image = np.zeros(rounds)
    for start in range(0, participations * min_separation, min_separation):
        stop = min(rounds, start + len(column))
        image[start:stop] += column[: stop - start]
    return image


def inverse_coefficients(coefficients: Coefficients, rounds: int) -> np.ndarray:
    """Returns the coefficients of C^-1, float64[rounds].

    Args:
      coefficients: c_0, c_1, ...; c_0 above zero.
      rounds: Rounds of the run, 1 or more.

    Raises:
      InputError: A number is out of range.
    """
    impulse = np.zeros(rounds)
    impulse[:1] = 1.0
    return signal.lfilter([1.0], _checked_column(coefficients, rounds), impulse)


def prefix_errors(coefficients: Coefficients, rounds: int) -> np.ndarray:
    """Returns the variance of the noise on each prefix sum, for z of variance 1.

    Args:
      coefficients: c_0, c_1, ...; c_0 above zero.
      rounds: Rounds of the run, 1 or more.

    Returns:
      float64[rounds], the squared norms of the rows of A C^-1.

    Raises:
      InputError: A number is out of range.
    """
    return np.cumsum(np.square(np.cumsum(inverse_coefficients(coefficients, rounds))))


def mean_squared_error(
    coefficients: Coefficients,
    *,
    rounds: int,
    max_participations: int | None,
    min_separation: int,
) -> float:
    """Returns the mean variance of the prefix sums' noise at equal privacy.

    Equal privacy: z has the variance at which the release is as private as one Gaussian release of
    noise multiplier 1, so the mean of `prefix_errors` is multiplied by `squared_sensitivity`.
    The scale of the coefficients does not matter.

    Args:
      coefficients: c_0, c_1, ..., not negative and not increasing, c_0 above zero.
      rounds: Rounds of the run, 1 or more.
      max_participations: Most rounds with one client, 1 or more; None for no limit.
      min_separation: Rounds from one participation to the next, 1 or more.

    Raises:
      InputError: As in `squared_sensitivity`.
    """
    sensitivity = squared_sensitivity(
        coefficients,
        rounds=rounds,
        max_participations=max_participations,
        min_separation=min_separation,
    )
    return float(prefix_errors(coefficients, rounds).mean()) * sensitivity


def max_squared_error(
    coefficients: Coefficients,
    *,
    rounds: int,
    max_participations: int | None,
    min_separation: int,
) -> float:
    """Returns the largest variance of a prefix sum's noise at equal privacy: that of the last.

    Args and errors are those of `mean_squared_error`.
    """
    sensitivity = squared_sensitivity(
        coefficients,
        rounds=rounds,
        max_participations=max_participations,
        min_separation=min_separation,
    )
    return float(prefix_errors(coefficients, rounds)[-1]) * sensitivity


def correlated_noise(coefficients: Coefficients, z: np.ndarray) -> np.ndarray:
    """Returns C^-1 z, round by round, from the last bands - 1 rounds' noise alone.

    Round t is x_t = (z_t - c_1 x_(t-1) - ... - c_(bands-1) x_(t-bands+1)) / c_0.

    Args:
      coefficients: c_0, c_1, ..., c_(bands-1); c_0 above zero.
      z: float64[rounds, ...], independent noise.

    Raises:
      InputError: A coefficient is not finite, or c_0 is not above zero.
    """
    z = np.asarray(z, np.float64)
    column = _checked_column(coefficients, len(z))
    x = np.zeros_like(z)
    for t in range(len(z)):
        memory = x[max(0, t - len(column) + 1) : t][::-1]
        x[t] = (z[t] - np.tensordot(column[1 : 1 + len(memory)], memory, axes=1)) / column[0]
    return x


def _checked_column(coefficients: Coefficients, rounds: int) -> np.ndarray:
    """The coefficients that matter within the rounds, finite and with c_0 above zero."""
    require_at_least("rounds", rounds, 1)
    column = np.asarray(coefficients, np.float64)
    if column.ndim != 1 or not column.size or not np.all(np.isfinite(column)) or column[0] <= 0:
        raise InputError(
            f"coefficients={_shown(column)} have no inverse; "
            "give a list of finite numbers, the first above 0"
        )
    return column[:rounds]


def _shown(column: np.ndarray) -> str:
    """The first coefficients, as an error names them."""
    shown = ", ".join(f"{value:g}" for value in column.ravel()[:6])
    return f"({shown}{', ...' if column.size > 6 else ''})"
