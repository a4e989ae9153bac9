"""Typed values (JSON, SQL, Parquet) into pandas columns without changing any of them.

Pandas turns whole numbers next to a null into floats, which changes those above 2**53: two clients
could become one. Here they stay whole.
"""

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

_LARGEST_EXACT_FLOAT = 2.0**53


def from_python(rows: Sequence[Any], names: Sequence[str] | None = None) -> pd.DataFrame:
    """Python values into columns of numpy types where that loses nothing, else of objects.

    Args:
      rows: Tuples in the order of `names`, or mappings by name (a missing key is a null).
      names: Column names of tuples, distinct.
    """
    records = pd.DataFrame(rows, columns=None if names is None else list(names), dtype=object)
    return pd.DataFrame({name: _narrow(records[name]) for name in records.columns})


def from_arrow(table: pa.Table) -> pd.DataFrame:
    """An Arrow table of distinct names into pandas.

    Decimals, and PostgreSQL's NUMERIC that arrives as text of an opaque type, become float64; where
    a float could change one, int64 if all are whole, else text. UUIDs become text.
    """
    plain = pa.table([_plain(column) for column in table.columns], names=table.column_names)
    return plain.to_pandas(integer_object_nulls=True)


def _narrow(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """A column of objects as numpy numbers where all its values are numbers and none changes."""
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind in ("floating", "mixed-integer-float"):
        return column.astype(np.float64)
    if kind in ("boolean", "integer") and not column.isna().any():
        try:
            return column.astype(bool if kind == "boolean" else np.int64)
        except OverflowError:
            return column
    return column


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column without extension types and decimals."""
    if not isinstance(column.type, pa.BaseExtensionType):
        return _as_number(column) if pa.types.is_decimal(column.type) else column
    name = getattr(column.type, "type_name", column.type.extension_name)
    storage = pa.chunked_array(
        [chunk.storage for chunk in column.chunks], type=column.type.storage_type
    )
    if name == "arrow.uuid":
        texts = [None if raw is None else str(uuid.UUID(bytes=raw)) for raw in storage.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    return _as_number(storage) if name == "numeric" else storage


def _as_number(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decimals, or text that spells them, as floats or as large whole numbers."""
    from pyarrow import compute

    floats = compute.cast(column, pa.float64())
    largest = compute.max(compute.abs(floats)).as_py()
    if largest is not None and _LARGEST_EXACT_FLOAT <= largest < np.inf:
        try:
            return compute.cast(column, pa.int64())
        except pa.ArrowInvalid:  # Fractions among them, or beyond int64.
            return compute.cast(column, pa.string())
    return floats
