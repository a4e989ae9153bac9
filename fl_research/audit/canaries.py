"""Canary directions, and how far the cosine of a canary that took no part strays from zero.

A canary is a client whose update points in a random direction. What is released without it knows
nothing of that direction, so the cosine between the two has a law that is known whatever the
release is. Two kinds of directions:

* "sphere": uniform on the unit sphere. The square of the cosine has a Beta(1/2, (d - 1)/2) law,
  whatever the release; the cosine has mean 0 and variance 1/d exactly, and sqrt(d) times it tends
  to the standard normal law.
* "rademacher": independent signs divided by sqrt(d), which need one bit a coordinate. Mean 0 and
  variance 1/d are exact too, the normal law is again the limit if no few coordinates carry the
  release, but the tail depends on the release. Two bounds of it hold for every release and every d:
  Hoeffding 1963, P(sqrt(d) cosine >= t) <= exp(-t²/2), and Bentkus and Dzindzalieta 2015, at most
  3.178 times the standard normal tail, the least such factor.

The largest cosine over several rounds passes a threshold with at most as many times the
probability (union bound), also if the rounds depend on each other.

Andrew et al. 2023, One-shot Empirical Privacy Estimation for Federated Learning
(arXiv:2302.03098); Bentkus and Dzindzalieta 2015, A tight Gaussian bound for weighted sums of
Rademacher random variables.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import special

from fl_research.argument_checks import require_at_least, require_choice
from fl_research.errors import InputError
from fl_research.randomness import generator

DIRECTIONS = ("sphere", "rademacher")

# 1 / (4 P(standard normal >= sqrt(2))), rounded up.
_RADEMACHER_FACTOR = 3.1788
# Below this the incomplete beta function loses digits and then underflows.
_SMALLEST_EXACT = 1e-250


def canary_signs(seed: int, index: int, dimension: int) -> np.ndarray:
    """Returns the signs of one Rademacher canary, a pure function of the arguments.

    Args:
      seed: The run's seed, not negative.
      index: The canary's number, not negative.
      dimension: Coordinates of the model, 1 or more.

    Returns:
      int8[dimension] of -1 and 1; divided by sqrt(dimension) a unit vector.
    """
    require_at_least("seed", seed, 0)
    require_at_least("index", index, 0)
    require_at_least("dimension", dimension, 1)
    packed = generator(seed, "audit_canary", index).integers(
        0, 256, (dimension + 7) // 8, dtype=np.uint8
    )
    return 2 * np.unpackbits(packed, count=dimension).astype(np.int8) - 1


def rademacher_chunks(
    seed: int, indices: Sequence[int], dimension: int, rows_per_chunk: int = 16
) -> Iterator[np.ndarray]:
    """Yields unit canaries in order, float32[at most rows_per_chunk, dimension] at a time.

    Args:
      seed: The run's seed, not negative.
      indices: The canaries' numbers.
      dimension: Coordinates of the model, 1 or more.
      rows_per_chunk: 1 or more.
    """
    require_at_least("rows_per_chunk", rows_per_chunk, 1)
    scale = np.float32(1 / np.sqrt(dimension))
    for start in range(0, len(indices), rows_per_chunk):
        chunk = indices[start : start + rows_per_chunk]
        yield np.stack([canary_signs(seed, index, dimension) * scale for index in chunk])


def log_false_positive_rate(
    threshold: np.ndarray | float,
    *,
    dimension: int,
    directions: str = "sphere",
    rounds: int = 1,
) -> np.ndarray:
    """Returns the log of a bound on P(cosine > threshold) of a canary that took no part.

    For one round and "sphere" it is the probability itself, until it is too small for a float64
    (1e-250), where half the bound (1 - threshold²)^((d - 1)/2) takes its place. It assumes nothing
    of the release.

    Args:
      threshold: Cosines from 0 to 1, both included.
      dimension: Coordinates of the release, 2 or more.
      directions: One of `DIRECTIONS`.
      rounds: How many releases the largest cosine is taken of, 1 or more.

    Returns:
      float64 of the shape of `threshold`, 0 or less.

    Raises:
      InputError: An argument is out of its range.
    """
    require_at_least("dimension", dimension, 2)
    require_choice("directions", directions, DIRECTIONS)
    require_at_least("rounds", rounds, 1)
    threshold = np.asarray(threshold, np.float64)
    if not np.all((threshold >= 0) & (threshold <= 1)):
        raise InputError(f"threshold={threshold} is not possible; give cosines from 0 to 1")
    tail = _sphere_tail if directions == "sphere" else _rademacher_tail
    return np.minimum(tail(threshold, dimension) + np.log(rounds), 0.0)


def _sphere_tail(threshold: np.ndarray, dimension: int) -> np.ndarray:
    """Log of the share of a sphere that lies beyond a cosine."""
    shape = (dimension - 1) / 2
    share = special.betainc(shape, 0.5, (1 - threshold) * (1 + threshold)) / 2
    with np.errstate(divide="ignore"):
        # Beta(a, 1/2) is stochastically larger than Beta(a, 1), whose distribution function is x^a.
        bound = np.log(0.5) + shape * (np.log1p(-threshold) + np.log1p(threshold))
        return np.where(share > _SMALLEST_EXACT, np.log(share), bound)


def _rademacher_tail(threshold: np.ndarray, dimension: int) -> np.ndarray:
    """Log of the least of three bounds for signs: symmetry, Hoeffding, Bentkus-Dzindzalieta."""
    score = threshold * np.sqrt(dimension)
    normal = np.log(_RADEMACHER_FACTOR) + special.log_ndtr(-score)
    return np.minimum(np.log(0.5), np.minimum(-(score**2) / 2, normal))
