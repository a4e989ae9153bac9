"""A schema to begin with, from the description of a table: every column gets a kind.

Bounds and values are those of the records. The schema is therefore marked as inferred, which a
report repeats: no ε covers them. Who puts public bounds and values in their place may take the mark
away.
"""

from collections.abc import Collection

from fl_research.data.column_description import ColumnDescription
from fl_research.data.description import Description
from fl_research.data.schema import Column, Schema
from fl_research.errors import InputError

_MISSING_VALUE = "(missing)"
_POSITIVES = ("yes", "true", "1", "y", "t")
_YES_AND_NO = ({"yes", "no"}, {"true", "false"}, {"1", "0"}, {"y", "n"}, {"t", "f"})


def suggest_schema(description: Description, ignored: Collection[str] = ()) -> Schema:
    """Returns a schema that encodes the table as it is.

    Numbers and categories become features, times, texts, identifiers, constants and empty columns
    are ignored. A missing number stands at the middle of its bounds, a missing category is a value
    of its own, rows without label or client are dropped.

    Args:
      description: Of the table, with its label.
      ignored: Columns that are no features, such as that of an official split.

    Raises:
      InputError: There is no label, it does not vary or is no class, or no column can be a feature.
    """
    label = description.label
    if label is None:
        raise InputError("a schema needs a label; give --label_column")
    if label.kind != "classes" or label.num_classes < 2:
        what = "is a number" if label.kind == "number" else "does not vary"
        raise InputError(
            f"label_column={label.column!r} {what}; a schema describes labels of 2 classes or more"
        )
    client = description.clients.column if description.clients else None
    columns = []
    for column in description.columns:
        if column.name == label.column:
            columns.append(_label(column))
        elif column.name == client:
            drops = description.clients is not None and description.clients.rows_without > 0
            columns.append(
                Column(name=column.name, kind="client", if_missing="drop_row" if drops else "error")
            )
        elif column.name in ignored:
            columns.append(Column(name=column.name, kind="ignore"))
        else:
            columns.append(_feature(column))
    return Schema(columns=tuple(columns), inferred=True)


def _feature(column: ColumnDescription) -> Column:
    """A number, a category, or nothing to learn from."""
    if column.kind == "number":
        low, high = column.quartiles[0], column.quartiles[-1]
        if column.missing:
            middle = low + (high - low) / 2
            return Column(
                name=column.name, kind="number", minimum=low, maximum=high, if_missing=middle
            )
        return Column(name=column.name, kind="number", minimum=low, maximum=high)
    if column.kind == "category":
        if not column.missing:
            return Column(name=column.name, kind="category", values=column.values)
        values = tuple(value for value in column.values if value != _MISSING_VALUE)
        return Column(
            name=column.name,
            kind="category",
            values=(*values, _MISSING_VALUE),
            if_missing=_MISSING_VALUE,
        )
    return Column(name=column.name, kind="ignore")


def _label(column: ColumnDescription) -> Column:
    """The label, with the yes of yes and no as what counts as 1."""
    values = column.values
    if not values:
        raise InputError(
            f"label_column={column.name!r} looks like {column.kind}, not like classes; name another"
        )
    positive = None
    if {value.lower() for value in values} in _YES_AND_NO:
        positive = next(value for value in values if value.lower() in _POSITIVES)
    return Column(
        name=column.name,
        kind="label",
        values=values,
        positive=positive,
        if_missing="drop_row" if column.missing else "error",
    )
