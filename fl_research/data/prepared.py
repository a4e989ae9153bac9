"""Prepared: records turned into a model's features, for scoring with a finished run's model."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """Features of records, and which records they are.

    Attributes:
      features: Name to array [rows, ...], as the model takes them.
      ids: One a row: the number of the record from 0, or the name of what the row is about.
      dropped: How many records were left out, by the reason in words.
      beside: Column name -> one value a row that says with `ids` what the row is about, such as the
        shop where `ids` are its customers.
    """

    features: Mapping[str, np.ndarray]
    ids: np.ndarray | Sequence[Any]
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    beside: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
