"""Columns that give the label away: copies of it, or what is only known once the label is.

A column that tells the label of nearly every training row is hardly a cause: it is the label under
another name, or was filled in afterwards (a date of cancellation, a reason for leaving). A model
that learns from it looks perfect and is useless. Three signs are looked for:

- A category, or a number of few values: the most frequent label of the *other* rows with the same
  value is right so often that less than 1 % of the errors of always saying the most frequent label
  are left (leave-one-out, so that a column with a value of its own for every row is no copy).
- Any number: it sorts the rows by their labels, with an AUC of 0.999 or more at every step from one
  label to the next higher, or of 0.001 or less at every step.
- One value: where a category has it, 99.9 % of the rows have the same label, though that would be
  next to impossible by chance.

The first two refuse the table unless the user allows them; the third is a note, since honest data
has such values too. The counts come from the training records, which epsilon does not cover.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from fl_research.data.input_columns import InputColumn
from fl_research.errors import InputError

_SHARE = 0.999
_ERRORS_LEFT = 0.01
_FEW_VALUES = 64  # A number with no more distinct values is looked at as a category too.
_FEWEST_ROWS = 5  # Rows without the most frequent label, or there is nothing to copy.
_FEWEST_OF_A_VALUE = 30
_CHANCE = 1e-9
_MOST_LABELS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelCopy:
    """A column, or one value of it, that tells the label.

    Attributes:
      column: The column's name.
      value: The value that tells it; None: the whole column does. `"(none)"` stands for rows
        without any of the column's values.
      share: The share of rows that are told right, or the AUC at the weakest step.
      rows: The rows that this was counted on.
    """

    column: str
    value: str | None
    share: float
    rows: int

    def __str__(self) -> str:
        """One sentence for the report."""
        share = f"{100 * min(self.share, 0.99999):.3g} %" if self.share < 1 else "all"
        if self.value is None:
            return (
                f"column {self.column!r} alone tells the label of {share} of the "
                f"{self.rows:,} training rows"
            )
        return (
            f"{share} of the {self.rows:,} training rows with {self.column}={self.value} have the "
            "same label; if that is only known once the label is, drop the column"
        )


def suspicious_columns(
    inputs: np.ndarray, labels: np.ndarray, columns: Sequence[InputColumn]
) -> list[LabelCopy]:
    """Returns the columns and values that tell the label of training rows, whole columns first.

    Args:
      inputs: float32[rows, inputs], as `schema.encode` gives them.
      labels: int[rows], classes or levels, at most 1,000 distinct ones.
      columns: Which inputs belong together, from `input_columns`.
    """
    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(labels) - counts.max(initial=0) < _FEWEST_ROWS or len(classes) > _MOST_LABELS:
        return []
    of_class = np.zeros([len(codes), len(classes)], np.float32)
    of_class[np.arange(len(codes)), codes] = 1
    whole, values = [], []
    for column in columns:
        some = inputs[:, column.start : column.stop]
        if column.values is None:
            share = _share_told_by_number(some[:, 0], codes, counts)
        else:
            # float32 counts are exact up to 2**24 rows, and nearly so above.
            with_value = np.rint(some.T @ of_class).astype(np.int64)
            table = np.concatenate([with_value, [counts - with_value.sum(axis=0)]])
            share = _share_told_by_values(table)
            if share is None:
                values += _telling_values(column, table)
        if share is not None:
            whole.append(LabelCopy(column=column.name, value=None, share=share, rows=len(labels)))
    return whole + values


def notes_of(copies: Sequence[LabelCopy], *, allowed: bool) -> tuple[str, ...]:
    """Returns what the report and the terminal say of the copies that were found.

    Args:
      copies: From `suspicious_columns`.
      allowed: Whether the user has said that whole columns may tell the label.

    Raises:
      InputError: A whole column tells the label, and that is not allowed.
    """
    whole = [copy for copy in copies if copy.value is None]
    if whole and not allowed:
        raise InputError(
            f"{whole[0]}, so it is a copy of the label or was filled in after it; leave out what "
            f"is not known in time (--drop_columns={','.join(copy.column for copy in whole)}), or "
            "say --allow_label_copies"
        )
    return tuple(f"may give the label away: {copy}" for copy in copies)


def _share_told_by_values(table: np.ndarray) -> float | None:
    """The share of rows whose label the other rows of the same value tell, if it is suspicious.

    Args:
      table: int64[values, labels], rows of each.
    """
    rows, largest = table.sum(), table.max(axis=1)
    second = np.partition(table, -2, axis=1)[:, -2]
    # Without the row itself its label must still be ahead; a tie is no answer.
    told = largest[largest - 1 > second].sum()
    wrong_without = rows - table.sum(axis=0).max()
    return float(told / rows) if rows - told < _ERRORS_LEFT * wrong_without else None


def _share_told_by_number(
    number: np.ndarray, codes: np.ndarray, counts: np.ndarray
) -> float | None:
    """The share of rows whose label a number tells, or its AUC, if it is suspicious."""
    ranks = stats.rankdata(number)
    # Rows with the highest codes: all above a step from one label to the next.
    above = np.cumsum(counts[::-1])[-2::-1].astype(np.float64)
    rank_sum = np.cumsum(np.bincount(codes, ranks, len(counts))[::-1])[-2::-1]
    areas = (rank_sum - above * (above + 1) / 2) / (above * (len(codes) - above))
    weakest = max(areas.min(), 1 - areas.max())
    distinct, places = np.unique(ranks, return_inverse=True)
    if len(distinct) <= _FEW_VALUES:
        table = np.bincount(places * len(counts) + codes, minlength=len(distinct) * len(counts))
        share = _share_told_by_values(table.reshape(len(distinct), len(counts)))
        if share is not None:
            return share
    return float(weakest) if weakest >= _SHARE else None


def _telling_values(column: InputColumn, table: np.ndarray) -> list[LabelCopy]:
    """The values whose rows nearly all have one label, where chance does not explain it."""
    found = []
    labels = table.sum(axis=0)
    for value, counts in zip((*(column.values or ()), "(none)"), table, strict=True):
        rows = int(counts.sum())
        label = int(np.argmax(counts))
        others = int(labels.sum()) - rows
        if rows < _FEWEST_OF_A_VALUE or counts[label] < _SHARE * rows or not others:
            continue
        # One more of each label, so that a label that only this value has is no certainty.
        elsewhere = (labels[label] - counts[label] + 1) / (others + 2)
        if rows * math.log(elsewhere) < math.log(_CHANCE):
            share = float(counts[label] / rows)
            found.append(LabelCopy(column=column.name, value=value, share=share, rows=rows))
    return found
