"""Feature effects against scikit-learn's permutation importance on the pooled table."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.inspection import permutation_importance

from fl_research.analyses.column_marginals import NUM_POINTS, Marginal, marginals
from fl_research.analyses.feature_effects import FeatureEffects
from fl_research.data.client_data import ClientData
from fl_research.data.input_columns import InputColumn, input_columns
from fl_research.errors import InputError
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.objectives.ordinal import Ordinal
from tests.analyses import trained_task

pytestmark = pytest.mark.usefixtures("tff_runtime")

_COLUMNS = input_columns(trained_task.SCHEMA)
_KERNEL = np.array([[1.5], [0.0], [-1.5], [2.0], [0.6], [-0.6], [0.0]], np.float32)


def _table(rows: int) -> dict[str, np.ndarray]:
    """Columns, one in ten without any of the known plans."""
    generator = np.random.default_rng(1)
    return {
        "plan": generator.choice((*trained_task.PLANS, "old"), rows, p=(0.3, 0.4, 0.2, 0.1)),
        "age": generator.uniform(0, 100, rows),
        "branch": generator.choice(("north", "south"), rows),
        "noise": generator.normal(size=rows),
    }


class _Linear(ClassifierMixin, BaseEstimator):
    """The same model for scikit-learn, on a table of the columns as they are."""

    classes_ = np.array([0, 1])

    def fit(self, table: np.ndarray, labels: np.ndarray) -> "_Linear":
        return self

    def decision_function(self, table: np.ndarray) -> np.ndarray:
        columns = dict(zip(("plan", "age", "branch", "noise"), table.T, strict=True))
        labels = np.arange(len(table)) % 5  # encode wants some
        data = trained_task.encoded(columns, labels)
        return (data.features["inputs"] @ _KERNEL)[:, 0]


def test_effects_are_permutation_importances(tmp_path: Path) -> None:
    """Means of 12 repeats against 12 of scikit-learn; apart by less than four standard errors."""
    table = _table(1500)
    stacked = np.stack([np.asarray(values, object) for values in table.values()], axis=1)
    score = _Linear().decision_function(stacked)
    labels = (score + np.random.default_rng(2).logistic(size=1500) > 0).astype(int)
    clients = trained_task.encoded(table, labels)
    context = trained_task.context(
        tmp_path, clients, BinaryClassification(), (_KERNEL, np.zeros(1, np.float32))
    )
    found = FeatureEffects(repeats=12)(context)
    expected = permutation_importance(
        _Linear(), stacked, labels, scoring="roc_auc", n_repeats=12, random_state=0
    )
    assert found["metric"] == "auc" and found["clients"] == found["rows"] == 1500
    effects = {effect["column"]: effect for effect in found["columns"]}
    for index, name in enumerate(table):
        spread = np.hypot(expected.importances_std[index], effects[name]["spread"])
        error = 4 * spread / np.sqrt(12) + 2e-4
        assert effects[name]["effect"] == pytest.approx(
            expected.importances_mean[index], abs=error
        ), name
    assert effects["plan"]["effect"] > 0.05 and effects["age"]["effect"] > 0.05
    # A column that the model does not use has no effect at all.
    assert effects["noise"] == {"column": "noise", "effect": 0.0, "spread": 0.0}
    order = [effect["effect"] for effect in found["columns"]]
    assert order == sorted(order, reverse=True)
    assert json.loads(json.dumps(found)) == found


def test_an_error_that_grows_is_a_positive_effect(tmp_path: Path) -> None:
    """Ordinal: the metric is an error, of which less is better; the draws are pure in the seed."""
    levels = np.tile(np.arange(5), 40)
    table = {**_table(200), "age": 10.0 + 20 * levels}
    clients = trained_task.encoded(table, levels)
    kernel = np.zeros([7, 1], np.float32)
    kernel[3] = 60
    bias = np.array([36.0, 12.0, -12.0, -36.0], np.float32)
    objective = Ordinal(levels=("1", "2", "3", "4", "5"))
    context = trained_task.context(tmp_path, clients, objective, (kernel, bias))
    analysis = FeatureEffects()
    found = analysis(context)
    assert found["metric"] == "mae" and found["base"] == 0
    # Two independent draws of 0 to 4 are 1.6 apart on average.
    assert found["columns"][0]["effect"] == pytest.approx(1.6, abs=0.25)
    assert analysis(context) == found
    other = trained_task.context(tmp_path, clients, objective, (kernel, bias), seed=1)
    assert analysis(other) != found


def test_few_of_many_clients_are_looked_at(tmp_path: Path) -> None:
    clients = trained_task.encoded(_table(300), np.arange(300) % 2)
    context = trained_task.context(
        tmp_path, clients, BinaryClassification(), (_KERNEL, np.zeros(1, np.float32))
    )
    found = FeatureEffects(repeats=2, max_clients=50)(context)
    assert found["clients"] == 50


def test_marginals_are_the_counts_of_the_pooled_table() -> None:
    """Whatever the blocks; clients of several rows, and one without rows."""
    table = _table(100)
    rows = trained_task.encoded(table, np.arange(100) % 5)
    splits = np.array([0, 30, 30, 31, 100])
    clients = ClientData(rows.features, rows.labels, splits, np.arange(4))
    found = marginals(clients, _COLUMNS, num_blocks=3)
    plans = [int((table["plan"] == plan).sum()) for plan in (*trained_task.PLANS, "old")]
    assert found["plan"].counts.tolist() == plans
    half = 50 / (NUM_POINTS - 1)
    age, _ = np.histogram(table["age"], bins=NUM_POINTS, range=(-half, 100 + half))
    np.testing.assert_array_equal(found["age"].counts, age)


def test_draws_follow_the_counts() -> None:
    column = InputColumn(name="plan", start=2, stop=4, values=("a", "b"))
    drawn = Marginal(column, np.array([1, 0, 3])).draw(4000, np.random.default_rng(0))
    assert drawn.dtype == np.float32 and drawn.shape == (4000, 2)
    assert not drawn[:, 1].any()
    assert drawn[:, 0].mean() == pytest.approx(0.25, abs=0.04)
    counts = np.zeros(NUM_POINTS, int)
    counts[[0, NUM_POINTS - 1]] = 1
    number = Marginal(InputColumn(name="n", start=0, stop=1), counts)
    drawn = number.draw(100, np.random.default_rng(0))
    assert set(drawn[:, 0].tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"repeats": 1}, "repeats=1"),
        ({"max_clients": 0}, "max_clients=0"),
    ],
)
def test_wrong_settings_are_refused(setting: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        FeatureEffects(**setting)
