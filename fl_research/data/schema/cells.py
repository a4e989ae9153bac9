"""One column's cells as numbers or as texts, whatever type the source gave them.

A cell is compared with a schema as stripped text. A typed 1, 1.0 or True is therefore "1" too; a
text "1.0" is not, since a source of raw text says exactly what it means. All work on a million
cells is done by Arrow and by hashing; Python looks at distinct values only.
"""

import dataclasses
import decimal
import math
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute

# pandas.api.types.infer_dtype of columns whose equal values are one value; 1 == True is not.
_OF_ONE_KIND = {"string", "integer", "floating", "boolean", "decimal", "date", "datetime", "empty"}


@dataclasses.dataclass(frozen=True, eq=False)
class Texts:
    """A column as codes of distinct cells.

    Attributes:
      codes: int64 [rows], index into `spellings`, or -1 for a null.
      spellings: For each distinct cell, the texts that it matches, the usual one first.
    """

    codes: np.ndarray
    spellings: list[tuple[str, ...]]

    def per_row(self, by_spelling: Any, null: Any) -> np.ndarray:
        """A value for each row: of its distinct cell, or `null` where there is no cell."""
        return np.append(np.asarray(by_spelling), null)[self.codes]


@dataclasses.dataclass(frozen=True, eq=False)
class Numbers:
    """A column as numbers.

    Attributes:
      values: float64 [rows]; NaN where missing or not a number.
      missing: bool [rows], null or one of the schema's missing values.
      not_a_number: bool [rows], text that spells no finite number (or a typed infinity).
    """

    values: np.ndarray
    missing: np.ndarray
    not_a_number: np.ndarray


def spellings(value: Any) -> tuple[str, ...]:
    """The texts that a cell matches, the usual one first."""
    if isinstance(value, str):
        return (value.strip(),)
    if isinstance(value, bool | np.bool_):
        return (str(bool(value)), str(bool(value)).lower(), str(int(value)))
    if isinstance(value, float | np.floating | decimal.Decimal):
        text = str(value)
        whole = math.isfinite(value) and value == int(value)
        return (str(int(value)), text) if whole else (text,)
    return (str(value).strip(),)


def read_texts(column: "pd.Series[Any]") -> Texts:
    """The distinct cells of a column.

    Args:
      column: Any column of any type.
    """
    values = _plain(column)
    if values.dtype != object or pd.api.types.infer_dtype(values, skipna=True) in _OF_ONE_KIND:
        codes, distinct = pd.factorize(values)
        return Texts(codes.astype(np.int64), [spellings(value) for value in distinct])
    known: dict[tuple[str, ...], int] = {}
    mixed = np.fromiter(
        (-1 if _is_null(v) else known.setdefault(spellings(v), len(known)) for v in values),
        dtype=np.int64,
        count=len(values),
    )
    return Texts(mixed, list(known))


def read_numbers(column: "pd.Series[Any]", missing_values: Collection[str]) -> Numbers:
    """The cells as numbers; text must spell a finite decimal number.

    Args:
      column: Any column of any type.
      missing_values: Stripped texts that stand for a missing value.
    """
    values = _plain(column)
    if values.dtype.kind in "biuf":
        floats = values.astype(np.float64)
        missing = np.isnan(floats) | np.isin(floats, _as_floats(missing_values))
        return Numbers(np.where(missing, np.nan, floats), missing, np.isinf(floats))
    if values.dtype != object or pd.api.types.infer_dtype(values, skipna=True) != "string":
        values = np.array([_number_text(value) for value in values], dtype=object)
    texts = compute.utf8_trim_whitespace(pa.array(values, type=pa.string(), from_pandas=True))
    absent = compute.or_(
        compute.is_null(texts),
        compute.is_in(texts, value_set=pa.array(missing_values, pa.string())),
    )
    texts = compute.if_else(absent, pa.scalar(None, pa.string()), texts)
    floats = _cast(texts)
    missing = absent.to_numpy(zero_copy_only=False)
    not_a_number = ~missing & ~np.isfinite(floats)
    return Numbers(np.where(not_a_number, np.nan, floats), missing, not_a_number)


def _plain(column: "pd.Series[Any]") -> np.ndarray:
    """The values as a numpy array, of objects where pandas has a type of its own."""
    return column.to_numpy() if isinstance(column.dtype, np.dtype) else column.to_numpy(object)


def _is_null(value: Any) -> bool:
    """Whether a single value stands for nothing; lists and the like do not."""
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _number_text(value: Any) -> str | None:
    """A typed value as text to read a number from; True is 1."""
    if _is_null(value):
        return None
    return spellings(value)[-1] if isinstance(value, bool | np.bool_) else str(value)


def _as_floats(texts: Collection[str]) -> list[float]:
    """The numbers among texts."""
    floats = _cast(pa.array(list(texts), type=pa.string()))
    return [value for value in floats if not np.isnan(value)]


def _cast(texts: pa.Array) -> np.ndarray:
    """Texts as float64 [rows], NaN for a null and for text that is not a number."""
    try:
        return compute.cast(texts, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        distinct = texts.dictionary_encode()
        floats = np.array([_cast_one(text) for text in distinct.dictionary] + [np.nan])
        return floats[distinct.indices.fill_null(-1).to_numpy(zero_copy_only=False)]


def _cast_one(text: pa.StringScalar) -> float:
    """One text as a float, NaN if it is not one; by the same rules as a whole column."""
    try:
        return text.cast(pa.float64()).as_py()
    except pa.ArrowInvalid:
        return math.nan
