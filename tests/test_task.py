"""A task refuses parts that do not fit."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from fl_research.data.client_data import ClientData
from fl_research.errors import InputError
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.task import FederatedTask


def _clients(labels: list[int], inputs: int = 3) -> ClientData:
    """One client a row."""
    features = {"inputs": np.ones([len(labels), inputs], np.float32)}
    return ClientData.from_rows(features, np.array(labels, np.int32), None)


def _nobody() -> ClientData:
    """A split without clients."""
    return _clients([0, 1]).select(np.zeros(0, np.int64))


def _task(**parts: Any) -> FederatedTask:
    """A good task with some parts changed."""
    good = {
        "name": "churn_prevention",
        "train": _clients([0, 1, 1]),
        "validation": _nobody(),
        "test": _clients([0, 1]),
        "objective": BinaryClassification(),
        "unit": "one customer",
        "unit_contains": "one row",
        "feature_names": ("a", "b", "c"),
        "preparation": {},
        "data_facts": {},
    }
    return FederatedTask(**(good | parts))


def test_parts_that_fit() -> None:
    """A validation split without clients is fine."""
    assert _task().primary_metric == "auc"
    assert dataclasses.replace(_task(), unit="one row").unit == "one row"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": _nobody()}, "the train split has no rows"),
        ({"test": _nobody()}, "the test split has no rows"),
        ({"test": _clients([0, 1], inputs=4)}, r"test features are .*\(4,\).* train features"),
        ({"train": _clients([0, 2])}, r"labels must be 0 or 1"),
        ({"train": _clients([1, 1])}, r"every label of the train split is 1"),
    ],
)
def test_parts_that_do_not_fit(parts: dict[str, Any], message: str) -> None:
    """One line that says which part."""
    with pytest.raises(InputError, match=message):
        _task(**parts)
