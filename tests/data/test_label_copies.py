"""Columns that give the label away are found, and honest ones are not."""

import time

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from fl_research.data.input_columns import InputColumn, input_columns
from fl_research.data.label_copies import LabelCopy, notes_of, suspicious_columns
from fl_research.data.schema import Column, Schema, encode
from fl_research.data.synthetic import survey, telecom
from fl_research.errors import InputError


def _records(rows: int, seed: int = 0) -> pd.DataFrame:
    """Honest columns of a churn table; the label is drawn, and age and plan say a little of it."""
    generator = np.random.default_rng(seed)
    age = generator.uniform(18, 80, rows)
    left = generator.random(rows) < 1 / (1 + np.exp((age - 40) / 10))
    return pd.DataFrame(
        {
            "age": age,
            "plan": np.where(generator.random(rows) < 0.3 + 0.4 * left, "flex", "fixed"),
            "left": np.where(left, "yes", "no"),
        }
    )


_BASE = (
    Column(name="age", kind="number", minimum=0, maximum=100),
    Column(name="plan", kind="category", values=("flex", "fixed")),
    Column(name="left", kind="label", values=("no", "yes"), positive="yes"),
)


def _found(records: pd.DataFrame, *more: Column) -> list[LabelCopy]:
    schema = Schema(columns=(*more, *_BASE))
    encoded = encode(records, schema)
    return suspicious_columns(encoded.inputs, encoded.labels, input_columns(schema))


def test_honest_columns_pass() -> None:
    assert _found(_records(5000)) == []
    config = telecom.TelecomConfig(num_customers=300)
    schema = telecom.build_schema(config)
    encoded = encode(telecom.generate(config, 0).records, schema)
    assert suspicious_columns(encoded.inputs, encoded.labels, input_columns(schema)) == []
    generated = survey.generate(survey.SurveyConfig(num_customers=500), 0)
    encoded = encode(generated.records, generated.schema)
    columns = input_columns(generated.schema)
    assert suspicious_columns(encoded.inputs, encoded.labels, columns) == []


def test_a_copy_under_another_name_is_refused_and_named() -> None:
    """A category with other words, a 0/1 number, a score that sorts the labels, with an error."""
    records = _records(2000)
    left = records["left"] == "yes"
    records["status"] = np.where(left, "closed", "open")
    records["flag"] = left.astype(int)
    records["score"] = left * 3.0 + np.random.default_rng(1).normal(0, 0.3, 2000)
    records.loc[0, "status"] = "open" if left[0] else "closed"
    copies = _found(
        records,
        Column(name="status", kind="category", values=("open", "closed")),
        Column(name="flag", kind="number", minimum=0, maximum=1),
        Column(name="score", kind="number", minimum=-5, maximum=10),
    )
    assert [(copy.column, copy.value) for copy in copies] == [
        *(("status", None), ("flag", None), ("score", None))
    ]
    assert [copy.share for copy in copies] == [1 - 1 / 2000, 1.0, 1.0]
    with pytest.raises(
        InputError, match="'status' alone.*--drop_columns=status,flag,score.*--allow_label_copies"
    ):
        notes_of(copies, allowed=False)
    notes = notes_of(copies, allowed=True)
    assert len(notes) == 3 and "may give the label away: column 'flag' alone" in notes[1]


def test_a_number_is_judged_by_its_auc() -> None:
    """Scores just above and just below the bound, with scikit-learn's AUC as the judge."""
    records = _records(4000)
    left = (records["left"] == "yes").to_numpy()
    noise = np.random.default_rng(2).normal(size=4000)
    for spread, is_copy in ((0.2, True), (0.28, False)):
        records["score"] = -(left + spread * noise)
        area = 1 - roc_auc_score(left, records["score"])
        assert (area >= 0.999) == is_copy
        copies = _found(records, Column(name="score", kind="number", minimum=-9, maximum=9))
        assert bool(copies) == is_copy
        if is_copy:
            assert copies[0].share == pytest.approx(area, abs=1e-5)


def test_a_value_that_only_one_label_has_is_noted() -> None:
    """A reason for leaving, given by a fifth of those who left."""
    records = _records(3000)
    left = (records["left"] == "yes").to_numpy()
    told = left & (np.random.default_rng(3).random(3000) < 0.2)
    records["reason"] = np.where(told, "moved", "unknown")
    copies = _found(records, Column(name="reason", kind="category", values=("unknown", "moved")))
    assert copies == [LabelCopy(column="reason", value="moved", share=1.0, rows=int(told.sum()))]
    assert (
        "training rows with reason=moved have the same label" in notes_of(copies, allowed=False)[0]
    )


def test_the_absence_of_all_values_is_a_value() -> None:
    records = _records(3000)
    left = (records["left"] == "yes").to_numpy()
    told = left & (np.random.default_rng(4).random(3000) < 0.2)
    records["renewal"] = np.where(told, "?", "monthly")
    copies = _found(
        records,
        Column(name="renewal", kind="category", values=("monthly", "yearly"), if_unknown="zeros"),
    )
    assert [(copy.column, copy.value) for copy in copies] == [("renewal", "(none)")]


def test_a_name_for_every_row_is_no_copy() -> None:
    """Every value has one row or two, and so one label; that tells nothing of other rows."""
    rows = 400
    records = _records(rows)
    for names in (np.arange(rows), np.arange(rows) // 2):
        records["name"] = names.astype(str)
        values = tuple(sorted(set(records["name"])))
        copies = _found(records, Column(name="name", kind="category", values=values))
        assert copies == []


@pytest.mark.parametrize("rare", [5, 300])
def test_rare_labels_hide_no_copy_and_make_none(rare: int) -> None:
    """A constant is right for nearly every row and still no copy."""
    labels = np.zeros(20_000, np.int32)
    labels[:rare] = 1
    inputs = np.stack([np.zeros(20_000), labels, np.arange(20_000) % 7], axis=1).astype(np.float32)
    columns = [InputColumn(name=name, start=i, stop=i + 1) for i, name in enumerate("abc")]
    copies = suspicious_columns(inputs, labels, columns)
    assert [copy.column for copy in copies] == ["b"]


def test_levels_and_classes_are_copied_in_order_or_not() -> None:
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 5, 2000)
    inputs = np.stack(
        [
            -labels + generator.normal(0, 0.05, 2000),  # In order, the other way round.
            np.array([3, 0, 4, 1, 2])[labels],  # Other numbers of the same classes.
            labels + generator.normal(0, 1, 2000),
            np.minimum(labels, 3),  # Two levels are told as one.
        ],
        axis=1,
    ).astype(np.float32)
    columns = [InputColumn(name=name, start=i, stop=i + 1) for i, name in enumerate("abcd")]
    copies = suspicious_columns(inputs, labels, columns)
    assert [copy.column for copy in copies] == ["a", "b"]


def test_a_label_with_too_few_rows_of_the_other_kind_is_left_alone() -> None:
    labels = np.array([0] * 50 + [1] * 4)
    column = InputColumn(name="a", start=0, stop=1)
    assert suspicious_columns(labels[:, np.newaxis].astype(np.float32), labels, [column]) == []


def test_input_columns_are_those_of_the_encoding() -> None:
    schema = survey.build_schema(survey.SurveyConfig(num_branches=3))
    columns = input_columns(schema)
    names = [
        name if column.values is None else f"{name}={value}"
        for column in columns
        for name in [column.name]
        for value in column.values or (None,)
    ]
    assert tuple(names) == schema.feature_names
    assert [column.stop - column.start for column in columns] == [3, 4, *[6] * 5, 1, 1]


@pytest.mark.slow
def test_many_columns_are_looked_at_quickly() -> None:
    """50,000 rows, 40 numbers and 60 one-hot inputs; about 0.5 s on this machine."""
    generator = np.random.default_rng(6)
    inputs = generator.normal(size=[50_000, 100]).astype(np.float32)
    inputs[:, 40:] = np.eye(60, dtype=np.float32)[generator.integers(0, 60, 50_000)]
    columns = [InputColumn(name=str(i), start=i, stop=i + 1) for i in range(40)]
    columns.append(InputColumn(name="city", start=40, stop=100, values=tuple(map(str, range(60)))))
    started = time.process_time()
    assert suspicious_columns(inputs, generator.integers(0, 2, 50_000), columns) == []
    assert time.process_time() - started < 4
