"""A schema read off the records: kinds, bounds, values, and what cannot be read off."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from fl_research.data.schema import Column, Schema, encode
from fl_research.data.sources import read_records
from fl_research.errors import InputError


def test_infer_reads_kinds_bounds_and_values_off_the_data():
    rows = 40
    records = pd.DataFrame(
        {
            "id": [f"c{i}" for i in range(rows)],
            "count": [str(i - 3) for i in range(rows)],
            "code": [str(10 * (i % 12)) for i in range(rows)],
            "price": ["1.5" if i % 2 else "" for i in range(rows - 1)] + ["2.5"],
            "typed": [float(i % 3) if i else None for i in range(rows)],
            "plan": ["gold", "tin", " ", "tin"] * (rows // 4),
            "churn": ["No", "Yes"] * (rows // 2),
        }
    )
    options = {"label_column": "churn", "client_column": "id"}
    schema = Schema.infer(records, **options)
    assert schema.inferred and schema.label_column.positive == "Yes"
    assert schema.columns == (
        Column(name="id", kind="client", if_missing="drop_row"),
        Column(name="count", kind="number", minimum=-3, maximum=36),
        Column(name="code", kind="category", values=tuple(str(10 * i) for i in range(12))),
        Column(name="price", kind="number", minimum=1.5, maximum=2.5, if_missing=2.0),
        Column(
            name="typed",
            kind="category",
            values=("0", "1", "2", "(missing)"),
            if_missing="(missing)",
        ),
        Column(
            name="plan",
            kind="category",
            values=("gold", "tin", "(missing)"),
            if_missing="(missing)",
        ),
        Column(name="churn", kind="label", values=("No", "Yes"), positive="Yes"),
    )
    encoded = encode(records, schema)
    assert encoded.cleaning["rows kept"] == rows and np.abs(encoded.inputs).max() == 1
    ignored = Schema.infer(records, **options, drop_columns=("code", "typed"))
    assert [column.kind for column in ignored.columns].count("ignore") == 2


def test_infer_refusals_say_the_way_out():
    records = pd.DataFrame(
        {
            "note": [f"text {i}" for i in range(201)],
            "n": np.arange(201),
            "churn": ["stay", "leave", "stay"] * 67,
            "same": ["Yes"] * 201,
            "none": [None] * 201,
        }
    )
    kept = records[["n", "churn"]]
    for table_, options, wanted in (
        (records[["note", "churn"]], {"positive_label": "leave"}, "'note' has 201 distinct texts"),
        (kept, {}, "positive_label=None .*one of leave, stay"),
        (kept, {"positive_label": "Leave"}, "positive_label='Leave' is none of"),
        (kept, {"client_column": "m"}, "client_column='m' is not in the table"),
        (kept, {"drop_columns": ("nn",)}, "drop_columns='nn' .* did you mean 'n'"),
        (kept, {"client_column": "churn"}, "name one column twice"),
        (records[["n", "same"]], {"label_column": "same"}, "'same' does not vary"),
        (records[["none", "churn"]], {}, "'none' has no values; drop it"),
    ):
        with pytest.raises(InputError, match=wanted):
            Schema.infer(table_, **{"label_column": "churn"} | options)


def test_telco_as_published(development_data):
    path = development_data / "telco_churn" / "Telco-Customer-Churn.csv"
    records = read_records(str(path))
    schema = Schema.infer(records, label_column="Churn", client_column="customerID")
    numbers = [column.name for column in schema.columns if column.kind == "number"]
    assert numbers == ["tenure", "MonthlyCharges", "TotalCharges"]
    encoded = encode(records, schema)
    assert encoded.cleaning["TotalCharges: missing -> 4351.8"] == 11
    assert encoded.inputs.shape == (7043, 46) and encoded.labels.sum() == 1869
    strict = dataclasses.replace(
        schema,
        columns=tuple(
            dataclasses.replace(column, if_missing="error") if column.kind == "number" else column
            for column in schema.columns
        ),
    )
    with pytest.raises(InputError, match="'TotalCharges', row 489 .* ' ' is missing"):
        encode(records, strict)


def test_levels_of_a_label_are_its_numbers_or_as_listed():
    """By size and not by spelling; names only in the order that is given, unseen ones included."""
    records = pd.DataFrame({"x": [0.5, 1.5, 2.5], "score": ["10", "9", "2"]})
    options = {"label_column": "score", "label_levels": ()}
    label = Schema.infer(records, **options).label_column
    assert label.values == ("2", "9", "10") and label.positive is None
    assert Schema.infer(records, **options, positive_label="9").label_column.positive == "9"
    records["score"] = ["good", "bad", "good"]
    listed = Schema.infer(records, label_column="score", label_levels=("bad", " fair ", "good"))
    assert listed.label_column.values == ("bad", "fair", "good")
    for levels, words in (((), "label_levels=None: 'bad'"), (("bad",), "=bad: 'good' is a value")):
        with pytest.raises(InputError, match=f"{words}.*list all values in order"):
            Schema.infer(records, label_column="score", label_levels=levels)
    # Without levels a label still needs its positive value.
    with pytest.raises(InputError, match="positive_label=None is none of the values"):
        Schema.infer(records, label_column="score")


def test_yes_and_no_stay_two_classes_where_levels_are_possible():
    records = pd.DataFrame({"x": [0.5, 1.5], "happy": ["no", "yes"]})
    label = Schema.infer(records, label_column="happy", label_levels=()).label_column
    assert label.positive == "yes"
