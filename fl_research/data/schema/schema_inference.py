"""A schema read off the records themselves, for those who have no public one.

Bounds and categories are then properties of private records: an access that no epsilon covers. The
schema is marked as inferred, and the report says so.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fl_research.data.column_names import there_is
from fl_research.data.schema import cells
from fl_research.data.schema.columns import Column
from fl_research.errors import InputError

_FEW_NUMBERS = 12  # Up to so many distinct whole numbers are codes of a category.
_MOST_VALUES = 200
_MISSING_VALUE = "(missing)"
_YES_AND_NO = ({"yes", "no"}, {"true", "false"}, {"1", "0"}, {"y", "n"}, {"t", "f"})
_POSITIVES = {"yes", "true", "1", "y", "t"}


def infer_columns(
    records: pd.DataFrame,
    *,
    label_column: str,
    positive_label: str | None,
    label_levels: Sequence[str] | None = None,
    client_column: str | None,
    drop_columns: Sequence[str],
    missing_values: Sequence[str],
) -> tuple[Column, ...]:
    """Columns whose bounds and values are those of the records.

    A column is a number where all its cells are and they are not all whole or have more than 12
    distinct values, else a category. A missing number stands at the middle of the bounds, a missing
    category is a value of its own, and rows without a label or client are dropped.

    Args:
      records: The table.
      label_column: Name of the label.
      positive_label: The label's value that becomes 1; None: the yes of yes and no.
      label_levels: The label's values in order, where it may have levels instead; empty: all of
        them are numbers. None: it may not.
      client_column: Name of the column that says who a row belongs to; None: each row is one.
      drop_columns: Names of columns to ignore.
      missing_values: Stripped texts that stand for a missing value.

    Raises:
      InputError: A name is not there, or a column has no values or too many.
    """
    named = {"label_column": [label_column], "drop_columns": list(drop_columns)}
    named["client_column"] = [client_column] if client_column is not None else []
    for argument, names in named.items():
        for name in names:
            if name not in records.columns:
                raise InputError(
                    f"{argument}={name!r} is not in the table; {there_is(name, records.columns)}"
                )
    if label_column == client_column or {label_column, client_column} & set(drop_columns):
        raise InputError(
            f"label_column={label_column!r}, client_column={client_column!r} and drop_columns="
            f"{list(drop_columns)} name one column twice; give each column one part"
        )
    columns = []
    for name in records.columns:
        if name == label_column:
            columns.append(
                _label(records[name], name, positive_label, label_levels, missing_values)
            )
        elif name == client_column:
            columns.append(Column(name=name, kind="client", if_missing="drop_row"))
        elif name in drop_columns:
            columns.append(Column(name=name, kind="ignore"))
        else:
            columns.append(_feature(records[name], name, missing_values))
    return tuple(columns)


def label_levels_of(
    column: "pd.Series[Any]", name: str, levels: Sequence[str], missing_values: Sequence[str]
) -> tuple[str, ...]:
    """Returns the values of a label in order.

    Args:
      column: The label.
      name: Its name.
      levels: Its values in order; empty: they are read off, and all are numbers.
      missing_values: Stripped texts that stand for a missing value.

    Raises:
      InputError: A value is none of `levels`, or not a number and without an order.
    """
    values, _ = _values(column, name, missing_values)
    return _levels(name, values, tuple(level.strip() for level in levels))


def _feature(column: "pd.Series[Any]", name: str, missing_values: Sequence[str]) -> Column:
    """A number or a category."""
    numbers = cells.read_numbers(column, missing_values)
    present = numbers.values[~numbers.missing]
    if not present.size:
        raise InputError(f"column {name!r} has no values; drop it (drop_columns)")
    if not numbers.not_a_number.any():
        distinct = np.unique(present)
        coded = len(distinct) <= _FEW_NUMBERS and np.all(distinct == np.floor(distinct))
        if not coded and len(distinct) > 1:
            low, high = float(distinct[0]), float(distinct[-1])
            stand_in: str | float = "error"
            if numbers.missing.any():
                stand_in = low + (high - low) / 2
            return Column(name=name, kind="number", minimum=low, maximum=high, if_missing=stand_in)
    values, any_missing = _values(column, name, missing_values)
    if not any_missing:
        return Column(name=name, kind="category", values=values)
    return Column(
        name=name,
        kind="category",
        values=(*values, _MISSING_VALUE) if _MISSING_VALUE not in values else values,
        if_missing=_MISSING_VALUE,
    )


def _label(
    column: "pd.Series[Any]",
    name: str,
    positive: str | None,
    levels: Sequence[str] | None,
    missing_values: Sequence[str],
) -> Column:
    """The label, with the positive value that was given or that a yes and no tell, or levels."""
    values, any_missing = _values(column, name, missing_values)
    if len(values) < 2:
        raise InputError(
            f"label_column={name!r} does not vary, all labels are {values[0]!r}; give records of "
            "both kinds, or another label column"
        )
    if positive is None and {value.lower() for value in values} in _YES_AND_NO:
        positive = next(value for value in values if value.lower() in _POSITIVES)
    if positive is None and levels is not None:
        values = _levels(name, values, tuple(level.strip() for level in levels))
    elif positive is None or positive.strip() not in values:
        shown = ", ".join(values[:20]) + (" and more" if len(values) > 20 else "")
        raise InputError(
            f"positive_label={positive!r} is none of the values of {name!r}; choose one of {shown}"
        )
    return Column(
        name=name,
        kind="label",
        values=values,
        positive=positive,
        if_missing="drop_row" if any_missing else "error",
    )


def _levels(name: str, values: tuple[str, ...], levels: tuple[str, ...]) -> tuple[str, ...]:
    """The values of a label in order: as they were given, or by size where all are numbers."""
    if not levels and math.isfinite(sum(_by_size(value)[0] for value in values)):
        return values
    unknown = [value for value in values if value not in levels]
    if unknown:
        shown = ", ".join(values[:20]) + (" and more" if len(values) > 20 else "")
        raise InputError(
            f"label_levels={','.join(levels) or None}: {unknown[0]!r} is a value of {name!r} and "
            f"none of them; list all values in order ({shown}), or give positive_label"
        )
    return levels


def _values(
    column: "pd.Series[Any]", name: str, missing_values: Sequence[str]
) -> tuple[tuple[str, ...], bool]:
    """The distinct values in order, numbers by size, and whether any cell is missing."""
    texts = cells.read_texts(column)
    usual = {spellings[0] for spellings in texts.spellings}
    values = usual - set(missing_values)
    if not values:
        raise InputError(f"column {name!r} has no values; drop it (drop_columns)")
    if len(values) > _MOST_VALUES:
        raise InputError(
            f"column {name!r} has {len(values):,} distinct texts, more than {_MOST_VALUES}; drop "
            'it (drop_columns), or give a schema that marks it "client" or "ignore" or lists its '
            "values"
        )
    any_missing = bool((texts.codes < 0).any()) or values != usual
    return tuple(sorted(values, key=_by_size)), any_missing


def _by_size(text: str) -> tuple[float, str]:
    """Sorts numbers by size before other texts."""
    try:
        return (float(text), text)
    except ValueError:
        return (np.inf, text)
