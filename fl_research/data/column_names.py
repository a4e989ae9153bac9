"""Columns by name: choosing them, and saying which there are when one is not."""

import difflib
from collections.abc import Iterable, Sequence

import pandas as pd

from fl_research.errors import InputError


def select_columns(records: pd.DataFrame, columns: Sequence[str], where: str) -> pd.DataFrame:
    """The named columns in the given order.

    Raises:
      InputError: A name is not there; the message lists those that are.
    """
    for name in columns:
        if name not in records.columns:
            raise InputError(f"{where} has no column {name!r}; {there_is(name, records.columns)}")
    return records[list(columns)]


def there_is(name: str, names: Iterable[str]) -> str:
    """The end of a message about a name that is not there: the closest one, then those there."""
    names = [str(known) for known in names]
    closest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    did_you_mean = f"did you mean {closest[0]!r}? " if closest else ""
    more = f" and {len(names) - 40} more" if len(names) > 40 else ""
    return f"{did_you_mean}there are: {', '.join(names[:40])}{more}"


def check_distinct(names: Sequence[str], where: str) -> None:
    """Refuses two columns of one name.

    Raises:
      InputError: A name comes twice.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{where} has two columns named {name!r}; rename one of them")
        seen.add(name)
