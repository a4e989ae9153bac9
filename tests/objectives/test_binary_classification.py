"""Binary classification: trivial metrics and the lift against other ways to compute them."""

import numpy as np
import pytest
from sklearn import metrics

from fl_research.data.client_data import ClientData
from fl_research.objectives import binary_metrics
from fl_research.objectives.binary_classification import BinaryClassification


def _clients(labels: np.ndarray) -> ClientData:
    """One client a row."""
    features = {"inputs": np.zeros([len(labels), 1], np.float32)}
    return ClientData.from_rows(features, labels.astype(np.int32), None)


def test_trivial_metrics_are_those_of_a_constant_prediction() -> None:
    """Against scikit-learn, with the training rows' share of positives as every prediction."""
    generator = np.random.default_rng(0)
    train, test = (_clients(generator.random(n) < 0.3) for n in (500, 200))
    found = BinaryClassification().trivial(train, test)["trivial"]
    constant = np.full(test.num_rows, train.labels.mean())
    assert found["auc"] == metrics.roc_auc_score(test.labels, constant)
    assert found["average_precision"] == pytest.approx(
        metrics.average_precision_score(test.labels, constant)
    )
    assert found["log_loss"] == pytest.approx(metrics.log_loss(test.labels, constant))
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(test.labels, constant))
    assert found["accuracy"] == pytest.approx(np.mean((constant > 0.5) == test.labels))


def test_lift_is_the_rate_of_the_top_tenth_over_the_average() -> None:
    """Without ties: sort and count. With all tied it is one, whatever the share."""
    generator = np.random.default_rng(1)
    score, labels = generator.permutation(1000), generator.random(1000) < 0.2
    pooled = {
        "negative_counts": np.bincount(score[~labels], minlength=1000),
        "positive_counts": np.bincount(score[labels], minlength=1000),
    }
    expected = labels[score >= 900].mean() / labels.mean()
    assert binary_metrics.lift(pooled, 0.1) == pytest.approx(expected, rel=1e-12)
    tied = {"negative_counts": np.array([0, 70]), "positive_counts": np.array([0, 30])}
    assert binary_metrics.lift(tied, 0.1) == pytest.approx(1.0)
    nobody = {"negative_counts": np.array([3, 4]), "positive_counts": np.array([0, 0])}
    assert np.isnan(binary_metrics.lift(nobody, 0.1))
