"""Value effects: what the model predicts on average if every client had a given value.

For each column of the table and each of its values, all test clients take that value in their rows,
all else as it is, and the mean prediction over the rows is taken (partial dependence): how much a
rating of 5 instead of 2 moves the expected satisfaction. Numbers take five values, the 10th, 30th,
50th, 70th and 90th percentile of their distribution over the test clients. Everything is a
federated sum: distributions (`column_marginals`), and the evaluation's counts of predicted
probabilities in bins, whose middles give the mean.

As with feature effects it is the *model* that is described: a value that never comes with the
others in a row gets a prediction all the same, and nothing here is a cause.

Paper: Friedman 2001, "Greedy Function Approximation: A Gradient Boosting Machine".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fl_research.analyses.feature_effects import some_test_clients
from fl_research.argument_checks import require_at_least
from fl_research.data.input_columns import InputColumn, input_columns
from fl_research.data.schema import Column, Schema
from fl_research.objectives.objective import Objective
from fl_research.objectives.ordinal import Ordinal

if TYPE_CHECKING:
    from fl_research.analyses.column_marginals import Marginal
    from fl_research.analysis import AnalysisContext

_PERCENTILES = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValueEffects:
    """The mean prediction for each value of each column.

    Attributes:
      max_clients: Test clients at most; a uniform choice of more.

    Raises:
      InputError: No client.
    """

    name: ClassVar[str] = "value_effects"

    max_clients: int = 20_000

    def __post_init__(self) -> None:
        require_at_least("max_clients", self.max_clients, 1)

    def __call__(self, context: AnalysisContext) -> dict[str, Any]:
        """Returns the mean prediction by column and value, the column that moves it most first.

        Args:
          context: The trained model and its task: binary or ordinal, and its preparation has the
            schema of the table.
        """
        from fl_research.analyses.column_marginals import marginals  # brings TensorFlow in

        schema = Schema.from_dict(context.task.preparation["schema"])
        columns = input_columns(schema)
        clients = some_test_clients(context, self.max_clients)
        of_columns = marginals(clients, columns, num_blocks=context.num_blocks)
        original = np.asarray(clients.features["inputs"])
        changed = original.copy()
        replaced = dataclasses.replace(clients, features={**clients.features, "inputs": changed})
        described = {column.name: column for column in schema.columns}
        effects = []
        for column in columns:
            inputs, means = slice(column.start, column.stop), []
            values = _values(described[column.name], of_columns[column.name])
            for value in values:
                changed[:, inputs] = value["inputs"]
                means.append(mean_prediction(context.pooled(replaced)))
            changed[:, inputs] = original[:, inputs]
            effects.append(_effect(column, values, means))
        return {
            "levels": levels_of(context.objective),
            "positive": getattr(context.objective, "positive", None),
            "average": mean_prediction(context.pooled(clients)),
            "clients": clients.num_clients,
            "columns": sorted(effects, key=lambda effect: -effect["range"]),
        }


def mean_prediction(pooled: Mapping[str, Any]) -> float:
    """Returns the mean probability of label 1, or the mean expected level counted from 0.

    Args:
      pooled: Sums of `BinaryClassification` or of `Ordinal`; at least one row.
    """
    if "step_counts" in pooled:
        # The expected level is the sum over steps of the probability to reach them.
        counts = np.asarray(pooled["step_counts"], np.float64).sum(axis=(0, 1))
    else:
        counts = np.asarray(pooled["negative_counts"], np.float64) + pooled["positive_counts"]
    middles = (np.arange(len(counts)) + 0.5) / len(counts)
    return float(counts @ middles / float(pooled["examples"]))


def _values(column: Column, marginal: Marginal) -> list[dict[str, Any]]:
    """The values that a column takes: their name, inputs, and share of rows."""
    shares = marginal.counts / marginal.counts.sum()
    if column.kind == "category":
        return [
            {"name": name, "inputs": inputs, "share": float(share)}
            for name, inputs, share in zip(
                column.values or (), np.eye(len(column.values or ())), shares, strict=False
            )
            if share > 0
        ]
    places = np.unique(np.searchsorted(np.cumsum(shares), _PERCENTILES))
    points = np.linspace(-1, 1, len(shares))[np.minimum(places, len(shares) - 1)]
    return [
        {"name": _as_number(column, float(at)), "inputs": np.array([at]), "share": None}
        for at in points
    ]


def _as_number(column: Column, at: float) -> float:
    """The number that an input in [-1, 1] stands for."""
    assert column.minimum is not None and column.maximum is not None
    low, high = column.minimum, column.maximum
    if column.scale == "log1p":
        low, high = np.log1p(low), np.log1p(high)
    number = low + (at + 1) / 2 * (high - low)
    return float(f"{np.expm1(number) if column.scale == 'log1p' else number:.3g}")


def _effect(
    column: InputColumn, values: list[dict[str, Any]], means: list[float]
) -> dict[str, Any]:
    """One column of the finding; `range` is between its lowest and its highest mean."""
    return {
        "column": column.name,
        "is_number": column.values is None,
        "values": [value["name"] for value in values],
        "shares": [value["share"] for value in values],
        "means": means,
        "range": float(np.ptp(means)) if means else 0.0,
    }


def levels_of(objective: Objective) -> list[str] | None:
    """Returns the names of the levels; None where the prediction is a probability."""
    return list(objective.levels) if isinstance(objective, Ordinal) else None
