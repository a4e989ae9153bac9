"""The multiclass objective: its metrics against scikit-learn, its sums, its trivial model."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import special
from sklearn import metrics as sklearn_metrics

from fl_research.data.client_data import ClientData
from fl_research.errors import InputError
from fl_research.objectives import multiclass
from fl_research.objectives.client_rows import ClientRows
from fl_research.objectives.multiclass import MulticlassClassification

NAMES = ("a", "b", "c", "never")
OBJECTIVE = MulticlassClassification(classes=NAMES)


def _rows(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Outputs that often put the true class first, and labels of the first three classes."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, number).astype(np.int32)
    outputs = generator.normal(0, 1.5, [number, 4]).astype(np.float32)
    outputs[:, 3] -= 10
    return outputs + 2 * np.eye(4, dtype=np.float32)[labels], labels


def _pooled(outputs: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    sums = OBJECTIVE.pooled(tf.constant(outputs), tf.constant(labels), {})
    return {name: value.numpy() for name, value in sums.items()}


def _clients(labels: list[int]) -> ClientData:
    ids = np.zeros([len(labels), 2], np.int32)
    return ClientData.from_rows({"ids": ids}, np.array(labels, np.int32), None)


def test_metrics_are_those_of_scikit_learn() -> None:
    outputs, labels = _rows(300)
    answers = outputs.argmax(axis=1)
    found = OBJECTIVE.metrics(_pooled(outputs, labels))
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, answers))
    assert found["macro_f1"] == pytest.approx(
        sklearn_metrics.f1_score(labels, answers, average="macro")
    )
    expected = sklearn_metrics.log_loss(
        labels, special.softmax(outputs.astype(float), axis=1), labels=range(4)
    )
    assert found["log_loss"] == pytest.approx(expected, rel=1e-6)
    confusion = _pooled(outputs, labels)["confusion"]
    np.testing.assert_array_equal(
        confusion, sklearn_metrics.confusion_matrix(labels, answers, labels=range(4))
    )


def test_a_class_that_is_only_answered_counts_as_in_scikit_learn() -> None:
    outputs = np.eye(4, dtype=np.float32)[[0, 1, 3]]
    labels = np.array([0, 1, 1], np.int32)
    found = OBJECTIVE.metrics(_pooled(outputs, labels))["macro_f1"]
    expected = sklearn_metrics.f1_score(labels, [0, 1, 3], average="macro", zero_division=0)
    assert found == pytest.approx(expected)


def test_sums_add_up_over_blocks() -> None:
    outputs, labels = _rows(50)
    whole = _pooled(outputs, labels)
    parts = [_pooled(outputs[rows], labels[rows]) for rows in (slice(20), slice(20, None))]
    for name, value in whole.items():
        np.testing.assert_allclose(parts[0][name] + parts[1][name], value, rtol=1e-12)
    nothing = OBJECTIVE.metrics(_pooled(outputs[:0], labels[:0]))
    assert all(np.isnan(value) for value in nothing.values())


def test_the_loss_is_the_cross_entropy_and_stacks() -> None:
    outputs, labels = _rows(12)
    log_softmax = special.log_softmax(outputs.astype(float), axis=1)
    expected = -log_softmax[np.arange(12), labels]
    stacked = OBJECTIVE.row_loss(outputs.reshape(3, 4, 4), tf.constant(labels.reshape(3, 4)))
    np.testing.assert_allclose(np.ravel(stacked), expected, rtol=1e-5)


def test_metrics_of_each_client() -> None:
    outputs, labels = _rows(7)
    splits = np.array([0, 3, 3, 7])
    found = OBJECTIVE.per_client(
        tf.constant(outputs), tf.constant(labels), {}, ClientRows(tf.constant(splits))
    )
    right = outputs.argmax(axis=1) == labels
    np.testing.assert_allclose(found["accuracy"], [right[:3].mean(), np.nan, right[3:].mean()])
    assert next(iter(found)) == "accuracy" and np.isnan(found["loss"][1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_without_numbers_is_wrong(bad: float) -> None:
    outputs, labels = np.eye(4, dtype=np.float32)[[0, 1]], np.array([0, 1], np.int32)
    outputs[0, 2] = bad
    sums = _pooled(outputs, labels)
    assert OBJECTIVE.metrics(sums)["accuracy"] == 0.5
    assert sums["confusion"].sum() == sums["answered_counts"].sum() == 1
    accuracy = OBJECTIVE.per_client(
        tf.constant(outputs), tf.constant(labels), {}, ClientRows(tf.constant([0, 1, 2]))
    )["accuracy"]
    np.testing.assert_array_equal(accuracy, [0, 1])


def test_coverage_answers_the_surest_first() -> None:
    """Against sorting all rows by confidence, at every point, to the width of a bin."""
    outputs, labels = _rows(400)
    confidence = special.softmax(outputs.astype(float), axis=1).max(axis=1)
    right = outputs.argmax(axis=1) == labels
    curve = OBJECTIVE.findings(_pooled(outputs, labels))["accuracy_over_coverage"]
    assert curve["coverage"][-1] == 1.0 and curve["accuracy"][-1] == right.mean()
    assert np.all(np.diff(curve["coverage"]) > 0) and np.all(np.diff(curve["threshold"]) < 0)
    for threshold, coverage, accuracy in zip(*(curve[n] for n in curve), strict=True):
        answered = confidence >= threshold
        assert coverage == pytest.approx(answered.mean())
        assert accuracy == pytest.approx(right[answered].mean())


def test_coverage_of_nothing_is_empty() -> None:
    outputs = np.full([2, 4], np.nan, np.float32)
    found = OBJECTIVE.findings(_pooled(outputs, np.array([0, 1], np.int32)))
    assert found["accuracy_over_coverage"]["coverage"] == []
    assert found["confusion"]["most_confused"] == []


def test_most_confused_are_the_largest_wrong_cells() -> None:
    confusion = np.array([[5, 3, 0, 0], [0, 9, 1, 0], [0, 0, 4, 0], [0, 0, 0, 0]])
    assert multiclass.most_confused(confusion, NAMES) == [
        {"true": "a", "answer": "b", "rows": 3, "share": 3 / 8},
        {"true": "b", "answer": "c", "rows": 1, "share": 1 / 10},
    ]


def test_trivial_is_what_the_objective_says_of_that_model() -> None:
    """The metrics of a model that gives every row the logs of the counted shares."""
    train, test = _clients([1, 1, 1, 0, 2]), _clients([1, 0, 1, 2])
    shares = np.log(np.array([2, 4, 2, 1]) / 9).astype(np.float32)
    outputs = np.tile(shares, [4, 1])
    expected = OBJECTIVE.metrics(_pooled(outputs, np.asarray(test.labels)))
    assert OBJECTIVE.trivial(train, test)["trivial"] == pytest.approx(expected, rel=1e-6)
    assert expected["accuracy"] == 0.5


def test_predictions_name_the_surest_class() -> None:
    outputs, _ = _rows(5)
    found = OBJECTIVE.predictions(tf.constant(outputs), {})
    np.testing.assert_array_equal(found["class_index"], outputs.argmax(axis=1))
    np.testing.assert_allclose(found["probabilities"], special.softmax(outputs, axis=1), rtol=1e-5)
    np.testing.assert_allclose(found["confidence"], np.max(found["probabilities"], axis=1))
    assert OBJECTIVE.describe()["classes"] == list(NAMES)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MulticlassClassification(classes=("a",)), "not two or more different names"),
        (lambda: MulticlassClassification(classes=("a", "a")), "not two or more different"),
        (lambda: MulticlassClassification(classes=NAMES, primary_metric="auc"), "primary_metric"),
        (lambda: OBJECTIVE.check(_clients([0, 4])), r"labels must be 0 to 3, train has \[0, 4\]"),
        (lambda: OBJECTIVE.check(_clients([2, 2])), "every label of the train split is 'c'"),
    ],
)
def test_wrong_settings_and_labels_are_refused(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()
