"""Preparation `interactions`: records of users and items into what each user is known by.

Of ratings, a record whose rating is empty is a question: the model predicts it from the user's
other records. Without ratings there is nothing to ask: each user gets the items to recommend.
Items that the model does not know are left out and counted, and so are users of whom nothing is
left. With ratings, a user's questions beyond the number that a row has room for are left out too.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fl_research.data.interaction_split import (
    CONTEXT_ITEMS,
    CONTEXT_VALUES,
    TARGET_ITEMS,
    context_arrays,
)
from fl_research.data.interactions import InteractionColumns, RatingRange, read_interactions
from fl_research.data.prepared import Prepared
from fl_research.errors import InputError

KIND = "interactions"
FEATURE = CONTEXT_ITEMS
NAMES = "customer"
"""What `ids` name: one row a customer, not one a record."""


def settings_of(
    columns: InteractionColumns,
    *,
    items: tuple[str, ...],
    max_items: int,
    rating_range: RatingRange | None,
) -> dict[str, Any]:
    """Returns the preparation as a task and a saved model have it, plain JSON.

    Args:
      columns: Of the interactions.
      items: The catalogue, in the order of the numbers of the items.
      max_items: Most interactions of a user.
      rating_range: Of the ratings; None without ratings.
    """
    return {
        "kind": KIND,
        "columns": columns.to_dict(),
        "items": list(items),
        "max_items": max_items,
        "rating_range": None if rating_range is None else dataclasses.asdict(rating_range),
    }


def prepare(records: pd.DataFrame, settings: Mapping[str, Any]) -> Prepared:
    """Returns the features of each user; `ids` are their names.

    Args:
      records: With the columns of the training; one for the time or the basket may be missing.
      settings: From `settings_of`.

    Raises:
      InputError: A column is missing, a cell is refused, nobody is left, or nothing is asked.
    """
    columns = InteractionColumns(**settings["columns"])
    absent: dict[str, Any] = {
        part: None
        for part in ("time", "basket")
        if getattr(columns, part) is not None and getattr(columns, part) not in records.columns
    }
    bounds = settings["rating_range"]
    read = read_interactions(
        records,
        dataclasses.replace(columns, **absent),
        rating_range=None if bounds is None else RatingRange(**bounds),
        items=tuple(settings["items"]),
        keep_unrated=True,
    )
    dropped = {rule: n for rule, n in read.cleaning.items() if not rule.startswith("records")}
    frame, length = read.frame, int(settings["max_items"])
    if bounds is None:
        newest = frame[~frame.duplicated(["user", "item"], keep="last")]
        users, arrays = context_arrays(newest, read, length)
        return Prepared(
            features={CONTEXT_ITEMS: arrays["items"]}, ids=read.users[users], dropped=dropped
        )
    asked = frame["rating"].isna()
    if not asked.any():
        raise InputError(
            f"no record asks for a rating: leave column {columns.rating!r} empty where the model "
            "is to predict it"
        )
    questions = frame[asked].assign(rating=0.0)
    users, targets = context_arrays(questions, read, length)
    known = frame[~asked & frame["user"].isin(users)]
    items = np.zeros([len(users), length], np.int32)
    values = np.zeros([len(users), length], np.float32)
    if len(known):
        rated, context = context_arrays(known, read, length)
        place = np.searchsorted(users, rated)
        items[place], values[place] = context["items"], context["values"]
    beyond = len(questions) - int((targets["items"] > 0).sum())
    if beyond:
        dropped[f"questions beyond {length} of one customer left out"] = beyond
    return Prepared(
        features={CONTEXT_ITEMS: items, CONTEXT_VALUES: values, TARGET_ITEMS: targets["items"]},
        ids=read.users[users],
        dropped=dropped,
    )
