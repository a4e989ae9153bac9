"""Records in time into a panel: one value a client and period, regular, without gaps.

A record is (client, time, value, covariates). Values of a period are added up. A client's row
starts with the period of its first record and goes on to the last whole period of the data, which
is the same for all: a period without a record is a zero, as when nothing was bought. Covariates
are averaged over a period; where a period has none, the last known one of the client stays (zero
before there is any), so that nothing comes from the future.

Weeks begin on Monday. A week or month that the data covers in part, at its start or end, is left
out, except where every record stands on the same day of its week or month (or on the last of the
month): then the records are one a period already. Days all count as whole.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fl_research.argument_checks import require_choice
from fl_research.data.column_names import there_is
from fl_research.data.schema.cells import read_numbers
from fl_research.errors import InputError

PERIODS = ("day", "week", "month")
MAX_PERIODS = 10_000
_MONDAY = np.datetime64("1970-01-05", "D")
_LONGEST = {"day": 1, "week": 7, "month": 31}
_DATE = re.compile(r"\d{4}-?\d{2}-?\d{2}([ T]\d{2}:\d{2}.*)?")
# Records in rhythm: so many gaps, of which the longest is at most so many times the shortest.
_GAPS_OF_A_RHYTHM, _RHYTHM = 5, 1.25


@dataclasses.dataclass(frozen=True, kw_only=True)
class PanelConfig:
    """Which columns there are and how time is cut.

    Attributes:
      client_column: Names the client of a record.
      time_column: Date or time, as a date type or as text such as 2011-12-09 or
        2011-12-09 12:50:00.
      value_column: A number; the values of a client and period are added up.
      covariate_columns: Further numbers, averaged over a client and period.
      period: `day`, `week` or `month`.

    Raises:
      InputError: An unknown period, or a column in two roles.
    """

    client_column: str
    time_column: str
    value_column: str
    covariate_columns: tuple[str, ...] = ()
    period: str = "week"

    def __post_init__(self) -> None:
        require_choice("period", self.period, PERIODS)
        object.__setattr__(self, "covariate_columns", tuple(self.covariate_columns))
        columns = [self.client_column, self.time_column, self.value_column]
        columns += self.covariate_columns
        twice = sorted({name for name in columns if columns.count(name) > 1})
        if twice:
            raise InputError(
                f"the column {twice[0]!r} is named in two roles (client, time, value, covariate); "
                "name each column once"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """One value a client and period.

    Attributes:
      client_ids: [clients], text, sorted.
      starts: datetime64[D] [periods], the first day of each.
      numbers: int64 [periods], the number of each in the calendar, the same for any records.
      values: float64 [clients, periods]; zero before a client's first period too.
      covariates: float64 [clients, periods, columns].
      first: int64 [clients], the period of each client's first record.
      cleaning: How many records or clients each rule acted on.
    """

    client_ids: np.ndarray
    starts: np.ndarray
    numbers: np.ndarray
    values: np.ndarray
    covariates: np.ndarray
    first: np.ndarray
    cleaning: Mapping[str, int]

    @property
    def num_periods(self) -> int:
        """How many whole periods there are."""
        return len(self.starts)


def build_panel(records: pd.DataFrame, config: PanelConfig) -> Panel:
    """Returns the panel of records.

    Args:
      records: One row an event, or one a client and period, in any order.
      config: Columns and period.

    Raises:
      InputError: A column is missing, a cell is no date, number or client, the records come in a
        rhythm that is longer than the period, or no whole period is there.
    """
    clients = _clients(records, config.client_column)
    days = _days(records, config.time_column)
    value = _numbers(records, config.value_column)
    covariates = [_numbers(records, name) for name in config.covariate_columns]
    names, client = np.unique(clients, return_inverse=True)
    _refuse_longer_rhythm(client, days, config)
    period = _period_of(days, config.period)
    low, high = _whole_periods(days, period, config)
    inside = (period >= low) & (period <= high)
    first = np.full(len(names), np.iinfo(np.int64).max)
    np.minimum.at(first, client, period)
    seen = np.bincount(client[inside], minlength=len(names)) > 0
    # Renumbered: only clients with a record in a whole period stay.
    row = (np.cumsum(seen) - 1)[client[inside]]
    shape = (int(seen.sum()), int(high - low + 1))
    cell = row * shape[1] + (period[inside] - low)
    values = np.bincount(cell, weights=value[inside], minlength=shape[0] * shape[1])
    means = [_last_known(cell, column[inside], shape) for column in covariates]
    numbers = np.arange(low, high + 1)
    return Panel(
        client_ids=names[seen],
        starts=_starts(numbers, config.period),
        numbers=numbers,
        values=values.reshape(shape),
        covariates=np.stack(means, axis=-1) if means else np.zeros((*shape, 0)),
        first=np.maximum(first[seen] - low, 0),
        cleaning={
            "records read": len(records),
            f"records outside whole {config.period}s left out": int((~inside).sum()),
            "clients without a record in them left out": int((~seen).sum()),
        },
    )


def _column(records: pd.DataFrame, name: str) -> "pd.Series[Any]":
    """A column by name."""
    if name not in records.columns:
        raise InputError(f"there is no column {name!r}; {there_is(name, records.columns)}")
    return records[name]


def _clients(records: pd.DataFrame, name: str) -> np.ndarray:
    """The clients as text."""
    column = _column(records, name)
    if not len(column):
        raise InputError("there are no records; give at least those of a few periods")
    text = column.astype(str).str.strip()
    missing = column.isna() | (text == "")
    if missing.any():
        raise InputError(
            f"client column {name!r} is blank in {int(missing.sum())} of {len(column)} records; "
            "name their client or leave them out"
        )
    return text.to_numpy(str)


def _numbers(records: pd.DataFrame, name: str) -> np.ndarray:
    """A column as finite float64."""
    numbers = read_numbers(_column(records, name), ("",))
    wrong = numbers.missing | numbers.not_a_number
    if wrong.any():
        cell = records[name].iloc[int(np.argmax(wrong))]
        raise InputError(
            f"column {name!r} has {cell!r} where a number must be ({int(wrong.sum())} of "
            f"{len(wrong)} records); fix or leave out these records"
        )
    return numbers.values


def _days(records: pd.DataFrame, name: str) -> np.ndarray:
    """A column of times as datetime64[D]; the local date where times have a zone."""
    column = _column(records, name)
    if not pd.api.types.is_datetime64_any_dtype(column):
        text = column.astype(str).str.strip()
        fits = text.str.fullmatch(_DATE).to_numpy(bool) & column.notna().to_numpy(bool)
        if not fits.all():
            cell = column.iloc[int(np.argmin(fits))]
            raise InputError(
                f"time column {name!r} has {cell!r}, which is no date ({int((~fits).sum())} of "
                f"{len(fits)} records); write dates as 2011-12-09 or 2011-12-09 12:50:00"
            )
        # The date is what counts, so the time of day and its zone need not be understood.
        dates = text.str.replace("-", "", regex=False).str[:8]
        column = pd.to_datetime(dates, format="%Y%m%d", errors="coerce")
        wrong = column.isna().to_numpy()
        if wrong.any():
            raise InputError(
                f"time column {name!r} has {text.iloc[int(np.argmax(wrong))]!r}, which is no day "
                "from 1678 to 2261; write dates as 2011-12-09"
            )
    elif column.isna().any():
        raise InputError(
            f"time column {name!r} is blank in {int(column.isna().sum())} of {len(column)} "
            "records; fix or leave out these records"
        )
    if getattr(column.dt, "tz", None) is not None:
        column = column.dt.tz_localize(None)
    return column.to_numpy("datetime64[D]")


def _period_of(days: np.ndarray, period: str) -> np.ndarray:
    """The number of each day's period, int64."""
    if period == "month":
        return days.astype("datetime64[M]").astype(np.int64)
    number = (days - _MONDAY).astype(np.int64)
    return number // 7 if period == "week" else number


def _starts(period: np.ndarray, kind: str) -> np.ndarray:
    """The first day of each period, datetime64[D]."""
    if kind == "month":
        return period.astype("datetime64[M]").astype("datetime64[D]")
    return _MONDAY + period * (7 if kind == "week" else 1)


def _whole_periods(days: np.ndarray, period: np.ndarray, config: PanelConfig) -> tuple[int, int]:
    """The first and the last whole period."""
    low, high = int(period.min()), int(period.max())
    start, end = _starts(period, config.period), _starts(period + 1, config.period)
    from_start, to_end = days - start, end - days
    one_a_period = (from_start == from_start[0]).all() or (to_end == to_end[0]).all()
    if not one_a_period:
        low += int(from_start[period == low].min() > np.timedelta64(0, "D"))
        high -= int(to_end[period == high].min() > np.timedelta64(1, "D"))
    span = f"records from {days.min()} to {days.max()}"
    if high < low:
        raise InputError(
            f"{span} hold no whole {config.period}; give a longer time or a shorter --period"
        )
    if high - low + 1 > MAX_PERIODS:
        raise InputError(
            f"{span} are {high - low + 1:,} {config.period}s, more than {MAX_PERIODS:,}; check "
            f"the dates in {config.time_column!r}, or give a longer --period"
        )
    return low, high


def _refuse_longer_rhythm(client: np.ndarray, days: np.ndarray, config: PanelConfig) -> None:
    """Refuses records that come regularly, but less often than once a period.

    Filling the periods between them with zeros would invent a demand that stops and starts.
    """
    order = np.lexsort((days, client))
    same = client[order][1:] == client[order][:-1]
    gaps = np.diff(days[order]).astype(np.int64)[same]
    gaps = gaps[gaps > 0]
    if len(gaps) < _GAPS_OF_A_RHYTHM or gaps.min() <= _LONGEST[config.period]:
        return
    if gaps.max() <= _RHYTHM * gaps.min():
        every = f"{gaps.min()}" if gaps.min() == gaps.max() else f"{gaps.min()} to {gaps.max()}"
        raise InputError(
            f"records of a client come every {every} days, which does not fit "
            f"--period={config.period}: the {config.period}s between them would count as zero; "
            "give a longer --period, or records for each period"
        )


def _last_known(cell: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The mean of each cell [clients, periods], or the last one before it; zero before the first.

    Args:
      cell: int64 [records], client * periods + period.
      column: float64 [records].
      shape: (clients, periods).
    """
    count = np.bincount(cell, minlength=shape[0] * shape[1])
    total = np.bincount(cell, weights=column, minlength=shape[0] * shape[1])
    mean = (total / np.maximum(count, 1)).reshape(shape)
    known = (count > 0).reshape(shape)
    last = np.maximum.accumulate(np.where(known, np.arange(shape[1]), -1), axis=1)
    found = np.take_along_axis(mean, np.maximum(last, 0), axis=1)
    return np.where(last >= 0, found, 0.0)
