"""Order lines: who bought what, when and for how much, out of any table of sales.

A line belongs to a customer and to an order, has a time and an amount. An amount above zero is a
purchase; one below zero takes a purchase back (a cancellation, a return); zero is neither. Lines
without a customer say nothing of anybody and are left out, and counted. Lines of one customer with
the same order number are one order; where the table has no order numbers, lines of the same moment
are.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fl_research.data.column_names import there_is
from fl_research.data.schema import cells
from fl_research.errors import InputError

_MISSING_TEXTS = ("",)
_ZONE = r":\d\d(?::\d\d(?:\.\d+)?)?\s*(?:Z|[+-]\d\d(?::?\d\d)?)$"
_NO_DATE = "is no date; write dates as 2011-12-09, with a time as 2011-12-09 12:50:00"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OrderColumns:
    """The columns of a table of sales.

    Attributes:
      customer: Who bought.
      time: When, as dates or date and time by ISO 8601.
      amount: What the line was worth, in any one currency.
      order: The order's number; None: lines of the same moment are one order.
      item: What was bought; None: not known.
      group: What a customer belongs to, such as a country or a department; None: nothing.
    """

    customer: str
    time: str
    amount: str
    order: str | None = None
    item: str | None = None
    group: str | None = None

    def to_dict(self) -> dict[str, str | None]:
        """Plain JSON; `OrderColumns(**columns.to_dict())` gives it back."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class OrderLines:
    """The lines of known customers, in the table's order.

    Attributes:
      frame: Columns `customer` (text), `time` (datetime64), `amount` (float64), `order` and `item`
        (whole numbers that stand for distinct ones; `item` 0 where unknown) and, where the table
        has one, `group` (text).
      cleaning: "lines read", how many each rule left out, "lines kept".
    """

    frame: pd.DataFrame
    cleaning: Mapping[str, int]


def read_order_lines(records: pd.DataFrame, columns: OrderColumns) -> OrderLines:
    """Returns the order lines of a table.

    Args:
      records: A row a line, columns of any type.
      columns: Their names.

    Raises:
      InputError: A column is not there, the table is empty, no line has a customer, or a time or
        amount of a line that has one is missing or unreadable; names column, row and value.
    """
    names = {part: name for part, name in columns.to_dict().items() if name is not None}
    for part, name in names.items():
        if name not in records.columns:
            raise InputError(
                f"the table has no column {name!r} for the {part} of an order line; "
                f"{there_is(name, map(str, records.columns))}"
            )
    if records.empty:
        raise InputError("the table of order lines is empty; give lines")
    customer, known = _texts(records[columns.customer])
    if not known.any():
        raise InputError(
            f"column {columns.customer!r} names no customer in any of {len(records):,} lines; name "
            "another column"
        )
    records = records[known].reset_index()  # keeps the number of the row, for messages
    frame = pd.DataFrame({"customer": customer[known]})
    frame["time"] = read_times(records[columns.time], records["index"])
    frame["amount"] = _amounts(records[columns.amount], records["index"])
    order = frame["time"] if columns.order is None else records[columns.order].astype(str)
    frame["order"] = pd.factorize(order)[0]
    frame["item"] = 0 if columns.item is None else pd.factorize(records[columns.item])[0]
    if columns.group is not None:
        group, has_group = _texts(records[columns.group])
        if not has_group.all():
            raise _wrong_cell(columns.group, records["index"], ~has_group, records, "is missing")
        frame["group"] = group
    left_out = int((~known).sum())
    rules = {f"{columns.customer}: missing -> line left out": left_out} if left_out else {}
    return OrderLines(
        frame=frame,
        cleaning={"lines read": len(known), **rules, "lines kept": len(frame)},
    )


def read_times(column: "pd.Series[Any]", row_numbers: "pd.Series[int]") -> "pd.Series[Any]":
    """Returns dates and times as `datetime64[ns]`; those with a zone in UTC.

    Args:
      column: Texts by ISO 8601, or times of a typed source.
      row_numbers: The number of each row in its table, from 0, for the message.

    Raises:
      InputError: A cell is missing or no date. Plain numbers are refused: whether they count
        seconds, days or something else is not written on them. So are 12/1/2010 and the like,
        which are two different days to different readers.
    """

    def refuse(wrong: np.ndarray, problem: str) -> None:
        if wrong.any():
            raise _wrong_cell(str(column.name), row_numbers, wrong, column.to_frame(), problem)

    if pd.api.types.is_numeric_dtype(column):
        refuse(np.ones(len(column), dtype=bool), _NO_DATE)
    if column.dtype != object:
        refuse(column.isna().to_numpy(), _NO_DATE)
        return pd.to_datetime(column, utc=True).dt.tz_localize(None)
    texts = column.astype(str).str.strip()
    # A year alone, or 20111209, is a number to most readers.
    refuse(texts.str.fullmatch(r"\d*").to_numpy(dtype=bool), _NO_DATE)
    zoned = texts.str.contains(_ZONE).to_numpy(dtype=bool)
    if zoned.any():
        refuse(~zoned, "has no time zone, though other rows have one; give all rows one, or none")
    times = pd.to_datetime(texts, format="ISO8601", errors="coerce", utc=True).dt.tz_localize(None)
    refuse(times.isna().to_numpy(), _NO_DATE)
    return times


def _texts(column: "pd.Series[Any]") -> tuple[np.ndarray, np.ndarray]:
    """The cells as stripped texts, objects [rows], and which of them are there, bool [rows]."""
    texts = cells.read_texts(column)
    usual = [spellings[0] for spellings in texts.spellings]
    values = texts.per_row(np.array(usual, dtype=object), None)
    there = texts.per_row(np.array([text not in _MISSING_TEXTS for text in usual], bool), False)
    return values, there.astype(bool)


def _amounts(column: "pd.Series[Any]", row_numbers: "pd.Series[int]") -> np.ndarray:
    """The amounts, float64 [rows], all finite."""
    numbers = cells.read_numbers(column, _MISSING_TEXTS)
    wrong = ~np.isfinite(numbers.values)
    if wrong.any():
        raise _wrong_cell(
            str(column.name), row_numbers, wrong, column.to_frame(), "is no amount; give a number"
        )
    return numbers.values


def _wrong_cell(
    name: str,
    row_numbers: "pd.Series[int]",
    wrong: np.ndarray,
    records: pd.DataFrame,
    problem: str,
) -> InputError:
    """An error about the first wrong cell of a column."""
    first = int(np.flatnonzero(wrong)[0])
    shown = repr(records[name].iloc[first])
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    row = int(row_numbers.iloc[first]) + 1
    return InputError(f"column {name!r}, row {row} (the header not counted): {shown} {problem}")
