"""Schema: what is publicly known of a table's columns, as Python or as a small JSON file.

    {"columns": [
        {"name": "customerID", "kind": "client"},
        {"name": "tenure", "kind": "number", "minimum": 0, "maximum": 72},
        {"name": "Contract", "kind": "category", "values": ["Month-to-month", "One year"]},
        {"name": "note", "kind": "ignore"},
        {"name": "Churn", "kind": "label", "values": ["No", "Yes"], "positive": "Yes"}],
     "missing_values": ["", "?"],
     "drop_duplicates": true}

`encode` turns records into arrays by a schema and nothing else, so that bounds and categories leak
nothing of them.
"""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fl_research.data.column_names import there_is
from fl_research.data.schema.columns import Column
from fl_research.data.schema.encoding import (
    EncodedFeatures,
    EncodedRecords,
    encode,
    encode_features,
)
from fl_research.data.schema.schema_inference import infer_columns
from fl_research.errors import InputError

__all__ = [
    "Column",
    "EncodedFeatures",
    "EncodedRecords",
    "Schema",
    "encode",
    "encode_features",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schema:
    """The columns of a table.

    Attributes:
      columns: All columns that the table has; those without use have the kind "ignore".
      missing_values: Texts that stand for a missing cell, compared after both are stripped. A
        null of a typed source is always missing.
      drop_duplicates: Whether a row that equals an earlier one in every column is dropped.
      inferred: Whether bounds and values were read off the private records themselves.

    Raises:
      InputError: Not exactly one label, more than one client, no feature, a name that comes
        twice, or a value that also stands for a missing one.
    """

    columns: tuple[Column, ...]
    missing_values: tuple[str, ...] = ("",)
    drop_duplicates: bool = False
    inferred: bool = False

    def __post_init__(self) -> None:
        """Checks the columns against each other."""
        object.__setattr__(self, "columns", tuple(self.columns))
        missing_values = tuple(dict.fromkeys(text.strip() for text in self.missing_values))
        object.__setattr__(self, "missing_values", missing_values)
        names = collections.Counter(column.name for column in self.columns)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise InputError(f"schema: column {twice[0]!r} is described twice; keep one of them")
        kinds = collections.Counter(column.kind for column in self.columns)
        if kinds["label"] != 1 or kinds["client"] > 1:
            for kind, wanted in (("label", "exactly one"), ("client", "at most one")):
                found = [column.name for column in self.columns if column.kind == kind]
                if len(found) > 1 or (kind == "label" and not found):
                    raise InputError(f"schema: columns={found} are of kind {kind!r}; give {wanted}")
        if not kinds["number"] + kinds["category"]:
            raise InputError(
                "schema: no column is of kind 'number' or 'category'; describe a feature"
            )
        for column in self.columns:
            for value in set(column.values or ()) & set(missing_values):
                raise InputError(
                    f"schema: {value!r} is a value of column {column.name!r} and one of "
                    "missing_values; keep one of them"
                )

    @property
    def label_column(self) -> Column:
        """The label."""
        return next(column for column in self.columns if column.kind == "label")

    @property
    def client_column(self) -> Column | None:
        """The client; None: each row is one."""
        return next((column for column in self.columns if column.kind == "client"), None)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order: a number's own, `name=value` for a category's values."""
        return tuple(name for column in self.columns for name in column.feature_names)

    @classmethod
    def from_json(cls, path: str | Path) -> "Schema":
        """Reads the JSON file that `to_dict` describes.

        Raises:
          InputError: No such file, not JSON, or not a schema.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(
                f"schema={path} cannot be read ({error.strerror}); give a JSON file"
            ) from None
        except UnicodeDecodeError as error:
            raise InputError(
                f"schema={path} is not utf-8 text (position {error.start}); save it as utf-8"
            ) from None
        except json.JSONDecodeError as error:
            raise InputError(
                f"schema={path} is not JSON ({error.msg} at line {error.lineno}, character "
                f"{error.colno}); fix it there"
            ) from None
        return cls.from_dict(content)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Schema":
        """Makes a schema of the mapping that `to_dict` gives.

        Raises:
          InputError: A field is unknown, missing or not possible.
        """
        if not isinstance(content, Mapping):
            raise InputError(
                f"schema={str(content)[:60]!r} is not an object; give one with columns"
            )
        known = [field.name for field in dataclasses.fields(cls)]
        for name in content:
            if name not in known:
                raise InputError(f"schema: unknown field {name!r}; {there_is(name, known)}")
        columns = content.get("columns")
        if not isinstance(columns, list | tuple) or not columns:
            raise InputError("schema: columns is missing or empty; give a list of columns")
        missing_values = content.get("missing_values", [""])
        if not isinstance(missing_values, list | tuple) or not all(
            isinstance(text, str) for text in missing_values
        ):
            raise InputError(
                f"schema: missing_values={missing_values!r} is not possible; give a list of texts"
            )
        flags = {name: content.get(name, False) for name in ("drop_duplicates", "inferred")}
        for name, value in flags.items():
            if not isinstance(value, bool):
                raise InputError(f"schema: {name}={value!r} is not possible; give true or false")
        return cls(
            columns=tuple(Column.from_dict(column) for column in columns),
            missing_values=tuple(missing_values),
            **flags,
        )

    def to_dict(self) -> dict[str, Any]:
        """The schema as plain JSON; `from_dict` gives it back."""
        return {
            "columns": [column.to_dict() for column in self.columns],
            "missing_values": list(self.missing_values),
            "drop_duplicates": self.drop_duplicates,
            "inferred": self.inferred,
        }

    @classmethod
    def infer(
        cls,
        records: pd.DataFrame,
        *,
        label_column: str,
        positive_label: str | None = None,
        label_levels: Sequence[str] | None = None,
        client_column: str | None = None,
        drop_columns: Sequence[str] = (),
    ) -> "Schema":
        """Reads bounds and values off the records, an access that no epsilon covers.

        A column is a number where all its cells are and they are not all whole or have more than
        12 distinct values, else a category. A missing number stands at the middle of the bounds, a
        missing category is a value of its own, rows without a label or client are dropped.

        Args:
          records: The table.
          label_column: Name of the label.
          positive_label: The label's value that becomes 1; None: the yes of yes and no.
          label_levels: The label's values in order, where it may have levels instead; empty: all
            of them are numbers. None: it may not.
          client_column: Name of the column that says who a row belongs to; None: each row.
          drop_columns: Names of columns to ignore.

        Raises:
          InputError: A name is not there, or a column has no values or more than 200 texts.
        """
        missing_values = ("",)
        columns = infer_columns(
            records,
            label_column=label_column,
            positive_label=positive_label,
            label_levels=label_levels,
            client_column=client_column,
            drop_columns=drop_columns,
            missing_values=missing_values,
        )
        return cls(columns=columns, missing_values=missing_values, inferred=True)
