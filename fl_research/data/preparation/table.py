"""Preparation `table`: records into features by a schema, as for training, without labels.

A record that a rule of the schema drops is left out and counted; a cell that the schema refuses is
an error, as in training.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from fl_research.data.prepared import Prepared
from fl_research.data.schema import Schema, encode_features
from fl_research.errors import InputError

KIND = "table"
FEATURE = "inputs"


def prepare(records: pd.DataFrame, settings: Mapping[str, Any]) -> Prepared:
    """Returns the features of new records; `ids` are their numbers, from 0.

    Args:
      records: With the columns of the schema's features, and any others.
      settings: `schema`, as `Schema.to_dict` gives it.

    Raises:
      InputError: The model has no schema, a column is missing, a cell is refused, or no record is
        left.
    """
    if not settings.get("schema"):
        raise InputError(
            "the model was trained on records that came encoded, without a schema; nobody can say "
            "how to encode these: give the saved model encoded rows instead"
        )
    encoded = encode_features(records, Schema.from_dict(settings["schema"]))
    dropped = {rule: n for rule, n in encoded.cleaning.items() if rule.endswith("row dropped")}
    if not len(encoded.rows):
        raise InputError(f"no record is left to score ({dropped}); fix the records")
    return Prepared(features={FEATURE: encoded.inputs}, ids=encoded.rows, dropped=dropped)
