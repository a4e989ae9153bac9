"""Interactions of users with items: who rated, bought or used what, out of any table.

Rules, each with its count in `cleaning`: a record without a user or an item says nothing and is
left out. With ratings, a record without a rating is left out, or kept as a question to the model; a
rating that is no number or outside the range is an error, and of several ratings of one item by one
user the last counts. So it is with questions, which neither replace a rating nor are replaced by
one. A record that repeats another stays where there are no ratings: it may be another purchase.

Items are numbered from 0 in the order of their names. Their catalogue is either given (then records
of other items are left out) or is the items that the records name.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fl_research.argument_checks import is_finite_number
from fl_research.data.column_names import there_is
from fl_research.data.order_lines import read_times
from fl_research.data.schema import cells
from fl_research.errors import InputError

_MISSING_TEXTS = ("",)
_FEWEST_ITEMS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class InteractionColumns:
    """The columns of a table of interactions.

    Attributes:
      user: Who.
      item: What.
      rating: How much it was liked, a number; None: there are no ratings.
      time: When, by ISO 8601; None: not known.
      basket: What was bought together, such as an invoice; None: what has the same time.
    """

    user: str
    item: str
    rating: str | None = None
    time: str | None = None
    basket: str | None = None

    def to_dict(self) -> dict[str, str | None]:
        """Plain JSON; `InteractionColumns(**columns.to_dict())` gives it back."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RatingRange:
    """Between which numbers all ratings are; public.

    Attributes:
      lowest: The lowest rating possible.
      highest: The highest.

    Raises:
      InputError: It is no range.
    """

    lowest: float
    highest: float

    def __post_init__(self) -> None:
        bounds = (self.lowest, self.highest)
        if not all(is_finite_number(b) for b in bounds) or not self.lowest < self.highest:
            raise InputError(
                f"rating_range={self.lowest},{self.highest} is no range; give the lowest and the "
                "highest rating, such as 1,5"
            )

    @property
    def middle(self) -> float:
        """The middle of the range."""
        return (self.highest + self.lowest) / 2

    @property
    def half(self) -> float:
        """Half the width of the range."""
        return (self.highest - self.lowest) / 2

    def encode(self, ratings: Any) -> Any:
        """Returns ratings, an array or a tensor, in units of half the range around its middle."""
        return (ratings - self.middle) / self.half

    def decode(self, values: Any) -> Any:
        """Returns what `encode` takes."""
        return values * self.half + self.middle


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Interactions:
    """Interactions in order of time, or in the table's order where there is no time.

    Attributes:
      frame: Columns `user` and `item` (whole numbers that stand for `users` and `items`), `rating`
        (float64; NaN where asked for with `keep_unrated`) and `time` (datetime64) where the table
        has them, and `basket` (whole numbers) where it has a basket or a time.
      users: Their names, sorted.
      items: The catalogue: the names of all items, sorted.
      rating_range: Of the ratings; None without ratings.
      cleaning: "records read", how many each rule left out, "records kept".
    """

    frame: pd.DataFrame
    users: np.ndarray
    items: tuple[str, ...]
    rating_range: RatingRange | None
    cleaning: Mapping[str, int]


def read_interactions(
    records: pd.DataFrame,
    columns: InteractionColumns,
    *,
    rating_range: RatingRange | None = None,
    items: tuple[str, ...] | None = None,
    keep_unrated: bool = False,
) -> Interactions:
    """Returns the interactions of a table.

    Args:
      records: A row an interaction, columns of any type.
      columns: Their names.
      rating_range: Of the ratings; None: the lowest and highest of the records.
      items: The catalogue; None: the items that the records name.
      keep_unrated: Whether records without a rating stay, as questions to the model.

    Raises:
      InputError: A column is missing, no record is left, there are fewer than two items, or a
        rating or time cannot be read or is out of its range; names column, row and value.
    """
    _check_columns(records, columns)
    named = _named(records, columns, items)
    kept, cleaning = named.kept, named.cleaning
    ratings = None
    if columns.rating is not None:
        ratings, rated = _ratings(records, columns.rating, kept)
        if not keep_unrated:
            cleaning[f"{columns.rating}: missing -> record left out"] = int((kept & ~rated).sum())
            kept = kept & rated
    if not kept.any():
        raise InputError(
            f"no interaction is left of {len(records):,} records ({_counts(cleaning)}); check the "
            f"columns {columns.user!r} and {columns.item!r}"
        )
    user, user_names = _numbered(named.users[kept])
    item, catalogue = _numbered(named.items[kept])
    if items is not None:
        item, catalogue = np.searchsorted(np.asarray(items, str), catalogue)[item], np.array(items)
    if len(catalogue) < _FEWEST_ITEMS:
        raise InputError(
            f"column {columns.item!r} names {len(catalogue)} item; recommending takes at least "
            f"{_FEWEST_ITEMS}: name another column"
        )
    frame = pd.DataFrame({"row": np.flatnonzero(kept), "user": user, "item": item})
    if ratings is not None:
        frame["rating"] = ratings[kept]
        rating_range = _checked_range(frame, columns.rating, rating_range)
    frame = _in_order_of_time(frame, records, columns)
    if ratings is not None:
        frame = _last_of_each(frame, cleaning)
    cleaning["records kept"] = len(frame)
    return Interactions(
        frame=frame.drop(columns="row").reset_index(drop=True),
        users=user_names,
        items=tuple(map(str, catalogue)),
        rating_range=rating_range if ratings is not None else None,
        cleaning={rule: n for rule, n in cleaning.items() if n or rule.startswith("records")},
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Named:
    """Users and items of the records as texts, which rows have both, and the counts so far."""

    users: np.ndarray
    items: np.ndarray
    kept: np.ndarray
    cleaning: dict[str, int]


def _check_columns(records: pd.DataFrame, columns: InteractionColumns) -> None:
    """Refuses a table without one of the columns, or without a row."""
    for part, name in columns.to_dict().items():
        if name is not None and name not in records.columns:
            raise InputError(
                f"the table has no column {name!r} for the {part} of an interaction; "
                f"{there_is(name, map(str, records.columns))}"
            )
    if records.empty:
        raise InputError("the table of interactions is empty; give records")


def _named(
    records: pd.DataFrame, columns: InteractionColumns, catalogue: tuple[str, ...] | None
) -> _Named:
    """Reads users and items; items that a given catalogue does not have are left out."""
    users, has_user = _texts(records[columns.user])
    items, has_item = _texts(records[columns.item])
    kept = has_user & has_item
    cleaning = {
        "records read": len(records),
        f"{columns.user}: missing -> record left out": int((~has_user).sum()),
        f"{columns.item}: missing -> record left out": int((has_user & ~has_item).sum()),
    }
    if catalogue is not None:
        known = np.isin(items.astype(str), np.asarray(catalogue, str))
        unknown = int((kept & ~known).sum())
        cleaning["items that the catalogue does not have: record left out"] = unknown
        kept &= known
    return _Named(users, items, kept, cleaning)


def _texts(column: "pd.Series[Any]") -> tuple[np.ndarray, np.ndarray]:
    """The cells as stripped texts, objects [rows], and which of them are there, bool [rows]."""
    texts = cells.read_texts(column)
    usual = [spellings[0] for spellings in texts.spellings]
    values = texts.per_row(np.array(usual, dtype=object), "")
    there = texts.per_row(np.array([text not in _MISSING_TEXTS for text in usual], bool), False)
    return values, there.astype(bool)


def _numbered(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of each name among the sorted different ones, and these."""
    codes, different = pd.factorize(names)
    sorted_names, place = np.unique(different.astype(str), return_inverse=True)
    return place[codes].astype(np.int64), sorted_names


def _ratings(records: pd.DataFrame, column: str, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ratings, float64 [rows], and which rows have one."""
    numbers = cells.read_numbers(records[column], _MISSING_TEXTS)
    wrong = kept & numbers.not_a_number
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"column {column!r}, row {row + 1} (the header not counted): "
            f"{records[column].iloc[row]!r} is no rating; give a number, or nothing"
        )
    return numbers.values, ~numbers.missing


def _checked_range(
    frame: pd.DataFrame, column: str | None, given: RatingRange | None
) -> RatingRange:
    """The range that was given, or that of the ratings; refuses a rating outside."""
    ratings = frame["rating"].to_numpy()
    if np.isnan(ratings).all():
        if given is None:
            raise InputError(f"column {column!r} has no rating; name another column")
        return given
    lowest, highest = float(np.nanmin(ratings)), float(np.nanmax(ratings))
    if given is None:
        if lowest < 0:
            raise InputError(
                f"column {column!r} has the negative rating {lowest:g}; if that is right, give the "
                "range of all ratings as --rating_range=LOWEST,HIGHEST"
            )
        if lowest == highest:
            raise InputError(
                f"every rating of column {column!r} is {lowest:g}, so there is nothing to predict; "
                "name another column, or take --feedback=implicit"
            )
        return RatingRange(lowest=lowest, highest=highest)
    outside = (ratings < given.lowest) | (ratings > given.highest)
    if outside.any():
        first = int(np.argmax(outside))
        raise InputError(
            f"column {column!r}, row {int(frame['row'].iloc[first]) + 1} (the header not counted): "
            f"the rating {ratings[first]:g} is outside "
            f"rating_range={given.lowest:g},{given.highest:g} ({int(outside.sum()):,} are); "
            "correct them or give a range that holds all"
        )
    return given


def _last_of_each(frame: pd.DataFrame, cleaning: dict[str, int]) -> pd.DataFrame:
    """The last rating and the last question of each user and item; counts the others."""
    asked = frame["rating"].isna()
    again = frame.assign(asked=asked).duplicated(["user", "item", "asked"], keep="last")
    for rule, rows in (("rated", again & ~asked), ("asked for", again & asked)):
        cleaning[f"an item {rule} again by the same user: only the last counts"] = int(rows.sum())
    return frame[~again]


def _in_order_of_time(
    frame: pd.DataFrame, records: pd.DataFrame, columns: InteractionColumns
) -> pd.DataFrame:
    """Adds `time` and `basket` where the table has them, and sorts by time."""
    rows = frame["row"].to_numpy()
    if columns.basket is not None:
        # Of one user: another user's basket of the same number is another one.
        baskets, _ = _texts(records[columns.basket].iloc[rows])
        frame["basket"] = pd.factorize(baskets)[0]
    if columns.time is None:
        return frame
    frame["time"] = read_times(
        records[columns.time].iloc[rows].reset_index(drop=True), pd.Series(rows)
    )
    if columns.basket is None:
        frame["basket"] = pd.factorize(frame["time"])[0]
    return frame.sort_values("time", kind="stable", ignore_index=True)


def _counts(cleaning: Mapping[str, int]) -> str:
    """Rules and counts in one line."""
    return ", ".join(f"{rule}: {n:,}" for rule, n in cleaning.items() if n)
