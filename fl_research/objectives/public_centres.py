"""Centres to start k-means from, drawn from public bounds and categories, never from records.

The centres lie in the middle of the public domain: a category half-way between equal shares and
one value, a number within half of its bounds in one start and within a tenth in the next, in turn.
Wide starts find segments that differ in numbers; narrow ones do not lose a segment to a number that
is nearly always at one of its bounds. Each centre is, of random candidates, the one that is
farthest from all before it, so that the centres spread out as packed spheres do, without lying at
corners of the domain where there is no customer and a segment would stay empty.

Paper: Su, Cao, Li, Bertino and Jin 2016, "Differentially Private K-Means Clustering" (sphere
packing for the start).
"""

from collections.abc import Sequence

import numpy as np

from fl_research import randomness
from fl_research.data.schema import Column

_CANDIDATES = 50
_SHARES_OF_BOUNDS = (0.5, 0.1)
_SHARE_OF_ONE_VALUE = 0.5


def public_centres(
    columns: Sequence[Column], *, segments: int, restarts: int, seed: int
) -> np.ndarray:
    """Returns float32 `[restarts, segments, features]` on the scale of encoded records.

    Args:
      columns: The schema's number and category columns, in order.
      segments: Centres of one start, at least 1.
      restarts: How many starts, at least 1.
      seed: Of the candidates.
    """
    generator = randomness.generator(seed, "public_centres")
    starts = []
    for restart in range(restarts):
        reach = _SHARES_OF_BOUNDS[restart % len(_SHARES_OF_BOUNDS)]
        chosen = _candidates(columns, 1, reach, generator)
        while len(chosen) < segments:
            candidates = _candidates(columns, _CANDIDATES, reach, generator)
            distance = np.square(candidates[:, None] - chosen[None]).sum(axis=-1).min(axis=1)
            chosen = np.concatenate([chosen, candidates[[int(np.argmax(distance))]]])
        starts.append(chosen)
    return np.stack(starts).astype(np.float32)


def _candidates(
    columns: Sequence[Column], number: int, reach: float, generator: np.random.Generator
) -> np.ndarray:
    """Draws points `[number, features]`, their numbers within this share of the bounds."""
    parts = []
    for column in columns:
        width = len(column.feature_names)
        if column.kind == "number":
            part = generator.uniform(-reach, reach, (number, 1))
        else:
            part = np.full((number, width), (1 - _SHARE_OF_ONE_VALUE) / width)
            part[np.arange(number), generator.integers(width, size=number)] += _SHARE_OF_ONE_VALUE
        parts.append(part)
    return np.concatenate(parts, axis=1)
