"""A small table of clients with a linear model, for tests of analyses."""

from pathlib import Path

import numpy as np
import tensorflow_federated as tff

from fl_research.analysis import AnalysisContext
from fl_research.data.client_data import ClientData
from fl_research.data.schema import Column, Schema, encode
from fl_research.learning.evaluation import build_evaluation
from fl_research.models import logistic_regression
from fl_research.objectives.objective import Objective
from fl_research.task import FederatedTask

PLANS = ("basic", "plus", "max")
SCHEMA = Schema(
    columns=(
        Column(name="plan", kind="category", values=PLANS, if_unknown="zeros"),
        Column(name="age", kind="number", minimum=0, maximum=100),
        Column(name="branch", kind="category", values=("north", "south")),
        Column(name="noise", kind="number", minimum=-5, maximum=5),
        Column(name="label", kind="label", values=("0", "1", "2", "3", "4")),
    )
)


def context(
    folder: Path,
    clients: ClientData,
    objective: Objective,
    weights: tuple[np.ndarray, np.ndarray],
    *,
    seed: int = 0,
) -> AnalysisContext:
    """What an analysis of a linear model with these weights gets."""
    task = FederatedTask(
        name="test",
        train=clients,
        validation=clients.select([]),
        test=clients,
        objective=objective,
        unit="one row",
        unit_contains="one row",
        feature_names=SCHEMA.feature_names,
        preparation={"kind": "table", "schema": SCHEMA.to_dict()},
        data_facts={},
    )
    model = logistic_regression.build(
        logistic_regression.Config(), row_types=clients.row_types, objective=objective, seed=0
    )
    return AnalysisContext(
        task=task,
        model=model,
        weights=tff.learning.models.ModelWeights(weights, ()),
        seed=seed,
        num_blocks=2,
        folder=folder,
        evaluation=build_evaluation(model, objective),
    )


def encoded(columns: dict[str, np.ndarray], labels: np.ndarray) -> ClientData:
    """One client a row, of columns of `SCHEMA` without the label."""
    import pandas as pd

    inputs = encode(pd.DataFrame({**columns, "label": labels}), SCHEMA).inputs
    return ClientData.from_rows({"inputs": inputs}, labels.astype(np.int32), None)
