"""Groups: how satisfied the customers of each group are, and how well the model knows it.

A group is a value of a category column, or a combination of values of several, such as a branch or
a class of travel. Each test client keeps the rows of the group and takes part in one federated
evaluation of it; only sums leave it. Groups of few rows are left out: their figures would be noise,
and would say much of few persons.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fl_research.analyses.value_effects import levels_of, mean_prediction
from fl_research.argument_checks import require_at_least
from fl_research.data.client_data import ClientData
from fl_research.data.column_names import there_is
from fl_research.data.input_columns import InputColumn, input_columns
from fl_research.data.schema import Schema
from fl_research.errors import InputError

if TYPE_CHECKING:
    from fl_research.analysis import AnalysisContext

_MOST_GROUPS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Groups:
    """Observed and predicted satisfaction, and the primary metric, of each group of test rows.

    Attributes:
      columns: Names of the category columns whose values, in every combination that occurs, are
        the groups; from `group_columns`, which checks them before anything is trained.
      min_rows: Rows that a group needs to be shown, 1 or more.

    Raises:
      InputError: No column, or a number that is too small.
    """

    name: ClassVar[str] = "groups"

    columns: tuple[str, ...]
    min_rows: int = 30

    def __post_init__(self) -> None:
        if not self.columns:
            raise InputError("columns=() makes no groups; name a category column")
        require_at_least("min_rows", self.min_rows, 1)

    def __call__(self, context: AnalysisContext) -> dict[str, Any]:
        """Returns the groups, the most satisfied first.

        Args:
          context: The trained model and its task: binary or ordinal, and its preparation has the
            schema of the table.
        """
        schema = Schema.from_dict(context.task.preparation["schema"])
        columns = group_columns(schema, self.columns)
        test = context.task.test.select(np.arange(context.task.test.num_clients))
        metric = context.objective.primary_metric
        groups, shown_rows = [], 0
        for name, rows in _rows_of_groups(test.features["inputs"], columns):
            if len(rows) < self.min_rows:
                continue
            shown_rows += len(rows)
            members = _with_rows(test, rows)
            pooled = context.pooled(members)
            value = context.objective.metrics(pooled)[metric]
            groups.append(
                {
                    "group": name,
                    "rows": len(rows),
                    "clients": members.num_clients,
                    "observed": mean_observed(pooled),
                    "predicted": mean_prediction(pooled),
                    "metric": value if math.isfinite(value) else None,
                }
            )
        return {
            "columns": list(self.columns),
            "levels": levels_of(context.objective),
            "positive": getattr(context.objective, "positive", None),
            "metric": metric,
            "groups": sorted(groups, key=lambda group: -group["observed"]),
            "rows_left_out": test.num_rows - shown_rows,
            "min_rows": self.min_rows,
        }


def group_columns(schema: Schema, names: Sequence[str]) -> tuple[InputColumn, ...]:
    """Returns the columns that make groups.

    Args:
      schema: The schema of the table.
      names: Names of category columns, each once.

    Raises:
      InputError: There is no such column, it is no category, or there would be too many groups.
    """
    known = {column.name: column for column in input_columns(schema)}
    combinations = 1
    for place, name in enumerate(names):
        if name not in known:
            raise InputError(f"group_columns={name!r} is no feature; {there_is(name, known)}")
        if name in names[:place]:
            raise InputError(f"group_columns={name!r} is named twice; name it once")
        values = known[name].values
        if values is None:
            raise InputError(
                f"group_columns={name!r} is a number, which makes no groups; name a category"
            )
        combinations *= len(values)
    if combinations > _MOST_GROUPS:
        raise InputError(
            f"group_columns={','.join(names)} make {combinations:,} groups, more than "
            f"{_MOST_GROUPS:,}; name fewer columns"
        )
    return tuple(known[name] for name in names)


def mean_observed(pooled: Mapping[str, Any]) -> float:
    """Returns the share of label 1, or the mean level counted from 0.

    Args:
      pooled: Sums of `BinaryClassification` or of `Ordinal`; at least one row.
    """
    if "confusion" in pooled:
        rows = np.asarray(pooled["confusion"]).sum(axis=1)
        return float(rows @ np.arange(len(rows)) / rows.sum())
    return float(np.sum(pooled["positive_counts"]) / int(pooled["examples"]))


def _rows_of_groups(
    inputs: np.ndarray, columns: Sequence[InputColumn]
) -> list[tuple[str, np.ndarray]]:
    """The name and the rows of each group that occurs; a row without one of the values is in none.

    Args:
      inputs: float32[rows, inputs].
      columns: Categories.
    """
    code, has_all = np.zeros(len(inputs), np.int64), np.ones(len(inputs), bool)
    for column in columns:
        some = inputs[:, column.start : column.stop]
        code = code * some.shape[1] + np.argmax(some, axis=1)
        has_all &= some.any(axis=1)
    groups = []
    for found in np.unique(code[has_all]):
        names, rest = [], int(found)
        for column in reversed(columns):
            rest, place = divmod(rest, len(column.values or ()))
            names.append((column.values or ())[place])
        groups.append((" / ".join(reversed(names)), np.flatnonzero(has_all & (code == found))))
    return groups


def _with_rows(clients: ClientData, rows: np.ndarray) -> ClientData:
    """The clients that have some of these rows, with those rows only."""
    owner = np.repeat(np.arange(clients.num_clients), clients.rows_per_client)
    features = {name: np.asarray(values)[rows] for name, values in clients.features.items()}
    return ClientData.from_rows(features, np.asarray(clients.labels)[rows], owner[rows])
