"""New records by a schema: the same numbers as in training, and what is left out."""

import numpy as np
import pandas as pd
import pytest

from fl_research.data.preparation import table
from fl_research.data.schema import Schema, encode
from fl_research.errors import InputError

SCHEMA = Schema.from_dict(
    {
        "columns": [
            {"name": "who", "kind": "client"},
            {"name": "months", "kind": "number", "minimum": 0, "maximum": 8, "if_missing": 4},
            {"name": "plan", "kind": "category", "values": ["basic", "gold"],
             "if_missing": "drop_row", "if_unknown": "zeros"},
            {"name": "note", "kind": "ignore"},
            {"name": "churn", "kind": "label", "values": ["no", "yes"], "positive": "yes"},
        ],
        "drop_duplicates": True,
    }
)  # fmt: skip
RECORDS = pd.DataFrame(
    {
        "who": ["a", "b", "c", "d"],
        "months": ["8", "", "2", "20"],
        "plan": ["gold", "basic", "gold", "tin"],
        "note": [""] * 4,
        "churn": ["no", "yes", "no", "no"],
    }
)


def settings() -> dict:
    """As a saved model's description has them."""
    return {"kind": "table", "schema": SCHEMA.to_dict()}


def test_new_records_are_encoded_as_in_training():
    trained = encode(RECORDS, SCHEMA)
    new = RECORDS.drop(columns=["who", "note", "churn"]).assign(extra=1)[
        ["plan", "extra", "months"]
    ]
    prepared = table.prepare(new, settings())
    np.testing.assert_array_equal(prepared.features["inputs"], trained.inputs)
    assert prepared.ids.tolist() == [0, 1, 2, 3] and not prepared.dropped


def test_a_label_that_nobody_knows_is_not_looked_at():
    prepared = table.prepare(RECORDS.assign(churn="?", who=None), settings())
    assert len(prepared.ids) == 4


def test_left_out_records_are_counted_and_equal_ones_are_not_left_out():
    prepared = table.prepare(
        RECORDS.assign(plan=["gold", None, "gold", ""], months="8"), settings()
    )
    assert prepared.ids.tolist() == [0, 2]
    assert prepared.dropped == {"plan: missing -> row dropped": 2}


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (RECORDS.drop(columns=["plan", "months"]), r"no column 'months', 'plan' of the schema"),
        (RECORDS.assign(months="two"), r"column 'months', row 1 .*'two' is not a number"),
        (RECORDS.assign(plan=""), r"no record is left to score .*plan: missing -> row dropped': 4"),
        (RECORDS.iloc[:0], r"the table is empty"),
    ],
)
def test_wrong_records(records, message):
    with pytest.raises(InputError, match=message):
        table.prepare(records, settings())


def test_a_model_without_a_schema_says_so():
    with pytest.raises(InputError, match="came encoded, without a schema"):
        table.prepare(RECORDS, {"kind": "table", "schema": None})
