"""Which inputs of a model belong to which column of a table: a category has one for each value."""

import dataclasses

from fl_research.data.schema import Schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputColumn:
    """One column of a table as inputs of a model.

    Attributes:
      name: The column's name.
      start: Its first input.
      stop: One past its last input.
      values: The value that each of its inputs stands for; None: it is a number, of one input.
    """

    name: str
    start: int
    stop: int
    values: tuple[str, ...] | None = None


def input_columns(schema: Schema) -> tuple[InputColumn, ...]:
    """Returns the columns that become inputs, in the order of the inputs.

    Args:
      schema: The schema that the table is encoded by.
    """
    columns: list[InputColumn] = []
    start = 0
    for column in schema.columns:
        stop = start + len(column.feature_names)
        if stop > start:
            values = column.values if column.kind == "category" else None
            columns.append(InputColumn(name=column.name, start=start, stop=stop, values=values))
        start = stop
    return tuple(columns)
