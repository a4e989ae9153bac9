"""The cosines of canaries summed by a Gaussian mechanism, drawn from their joint law.

k canaries c_1 .. c_k, uniform on the unit sphere in d dimensions, are added up and normal noise of
standard deviation s is put on each coordinate; the cosine of each with the sum is wanted. Drawing
the vectors takes k d numbers. But the cosines depend on lengths and angles alone, and those have a
law that needs only about k²/2 numbers, without any approximation:

1. k standard normal vectors in d dimensions are, up to a rotation, the rows of a lower triangular
   matrix: independent standard normals below the diagonal, and on it, in row i from 0, the root of
   a chi-square variable with d - i degrees of freedom (Bartlett 1933). Divided by their lengths,
   the rows are the canaries, written in k coordinates.
2. The noise in these k coordinates is standard normal times s; outside of them only its length
   matters, s times the root of a chi-square variable with d - k degrees of freedom.

Bartlett 1933, On the theory of statistical regression; the experiment is the Gaussian mechanism of
Andrew et al. 2023 (arXiv:2302.03098).
"""

import numpy as np

from fl_research.argument_checks import require_at_least, require_not_negative
from fl_research.errors import InputError


def simulated_cosines(
    random: np.random.Generator, *, canaries: int, dimension: int, noise_std: float
) -> np.ndarray:
    """Draws the cosines of all canaries with their noised sum, once.

    Args:
      random: Where the numbers come from.
      canaries: k, 1 or more; each has length 1.
      dimension: d, more than k.
      noise_std: Standard deviation of the noise on each coordinate of the sum, 0 or more.

    Returns:
      float64[k], exchangeable, with the joint law of the vectors themselves.

    Raises:
      InputError: An argument is out of its range.
    """
    require_at_least("canaries", canaries, 1)
    require_not_negative("noise_std", noise_std)
    require_at_least("dimension", dimension, 2)
    if dimension <= canaries:
        raise InputError(f"dimension={dimension} is too small; give more than canaries={canaries}")
    rows = np.tril(random.standard_normal((canaries, canaries)), -1)
    rows[np.diag_indices(canaries)] = np.sqrt(random.chisquare(dimension - np.arange(canaries)))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    released = rows.sum(axis=0) + noise_std * random.standard_normal(canaries)
    outside = noise_std**2 * random.chisquare(dimension - canaries)
    return rows @ released / np.sqrt(released @ released + outside)
