"""The loss that strategies are optimised for, with its gradient by the coefficients.

The loss is the log of the mean prefix error at equal privacy: log E + log S. With g = 1 / ((1 - x)
c(x)) as a power series, round t's error is g_0^2 + ... + g_t^2, so E = sum_t (1 - t / T) g_t^2. A
change dc of the coefficients moves g by -(h * dc), where h = g / c(x) and * is a convolution; the
gradient of E is thus a correlation with h. S is the squared sensitivity for participations at
rounds 0, b, 2b, ..., a quadratic form. Convolutions are Fourier transforms.

Dvijotham, McMahan, Pillutla, Steinke, Thakurta 2024, Efficient and Near-Optimal Noise Generation
for Streaming Differential Privacy.
"""

import numpy as np
from scipy import signal

from fl_research.privacy.factorization.toeplitz import participation_image


def log_loss_and_gradient(
    column: np.ndarray, inverse: np.ndarray, *, participations: int, min_separation: int
) -> tuple[float, np.ndarray]:
    """Returns the log of the mean squared prefix error at equal privacy, and its gradient.

    Args:
      column: float64[bands], the coefficients of C, bands at most rounds; not negative, not
        increasing.
      inverse: float64[rounds], the coefficients of C^-1.
      participations: Most participations of one client, all within the rounds.
      min_separation: Rounds from one participation to the next.

    Returns:
      The loss, and float64[bands].
    """
    rounds, bands = len(inverse), len(column)
    weights = 1.0 - np.arange(rounds) / rounds
    prefix = np.cumsum(inverse)
    error = float(weights @ prefix**2)
    response = signal.fftconvolve(prefix, inverse)[:rounds]
    slope = signal.fftconvolve(2 * weights * prefix, response[::-1])
    error_gradient = -slope[rounds - 1 : rounds - 1 + bands]

    image = participation_image(column, rounds, participations, min_separation)
    squared_sensitivity = float(image @ image)
    sensitivity_gradient = np.zeros(bands)
    for start in range(0, participations * min_separation, min_separation):
        piece = image[start : start + bands]
        sensitivity_gradient[: len(piece)] += 2 * piece

    loss = np.log(error) + np.log(squared_sensitivity)
    return loss, error_gradient / error + sensitivity_gradient / squared_sensitivity
