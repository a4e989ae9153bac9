"""Column: what is publicly known of one column of a table, checked when it is made."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fl_research.argument_checks import is_finite_number, require_choice
from fl_research.data.column_names import there_is
from fl_research.data.schema.cells import spellings
from fl_research.errors import InputError

_FIELDS_OF_KIND: dict[str, set[str]] = {
    "client": {"if_missing"},
    "label": {"values", "positive", "if_missing", "if_unknown"},
    "number": {"minimum", "maximum", "scale", "if_missing", "if_out_of_bounds"},
    "category": {"values", "if_missing", "if_unknown"},
    "ignore": set(),
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "scale": ("linear", "log1p"),
    "if_out_of_bounds": ("clip", "drop_row", "error"),
    "if_unknown": ("error", "drop_row", "zeros"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One column and the rules for its cells.

    Attributes:
      name: The column's name in the table.
      kind: "client" (who the row belongs to), "label", "number", "category" or "ignore".
      minimum: Public lower bound of a number; encoded as -1.
      maximum: Public upper bound of a number; encoded as 1.
      values: The public values of a category or label, as stripped text.
      positive: The label's value that becomes 1, all others 0. None: a label becomes its index
        in `values`.
      scale: "linear", or "log1p": log(1 + x) of value and bounds before they are encoded.
      if_missing: "error", "drop_row"; or for a number the number, and for a category the value
        of `values`, that stands in.
      if_out_of_bounds: For a number: "clip", "drop_row" or "error".
      if_unknown: For a category: "error", "drop_row" or "zeros" (none of the values holds); for
        a label one of the first two.

    Raises:
      InputError: A field is not possible, or does not belong to the kind.
    """

    name: str
    kind: str
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] | None = None
    positive: str | None = None
    scale: str = "linear"
    if_missing: str | float = "error"
    if_out_of_bounds: str = "clip"
    if_unknown: str = "error"

    def __post_init__(self) -> None:
        """Checks the fields against the kind."""
        if not isinstance(self.name, str) or not self.name:
            raise InputError(f"schema: column name={self.name!r} is no name; give a text")
        require_choice(self._path("kind"), self.kind, _FIELDS_OF_KIND)
        for field in dataclasses.fields(self):
            belongs = field.name in {"name", "kind"} | _FIELDS_OF_KIND[self.kind]
            if not belongs and getattr(self, field.name) != field.default:
                raise self._error(field.name, f"does not belong to kind {self.kind!r}; remove it")
        for name, choices in _CHOICES.items():
            require_choice(self._path(name), getattr(self, name), choices)
        if self.kind == "number":
            self._check_number()
        else:
            self._check_values()

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Column":
        """Makes a column of the mapping that `to_dict` gives.

        Raises:
          InputError: An unknown field, or one that is missing or not possible.
        """
        if not isinstance(fields, Mapping):
            raise InputError(
                f"schema: column={fields!r} is not an object; give one with name and kind"
            )
        known = [field.name for field in dataclasses.fields(cls)]
        where = f"schema: column {fields.get('name', '?')!r}"
        for name in fields:
            if name not in known:
                raise InputError(f"{where} has an unknown field {name!r}; {there_is(name, known)}")
        for name in ("name", "kind"):
            if name not in fields:
                raise InputError(f"{where} has no {name!r}; give it")
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON of the fields that differ from their defaults."""
        differing: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in ("name", "kind") or value != field.default:
                differing[field.name] = list(value) if isinstance(value, tuple) else value
        return differing

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the inputs it becomes: a number's own, `name=value` for a category's values."""
        if self.kind == "number":
            return (self.name,)
        if self.kind == "category":
            return tuple(f"{self.name}={value}" for value in self.values or ())
        return ()

    def _path(self, field: str) -> str:
        """One field's name in a message."""
        return f"schema: column {self.name!r}: {field}"

    def _error(self, field: str, problem: str) -> InputError:
        """An error about one field: what is wrong, and the way out."""
        return InputError(f"{self._path(field)}={getattr(self, field)!r} {problem}")

    def _check_number(self) -> None:
        """Bounds that are in order, and a stand-in within them."""
        for field in ("minimum", "maximum"):
            if not is_finite_number(getattr(self, field)):
                raise self._error(field, "is no number; give one publicly known to bound it")
            object.__setattr__(self, field, float(getattr(self, field)))
        assert self.minimum is not None and self.maximum is not None
        if self.minimum >= self.maximum:
            raise self._error("minimum", f"is not below maximum={self.maximum!r}; give less")
        if self.scale == "log1p" and self.minimum <= -1:
            raise self._error("minimum", "has no logarithm for scale='log1p'; give more than -1")
        if self.if_missing in ("error", "drop_row"):
            return
        if not is_finite_number(self.if_missing):
            raise self._error("if_missing", "is unknown; give 'error', 'drop_row' or a number")
        object.__setattr__(self, "if_missing", float(self.if_missing))
        if not self.minimum <= self.if_missing <= self.maximum:  # type: ignore[operator]
            raise self._error(
                "if_missing",
                f"is out of bounds; give a number in [{self.minimum}, {self.maximum}]",
            )

    def _check_values(self) -> None:
        """Values that are distinct texts, and a positive and a stand-in among them."""
        if self.kind in ("category", "label"):
            listed = isinstance(self.values, list | tuple)
            values = tuple(spellings(value)[0] for value in self.values or ()) if listed else ()
            least = 2 if self.kind == "label" else 1
            if len(values) < least or len(set(values)) < len(values):
                raise self._error("values", f"is not possible; give {least} or more distinct texts")
            object.__setattr__(self, "values", values)
        if self.positive is not None:
            object.__setattr__(self, "positive", spellings(self.positive)[0])
            if self.positive not in (self.values or ()):
                raise self._error("positive", f"is none of values={self.values}; give one of them")
        if self.kind == "label" and self.if_unknown == "zeros":
            raise self._error("if_unknown", "does not go with a label; give 'error' or 'drop_row'")
        if self.if_missing not in ("error", "drop_row"):
            object.__setattr__(self, "if_missing", spellings(self.if_missing)[0])
            if self.kind != "category" or self.if_missing not in (self.values or ()):
                of_values = " or one of its values" if self.kind == "category" else ""
                raise self._error("if_missing", f"is unknown; give 'error', 'drop_row'{of_values}")
