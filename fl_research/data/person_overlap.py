"""Persons whose records lie in several clients: counted, and held to a bound.

A customer of several departments is in several clients. Group privacy needs to know in how many at
most: from a column that names the person this can be counted, or enforced by leaving out the
person's rows in all clients but a few, which are chosen by the seed.
"""

import numpy as np
import pandas as pd

from fl_research import randomness
from fl_research.argument_checks import require_at_least
from fl_research.errors import InputError


def most_clients_per_person(persons: pd.Series, clients: pd.Series) -> int:
    """Returns the largest number of clients that one person has rows in.

    Args:
      persons: `[rows]`, who a row is of.
      clients: `[rows]`, the row's client.

    Raises:
      InputError: A row names no person.
    """
    _require_persons(persons)
    return int(_pairs(persons, clients).groupby("person").size().max())


def rows_within_bound(
    persons: pd.Series, clients: pd.Series, *, clients_per_person: int, seed: int
) -> np.ndarray:
    """Returns which rows stay so that nobody is in more clients than the bound.

    Args:
      persons: `[rows]`, who a row is of.
      clients: `[rows]`, the row's client.
      clients_per_person: Clients that a person may be in, at least 1.
      seed: Chooses which clients these are, uniformly for each person.

    Returns:
      `bool[rows]`.

    Raises:
      InputError: A row names no person, or the bound is below 1.
    """
    require_at_least("clients_per_person", clients_per_person, 1)
    _require_persons(persons)
    pairs = _pairs(persons, clients)
    order = randomness.generator(seed, "person_overlap").permutation(len(pairs))
    shuffled = pairs.iloc[order]
    kept = shuffled[shuffled.groupby("person").cumcount() < clients_per_person]
    index = pd.MultiIndex.from_frame(kept)
    rows = pd.MultiIndex.from_arrays([persons.to_numpy(), clients.to_numpy()])
    return np.asarray(rows.isin(index))


def _pairs(persons: pd.Series, clients: pd.Series) -> pd.DataFrame:
    """Each person with each of its clients, once, in an order that the rows' order does not set."""
    frame = pd.DataFrame({"person": persons.to_numpy(), "client": clients.to_numpy()})
    return frame.drop_duplicates().sort_values(["person", "client"], key=lambda c: c.astype(str))


def _require_persons(persons: pd.Series) -> None:
    """Raises InputError where a row names nobody."""
    missing = int(persons.isna().sum())
    if missing:
        raise InputError(
            f"person_column={persons.name} is empty in {missing} rows; fill it in or leave these "
            "rows out"
        )
