"""One column in numbers: what kind it is, what is missing, its range or its frequent values."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fl_research.data.schema import cells

MOST_VALUES = 200
"""Up to so many distinct texts are the values of a category."""
_FEW_NUMBERS = 12
_MOST_SHOWN = 5
_WORDS_OF_A_TEXT = 3.0
_DATE = r"\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[ T].*)?"
QUARTILES = (0, 25, 50, 75, 100)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColumnDescription:
    """One column.

    Attributes:
      name: As in the table.
      kind: "number"; "category" (few distinct values, numbers among them where they are few and
        whole); "time"; "text" (many distinct texts of several words); "identifier" (many distinct
        texts); "constant"; "empty".
      missing: Cells that are null or blank.
      distinct: Different values, the missing one not counted.
      quartiles: Of a number: least, 25 %, 50 %, 75 %, most; else empty.
      values: Of a category: all values, numbers by size; else empty.
      frequent: (value, cells) of the most frequent values, where some value repeats.
      first: Of a time: the first one, as text; else None.
      last: The last one.
    """

    name: str
    kind: str
    missing: int
    distinct: int
    quartiles: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    frequent: tuple[tuple[str, int], ...] = ()
    first: str | None = None
    last: str | None = None


def describe_column(
    column: "pd.Series[Any]", name: str, missing_values: Sequence[str]
) -> ColumnDescription:
    """Describes a column.

    Args:
      column: Cells of any type.
      name: The column's name.
      missing_values: Stripped texts that stand for a missing cell.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        return _of_times(column, name, int(column.isna().sum()), int(column.nunique()))
    texts = cells.read_texts(column)
    usual = np.array([spellings[0] for spellings in texts.spellings], dtype=object)
    counts = np.bincount(texts.codes[texts.codes >= 0], minlength=len(usual))
    there = ~np.isin(usual.astype(str), list(missing_values)) & (counts > 0)
    by_text = pd.Series(counts[there]).groupby(usual[there].astype(str)).sum()
    missing = len(column) - int(counts[there].sum())
    facts: dict[str, Any] = {"name": name, "missing": missing, "distinct": len(by_text)}
    if by_text.empty:
        return ColumnDescription(kind="empty", **facts)
    frequent = by_text.sort_values(ascending=False, kind="stable").head(_MOST_SHOWN)
    if frequent.iloc[0] > 1:
        facts["frequent"] = tuple((str(text), int(n)) for text, n in frequent.items())
    if len(by_text) == 1:
        return ColumnDescription(kind="constant", **facts)
    numbers = cells.read_numbers(column, tuple(missing_values))
    if not numbers.not_a_number.any():
        present = numbers.values[~numbers.missing]
        facts["quartiles"] = tuple(np.percentile(present, QUARTILES).tolist())
        distinct = np.unique(present)
        coded = len(distinct) <= _FEW_NUMBERS and bool(np.all(distinct == np.floor(distinct)))
        if not coded:
            return ColumnDescription(kind="number", **facts)
    dates = _as_times(by_text.index)
    if dates is not None:
        return _of_times(dates, name, missing, len(by_text))
    return _of_texts(by_text.index, len(column) - missing, facts)


def _of_texts(texts: pd.Index, cells_there: int, facts: dict[str, Any]) -> ColumnDescription:
    """A column of distinct texts, of which some may spell numbers."""
    all_differ = len(texts) == cells_there > _FEW_NUMBERS
    if len(texts) > MOST_VALUES or all_differ:
        words = float(np.mean(texts.str.split().str.len()))
        return ColumnDescription(
            kind="text" if words >= _WORDS_OF_A_TEXT else "identifier", **facts
        )
    values = tuple(sorted(map(str, texts), key=_by_size))
    return ColumnDescription(kind="category", values=values, **facts)


def _of_times(times: "pd.Series[Any]", name: str, missing: int, distinct: int) -> ColumnDescription:
    """A column of times."""
    if not distinct:
        return ColumnDescription(kind="empty", name=name, missing=missing, distinct=0)
    return ColumnDescription(
        kind="time",
        name=name,
        missing=missing,
        distinct=distinct,
        first=str(times.min()),
        last=str(times.max()),
    )


def _as_times(texts: pd.Index) -> "pd.Series[Any] | None":
    """The texts as times, None unless all are; only dates that read one way count."""
    if not texts.str.fullmatch(_DATE).all():
        return None
    times = pd.to_datetime(pd.Series(texts), format="ISO8601", errors="coerce", utc=True)
    return None if times.isna().any() else times.dt.tz_localize(None)


def _by_size(text: str) -> tuple[float, str]:
    """Sorts numbers by size before other texts."""
    try:
        return (float(text), text)
    except ValueError:
        return (np.inf, text)
