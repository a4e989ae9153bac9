"""The adjusted Rand index of two groupings, from the table of how often their groups meet.

It is the share of pairs of rows on which the groupings agree, less what chance would give; 1 is
the same grouping, 0 chance. The table adds up over clients, so no client's groups are needed.

Paper: Hubert and Arabie 1985, "Comparing partitions".
"""

import math
from typing import Any

import numpy as np


def adjusted_rand_index(contingency: Any) -> float:
    """Returns the index; NaN for fewer than two rows.

    Args:
      contingency: Counts `[groups of one, groups of the other]`.
    """
    table = np.asarray(contingency, np.float64)
    rows = table.sum()
    if rows < 2:
        return math.nan
    together = _pairs(table).sum()
    one, other = _pairs(table.sum(axis=1)).sum(), _pairs(table.sum(axis=0)).sum()
    expected = one * other / _pairs(rows)
    most = (one + other) / 2
    # Both groupings put all rows together, or each row alone.
    return 1.0 if most == expected else float((together - expected) / (most - expected))


def _pairs(counts: Any) -> Any:
    """How many pairs so many rows make."""
    return counts * (counts - 1) / 2
