"""Value effects against scikit-learn's partial dependence, and by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from fl_research.analyses.value_effects import ValueEffects, mean_prediction
from fl_research.errors import InputError
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.objectives.ordinal import Ordinal
from tests.analyses import trained_task

pytestmark = pytest.mark.usefixtures("tff_runtime")

_KERNEL = np.array([[1.5], [0.0], [-1.5], [2.0], [0.6], [-0.6], [0.0]], np.float32)


def _table(rows: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    return {
        "plan": generator.choice(("basic", "plus", "old"), rows),
        "age": generator.uniform(0, 100, rows),
        "branch": generator.choice(("north", "south"), rows),
        "noise": generator.normal(size=rows),
    }


def _score(table: dict[str, np.ndarray]) -> np.ndarray:
    """The model's score, worked out from its kernel."""
    plan = np.select([table["plan"] == "basic", table["plan"] == "max"], [1.5, -1.5], 0.0)
    branch = np.where(table["branch"] == "north", 0.6, -0.6)
    return plan + 2 * (table["age"] / 50 - 1) + branch


def test_means_are_those_of_rows_with_the_value(tmp_path: Path) -> None:
    table = _table(400)
    clients = trained_task.encoded(table, np.arange(400) % 2)
    context = trained_task.context(
        tmp_path, clients, BinaryClassification(positive="yes"), (_KERNEL, np.zeros(1, np.float32))
    )
    found = ValueEffects()(context)
    assert found["levels"] is None and found["positive"] == "yes" and found["clients"] == 400
    assert found["average"] == pytest.approx(special.expit(_score(table)).mean(), abs=1e-4)
    columns = {column["column"]: column for column in found["columns"]}
    # A value that nobody has is not shown.
    assert columns["plan"]["values"] == ["basic", "plus"]
    shares = [(table["plan"] == plan).mean() for plan in ("basic", "plus")]
    np.testing.assert_allclose(columns["plan"]["shares"], shares)
    for name in ("plan", "age", "branch"):
        for value, mean in zip(columns[name]["values"], columns[name]["means"], strict=True):
            changed = {**table, name: np.full(400, value)}
            expected = special.expit(_score(changed)).mean()
            # An age is told to three digits.
            assert mean == pytest.approx(expected, abs=2e-3 if name == "age" else 1e-4)
    ages = columns["age"]["values"]
    np.testing.assert_allclose(ages, np.percentile(table["age"], [10, 30, 50, 70, 90]), atol=0.5)
    assert columns["noise"]["range"] == 0
    ranges = [column["range"] for column in found["columns"]]
    assert ranges == sorted(ranges, reverse=True)
    assert json.loads(json.dumps(found)) == found


def test_the_mean_of_levels_is_their_expectation(tmp_path: Path) -> None:
    table, levels = _table(300), np.arange(300) % 5
    clients = trained_task.encoded(table, levels)
    objective = Ordinal(levels=("a", "b", "c", "d", "e"))
    weights = (_KERNEL, np.array([1.0, 0.5, -0.5, -1.0], np.float32))
    context = trained_task.context(tmp_path, clients, objective, weights)
    found = ValueEffects()(context)
    predictions = context.predict(clients.features)
    assert found["levels"] == ["a", "b", "c", "d", "e"]
    assert found["average"] == pytest.approx(predictions["expected_level"].mean(), abs=1e-3)
    assert found["average"] == pytest.approx(mean_prediction(context.pooled(clients)))


def test_no_client_is_refused() -> None:
    with pytest.raises(InputError, match="max_clients=0"):
        ValueEffects(max_clients=0)
