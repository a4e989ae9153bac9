"""The analysis of personalised heads, and the areas under the curve that it states."""

import types

import numpy as np
import pytest
import tensorflow_federated as tff
from sklearn.metrics import log_loss, roc_auc_score

from fl_research.analyses.personalized_heads import PersonalizedHeads, area_under_roc
from fl_research.data.client_data import ClientData
from fl_research.reports.findings import personalized_heads as finding_file
from tests.learning import small_cohorts


def _clients(sizes: dict[str, int], seed: int) -> ClientData:
    """Departments whose labels follow the first input, in `b` its opposite; `one` has one label."""
    generator = np.random.default_rng(seed)
    inputs, labels, ids = [], [], []
    for name, rows in sizes.items():
        x = generator.normal(size=[rows, small_cohorts.NUM_INPUTS]).astype(np.float32)
        sign = -1 if name == "b" else 1
        y = (3 * sign * x[:, 0] + generator.logistic(size=rows) > 0).astype(np.int32)
        inputs.append(x)
        labels.append(np.ones_like(y) if name == "one" else y)
        ids += [name] * rows
    return ClientData.from_rows({"inputs": np.concatenate(inputs)}, np.concatenate(labels), ids)


def _found(train: ClientData, test: ClientData) -> dict:
    model = small_cohorts.model("logistic_regression")
    weights = tff.learning.models.ModelWeights(
        (np.array([[1.0], [0.0], [0.0], [0.0]], np.float32), np.zeros([1], np.float32)), ()
    )
    context = types.SimpleNamespace(
        task=types.SimpleNamespace(train=train, test=test), model=model, weights=weights, seed=0
    )
    return PersonalizedHeads()(context)


def test_area_under_the_curve_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    for rows in (2, 10, 500):
        labels = np.arange(rows) % 2
        scores = generator.integers(5, size=rows) + 0.5 * labels
        expected = roc_auc_score(labels, scores)
        assert area_under_roc(scores, labels) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(area_under_roc(np.ones(3), np.ones(3)))
    assert np.isnan(area_under_roc(np.zeros(0), np.zeros(0)))


def test_departments_of_opposite_laws() -> None:
    train = _clients({"a": 300, "b": 300, "one": 30, "absent": 50}, seed=0)
    test = _clients({"a": 250, "b": 200, "one": 20, "new": 10}, seed=1)
    found = _found(train, test)
    rows = {row["department"]: row for row in found["departments"]}
    assert list(rows) == ["a", "b", "one"]  # the largest first; `new` has nothing to train on
    assert rows["b"]["auc_global"] < 0.2 and rows["b"]["auc_personal"] > 0.8
    assert rows["b"]["log_loss_personal"] < rows["b"]["log_loss_global"]
    assert rows["one"]["auc_global"] is None and rows["one"]["positive_share"] == 1.0
    of_a = test.select([int(np.flatnonzero(test.client_ids == "a")[0])])
    scores = of_a.features["inputs"][:, 0].astype(np.float64)
    assert rows["a"]["auc_global"] == pytest.approx(roc_auc_score(of_a.labels, scores))
    expected = log_loss(of_a.labels, 1 / (1 + np.exp(-scores)))
    assert rows["a"]["log_loss_global"] == pytest.approx(expected, rel=1e-5)
    assert found["together"]["test_rows"] == 470
    total = sum(r["log_loss_personal"] * r["test_rows"] for r in rows.values())
    assert found["together"]["log_loss_personal"] == pytest.approx(total / 470)


def test_report_shows_every_department() -> None:
    found = _found(_clients({"a": 60, "one": 30}, 0), _clients({"a": 50, "one": 20}, 1))
    lines = finding_file.lines(found)
    assert any(line.startswith("| a | 60 | 50 |") for line in lines)
    assert any(line.startswith("| one ") and "| none | none |" in line for line in lines)
    assert "70 test rows" in finding_file.released(found)
    axes = finding_file.figure(found, {}).axes
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["a (50)"]
