"""Preparation `text`: a column of texts into hashed ids; the same for training and for scoring.

A record whose text is missing, blank, or has nothing that the settings take as a feature is left
out and counted: there is nothing to learn from it and nothing to answer.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fl_research.data.column_names import there_is
from fl_research.data.hashed_text import HashedText, encode_texts
from fl_research.data.prepared import Prepared
from fl_research.errors import InputError

KIND = "text"
FEATURE = "ids"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TextRows:
    """The rows of a table that have a text, encoded.

    Attributes:
      ids: int32[rows, max_features], from `hashed_text`.
      kept: bool[records], which records they are.
      cleaning: How many records each rule acted on, by its words; rules that did not act are not
        there.
    """

    ids: np.ndarray
    kept: np.ndarray
    cleaning: Mapping[str, int]


def settings_of(text_column: str, settings: HashedText) -> dict[str, Any]:
    """Returns the preparation as a task and a saved model have it, plain JSON."""
    return {"kind": KIND, "text_column": text_column, **settings.to_dict()}


def encode_column(records: pd.DataFrame, text_column: str, settings: HashedText) -> TextRows:
    """Encodes a column of texts.

    Args:
      records: Rows; a cell that is no text is taken as it is written, a null as missing.
      text_column: The column.
      settings: How to encode.

    Raises:
      InputError: There is no such column, or no record has a text.
    """
    if text_column not in records.columns:
        raise InputError(
            f"text_column={text_column!r} is no column of the records; "
            f"{there_is(text_column, records.columns)}"
        )
    column = records[text_column]
    missing = column.isna().to_numpy(bool)
    texts = ["" if null else str(cell) for cell, null in zip(column, missing, strict=True)]
    encoded = encode_texts(texts, settings)
    kept = encoded.features > 0
    if not kept.any():
        raise InputError(
            f"text_column={text_column!r}: none of the {len(records)} records has a text in it; "
            "name the column that has"
        )
    rules = {
        "records without a text left out": int((~kept).sum()),
        f"texts with more than {settings.max_features} features cut short": encoded.num_truncated,
    }
    return TextRows(
        ids=encoded.ids[kept], kept=kept, cleaning={rule: n for rule, n in rules.items() if n}
    )


def prepare(records: pd.DataFrame, settings: Mapping[str, Any]) -> Prepared:
    """Returns the features of new records.

    Args:
      records: With the text column of the training records.
      settings: From `settings_of`.

    Raises:
      InputError: The column is missing, or no record has a text.
    """
    how = {field.name: settings[field.name] for field in dataclasses.fields(HashedText)}
    rows = encode_column(records, settings["text_column"], HashedText(**how))
    return Prepared(
        features={FEATURE: rows.ids},
        ids=np.flatnonzero(rows.kept),
        dropped={rule: n for rule, n in rows.cleaning.items() if rule.endswith("left out")},
    )
