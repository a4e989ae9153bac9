"""Records into arrays for a model, by a public schema and nothing else.

A number becomes one input in [-1, 1] by its public bounds, a category one input per public value
(one-hot). Cells that are missing, unknown or out of bounds, and duplicate rows, follow the rules
that the schema declares; each rule that acted is counted. No statistic of the records is used, so
that a client's inputs depend on its own rows only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fl_research.data.column_names import there_is
from fl_research.data.schema import cells
from fl_research.data.schema.columns import Column
from fl_research.errors import InputError

if TYPE_CHECKING:
    from fl_research.data.schema import Schema

_UNKNOWN, _MISSING = -1, -2
_MISSING_PROBLEM = 'is missing; fix it, or declare "if_missing" in the schema'


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EncodedRecords:
    """Records as arrays.

    Attributes:
      inputs: float32 [rows, features], values in [-1, 1].
      labels: int32 [rows].
      client_ids: [rows], stripped text or the source's own numbers; None: each row is a client.
      feature_names: Names of the columns of `inputs`.
      cleaning: How many rows each declared rule acted on (a row that two rules drop counts for
        both), and "rows read" and "rows kept".
      rows: int64 [rows], which records they are, counted from 0.
    """

    inputs: np.ndarray
    labels: np.ndarray
    client_ids: np.ndarray | None
    feature_names: tuple[str, ...]
    cleaning: dict[str, int]
    rows: np.ndarray


def encode(records: pd.DataFrame, schema: Schema, *, is_piece: bool = False) -> EncodedRecords:
    """Cleans and encodes records.

    Errors about cells concern only rows that no rule drops. A duplicate is a row equal to an
    earlier one in every column of the table.

    Args:
      records: Columns as the schema names them, in any order, of any type.
      schema: What is publicly known of the columns.
      is_piece: Whether these are only some rows of a table, of which none may be left, and whose
        labels may all be the same. Duplicates are found within the piece.

    Raises:
      InputError: Columns that differ from the schema's, a cell that a rule refuses, no row left,
        or labels that are all the same.
    """
    _check_columns(records, schema)
    findings = _Findings(records)
    if schema.drop_duplicates:
        findings.drop("duplicate rows dropped", _duplicated(records))
    features: dict[str, np.ndarray] = {}
    labels = client_texts = None
    for column in schema.columns:
        if column.kind == "number":
            features[column.name] = _read_number(column, schema, findings)
        elif column.kind == "category":
            features[column.name] = _read_category(column, schema, findings)
        elif column.kind == "label":
            labels = _read_category(column, schema, findings)
        elif column.kind == "client":
            client_texts = _read_client(column, schema, findings)
    rows, cleaning = findings.settle()
    assert labels is not None
    if not is_piece:
        _check_table(labels[rows], schema.label_column, cleaning)
    return EncodedRecords(
        inputs=_inputs(features, schema, rows),
        labels=_labels(labels[rows], schema.label_column),
        client_ids=_client_ids(records, schema, client_texts, rows),
        feature_names=schema.feature_names,
        cleaning=cleaning,
        rows=rows,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EncodedFeatures:
    """Records without labels as arrays.

    Attributes:
      inputs: As in `EncodedRecords`.
      rows: int64 [rows], which of the records they are, from 0.
      cleaning: As in `EncodedRecords`.
    """

    inputs: np.ndarray
    rows: np.ndarray
    cleaning: dict[str, int]


def encode_features(records: pd.DataFrame, schema: Schema) -> EncodedFeatures:
    """Encodes new records, whose label nobody knows yet.

    Only the columns of features are looked at. Duplicates stay: each record wants its answer.

    Args:
      records: With the columns of the schema's features, and any others.
      schema: What is publicly known of the columns.

    Raises:
      InputError: No record, a column that is not there, or a cell that a rule refuses.
    """
    if records.empty:
        raise InputError("the table is empty; give records")
    columns = [column for column in schema.columns if column.kind in ("number", "category")]
    absent = [column.name for column in columns if column.name not in records.columns]
    if absent:
        raise InputError(
            f"the table has no column {', '.join(map(repr, absent))} of the schema; "
            f"{there_is(absent[0], map(str, records.columns))}"
        )
    findings = _Findings(records)
    features = {
        column.name: (_read_number if column.kind == "number" else _read_category)(
            column, schema, findings
        )
        for column in columns
    }
    rows, cleaning = findings.settle()
    return EncodedFeatures(inputs=_inputs(features, schema, rows), rows=rows, cleaning=cleaning)


class _Findings:
    """What the rules found in the rows: which are dropped, which cells changed or refused."""

    def __init__(self, records: pd.DataFrame) -> None:
        """Starts with no finding."""
        self.records = records
        self._dropped: list[tuple[str, np.ndarray]] = []
        self._changed: list[tuple[str, np.ndarray]] = []
        self._refused: list[tuple[str, np.ndarray, str]] = []

    def drop(self, rule: str, mask: np.ndarray) -> None:
        """Rows that a rule drops."""
        self._dropped.append((rule, mask))

    def refuse(self, column: Column, mask: np.ndarray, problem: str) -> None:
        """Cells that are an error unless their row is dropped."""
        self._refused.append((column.name, mask, problem))

    def apply(self, column: Column, what: str, mask: np.ndarray, rule: Any, problem: str) -> None:
        """Cells for which a column declares a rule: "error", "drop_row", or what they become."""
        if rule == "error":
            self.refuse(column, mask, problem)
        elif rule == "drop_row":
            self.drop(f"{column.name}: {what} -> row dropped", mask)
        else:
            self._changed.append((f"{column.name}: {what} -> {rule}", mask))

    def settle(self) -> tuple[np.ndarray, dict[str, int]]:
        """The rows that are kept, int64 [rows kept], and the count of each rule that acted."""
        total = len(self.records)
        keep = np.ones(total, dtype=bool)
        for _, mask in self._dropped:
            keep &= ~mask
        for name, mask, problem in self._refused:
            if (wrong := np.flatnonzero(mask & keep)).size:
                value = repr(self.records[name].iloc[wrong[0]])
                shown = value if len(value) <= 60 else value[:57] + "..."
                raise InputError(
                    f"column {name!r}, row {wrong[0] + 1} (the header not counted): {shown} "
                    f"{problem}"
                )
        counts = {rule: int(mask.sum()) for rule, mask in self._dropped}
        counts |= {rule: int((mask & keep).sum()) for rule, mask in self._changed}
        acted = {rule: count for rule, count in counts.items() if count}
        rows = np.flatnonzero(keep)
        cleaning = {"rows read": total, **acted, "rows kept": len(rows)}
        return rows, cleaning


def _check_table(labels: np.ndarray, column: Column, cleaning: Mapping[str, int]) -> None:
    """A whole table has rows, and labels of more than one kind."""
    if not len(labels):
        raise InputError(f"no row is left after cleaning ({dict(cleaning)}); fix the data or rules")
    encoded = _labels(labels, column)
    if encoded.min() == encoded.max():
        value = (column.values or ())[labels[0]]
        raise InputError(
            f"label column {column.name!r} does not vary, all {len(encoded)} rows are "
            f"{int(encoded[0])} ({value!r}); give records of both kinds, or another "
            "label or positive value"
        )


def _check_columns(records: pd.DataFrame, schema: Schema) -> None:
    """The schema's columns and the table's are the same."""
    if records.empty:
        raise InputError("the table is empty; give records")
    names = {column.name for column in schema.columns}
    for name in names - set(records.columns):
        raise InputError(
            f"the table has no column {name!r} of the schema; {there_is(name, records.columns)}"
        )
    unknown = [str(name) for name in records.columns if name not in names]
    if unknown:
        raise InputError(
            f"the schema does not know column {', '.join(map(repr, unknown))} of the table; "
            f'describe it, or mark it with kind "ignore"'
        )


def _duplicated(records: pd.DataFrame) -> np.ndarray:
    """bool [rows]: equal to an earlier row."""
    codes = {name: cells.read_texts(records[name]).codes for name in records.columns}
    return pd.DataFrame(codes).duplicated().to_numpy()


def _read_number(column: Column, schema: Schema, findings: _Findings) -> np.ndarray:
    """float32 [rows] in [-1, 1]."""
    numbers = cells.read_numbers(findings.records[column.name], schema.missing_values)
    findings.apply(column, "missing", numbers.missing, column.if_missing, _MISSING_PROBLEM)
    findings.refuse(
        column,
        numbers.not_a_number,
        'is not a number; fix it, or list it in the schema\'s "missing_values"',
    )
    low, high = column.minimum, column.maximum
    assert low is not None and high is not None
    values = numbers.values
    if isinstance(column.if_missing, float):
        values = np.where(numbers.missing, column.if_missing, values)
    outside = (values < low) | (values > high)  # False for NaN.
    rule = "clipped" if column.if_out_of_bounds == "clip" else column.if_out_of_bounds
    problem = f'is not in [{low:g}, {high:g}]; fix it, or change "if_out_of_bounds" in the schema'
    findings.apply(column, "out of bounds", outside, rule, problem)
    values = np.clip(values, low, high)
    if column.scale == "log1p":
        values, low, high = np.log1p(values), math.log1p(low), math.log1p(high)
    scaled = (2.0 * (values - low) / (high - low) - 1.0).astype(np.float32)
    return np.clip(scaled, np.float32(-1), np.float32(1))


def _read_category(column: Column, schema: Schema, findings: _Findings) -> np.ndarray:
    """int64 [rows]: index into the values, or negative for none of them."""
    texts = cells.read_texts(findings.records[column.name])
    values = column.values or ()
    index_of = {value: index for index, value in enumerate(values)}
    missing_values = set(schema.missing_values)

    def index(spellings: tuple[str, ...]) -> int:
        found = next((index_of[text] for text in spellings if text in index_of), _UNKNOWN)
        return _MISSING if found < 0 and not missing_values.isdisjoint(spellings) else found

    indices = texts.per_row([index(spellings) for spellings in texts.spellings], _MISSING)
    missing, unknown = indices == _MISSING, indices == _UNKNOWN
    findings.apply(column, "missing", missing, column.if_missing, _MISSING_PROBLEM)
    shown = ", ".join(values[:20]) + (f" and {len(values) - 20} more" if len(values) > 20 else "")
    problem = f'is not one of {shown}; fix it, or declare "values" or "if_unknown" in the schema'
    findings.apply(column, "unknown", unknown, column.if_unknown, problem)
    return np.where(missing, index_of.get(str(column.if_missing), _MISSING), indices)


def _read_client(column: Column, schema: Schema, findings: _Findings) -> cells.Texts:
    """The client column's cells, its missing ones found."""
    texts = cells.read_texts(findings.records[column.name])
    missing_values = set(schema.missing_values)
    by_spelling = [not missing_values.isdisjoint(spellings) for spellings in texts.spellings]
    missing = texts.per_row(np.array(by_spelling, dtype=bool), True)
    problem = 'is no client; fix it, or declare "if_missing": "drop_row" in the schema'
    findings.apply(column, "missing", missing, column.if_missing, problem)
    return texts


def _inputs(features: dict[str, np.ndarray], schema: Schema, rows: np.ndarray) -> np.ndarray:
    """float32 [rows kept, features] of numbers and one-hot categories, in the schema's order."""
    inputs = np.zeros((len(rows), len(schema.feature_names)), dtype=np.float32)
    start = 0
    for column in schema.columns:
        if column.name not in features:
            continue
        feature = features[column.name][rows]
        if column.kind == "number":
            inputs[:, start] = feature
        else:
            known = np.flatnonzero(feature >= 0)
            inputs[known, start + feature[known]] = 1.0
        start += len(column.feature_names)
    return inputs


def _labels(indices: np.ndarray, column: Column) -> np.ndarray:
    """int32 [rows kept]: 1 for the positive value, or the index of the value."""
    values = column.values or ()
    labels = indices if column.positive is None else indices == values.index(column.positive)
    return labels.astype(np.int32)


def _client_ids(
    records: pd.DataFrame, schema: Schema, texts: cells.Texts | None, rows: np.ndarray
) -> np.ndarray | None:
    """[rows kept]: the source's own numbers, else stripped text as Python strings."""
    if schema.client_column is None or texts is None:
        return None
    values = records[schema.client_column.name]
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "iuf":
        return values.to_numpy()[rows]
    usual = np.array([spellings[0] for spellings in texts.spellings], dtype=object)
    return usual[texts.codes[rows]]
