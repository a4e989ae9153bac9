"""Checks and counts of rows of plain arrays, before they become clients' records."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fl_research.errors import InputError

_CHUNK_VALUES = 1 << 22  # values looked at in one go, so that a memory map is never read whole
_MANY_LABELS = 1 << 20


def check_lengths(features: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
    """Raises InputError where a feature has another number of rows than the labels."""
    for name, values in features.items():
        if len(values) != len(labels):
            raise InputError(
                f"feature {name!r} has {len(values)} rows, labels has {len(labels)}; "
                "give arrays of one length"
            )


def check_finite(name: str, values: np.ndarray, *, first_row: int = 0) -> None:
    """Raises InputError at the first NaN or infinity, reading the array in pieces.

    Args:
      name: What the array is called in the message.
      values: `[rows, ...]`.
      first_row: The number of the array's first row, where it is a piece of a longer one.
    """
    if values.dtype.kind not in "fc":
        return
    step = max(1, _CHUNK_VALUES * len(values) // max(values.size, 1))
    for start in range(0, len(values), step):
        finite = np.isfinite(values[start : start + step])
        if not finite.all():
            row = first_row + start + int(np.argwhere(~finite)[0][0])
            raise InputError(
                f"{name!r} has a value that is NaN or infinite in row {row}; fill or drop it "
                "(if_missing in the schema)"
            )


def count_labels(labels: np.ndarray) -> dict[Any, int]:
    """Returns how many rows each label has, by rising label, as plain Python values."""
    if labels.dtype.kind in "iu" and labels.ndim == 1 and labels.size:
        lowest, highest = int(labels.min()), int(labels.max())
        if lowest >= 0 and highest < _MANY_LABELS:  # No sort, which takes seconds for 20M rows.
            counts = np.bincount(labels)
            return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
