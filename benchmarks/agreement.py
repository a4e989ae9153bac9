"""Whether two systems do the same work: their weights after one round without noise.

The clip norm of the check lies among the norms of the clients' updates, so that a system that
clips wrongly disagrees as well as one that trains, sums or divides differently. Systems differ in
the order of their sums in float32; a wrong batch, learning rate, clip or divisor moves the update
by far more than the tolerance.
"""

import math
from collections.abc import Mapping

import numpy as np

TOLERANCE = 1e-4  # of the norm of the mean update


def disagreement(
    found: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    initial: Mapping[str, np.ndarray],
) -> str | None:
    """Returns what is wrong with a system's weights, None if nothing is.

    Args:
      found: Canonical name to weights after the round, of the system.
      expected: The same of the system that it is compared with.
      initial: The weights before the round.
    """
    shapes = {name: np.shape(values) for name, values in found.items()}
    expected_shapes = {name: values.shape for name, values in expected.items()}
    if shapes != expected_shapes:
        return f"its weights are {shapes}, expected {expected_shapes}"
    distance = _norm({name: found[name] - expected[name] for name in expected})
    update = _norm({name: expected[name] - initial[name] for name in expected})
    if not distance <= TOLERANCE * update:  # also where it is not a number
        return (
            f"after one round without noise its weights are off by {distance / update:.2g} of the "
            f"norm of the update, more than the tolerance {TOLERANCE:g}: it does other work"
        )
    return None


def _norm(arrays: Mapping[str, np.ndarray]) -> float:
    """Returns the L2 norm of all values together, summed in float64."""
    return math.sqrt(sum(float(np.sum(np.square(a, dtype=np.float64))) for a in arrays.values()))
