"""Metrics from counts and sums, against scikit-learn on the same scores."""

import collections
import json

import numpy as np
import pytest
import sklearn.metrics

from fl_research.learning import client_spread
from fl_research.objectives import binary_metrics as metrics

NUM_BINS = 10_000


def _pooled(
    probability: np.ndarray, labels: np.ndarray, num_bins: int = NUM_BINS
) -> collections.OrderedDict:
    """The counts and sums of these rows, computed with numpy."""
    bins = np.minimum((probability * num_bins).astype(int), num_bins - 1)
    loss = -np.log(np.where(labels == 1, probability, 1 - probability))
    return collections.OrderedDict(
        negative_counts=np.bincount(bins[labels == 0], minlength=num_bins),
        positive_counts=np.bincount(bins[labels == 1], minlength=num_bins),
        loss_sum=loss.sum(),
        squared_error_sum=np.sum((probability - labels) ** 2),
        correct=np.sum((probability >= 0.5) == labels),
        examples=len(labels),
    )


def _scores(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities in the middles of the bins, so that binning loses nothing, and labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, rows)
    raw = 1 / (1 + np.exp(-generator.normal(size=rows) - labels))
    return (np.floor(raw * NUM_BINS) + 0.5) / NUM_BINS, labels


def test_metrics_equal_scikit_learn() -> None:
    """On scores that the bins keep apart, every metric agrees to 1e-10."""
    probability, labels = _scores(2000, seed=0)
    assert len(np.unique(probability)) < 2000, "there must be ties"
    found = metrics.pooled_metrics(_pooled(probability, labels))
    del found["lift_at_10_percent"]  # Tested in test_binary_classification.
    expected = {
        "auc": sklearn.metrics.roc_auc_score(labels, probability),
        "average_precision": sklearn.metrics.average_precision_score(labels, probability),
        "accuracy": sklearn.metrics.accuracy_score(labels, probability >= 0.5),
        "log_loss": sklearn.metrics.log_loss(labels, probability),
        "brier": sklearn.metrics.brier_score_loss(labels, probability),
    }
    assert found == pytest.approx(expected, abs=1e-10)


def test_constant_score_has_auc_one_half() -> None:
    found = metrics.pooled_metrics(_pooled(np.full(8, 0.3), np.array([0, 1] * 4)))
    assert found["auc"] == 0.5 and found["average_precision"] == 0.5


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_missing_labels_give_nan_and_no_curve(labels: list[int]) -> None:
    pooled = _pooled(np.full(len(labels), 0.4), np.array(labels, int))
    found = metrics.pooled_metrics(pooled)
    assert np.isnan(found["auc"])
    assert np.isnan(found["average_precision"]) == (1 not in labels)
    assert np.isnan(found["log_loss"]) == (not labels)
    assert metrics.roc_curve(pooled) is None
    assert sum(metrics.calibration_curve(pooled)["count"]) == len(labels)


def test_roc_curve_keeps_its_ends_and_its_area() -> None:
    """201 points hold the area to 1e-3, rise from (0, 0) to (1, 1) and lie on the full curve."""
    probability, labels = _scores(5000, seed=1)
    pooled = _pooled(probability, labels)
    curve = metrics.roc_curve(pooled)
    assert curve is not None
    x, y = np.array(curve["false_positive_rate"]), np.array(curve["true_positive_rate"])
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1) and 100 < len(x) <= 201
    assert (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()
    assert np.trapz(y, x) == pytest.approx(metrics.auc(pooled), abs=1e-3)
    full_x, full_y, _ = sklearn.metrics.roc_curve(labels, probability, drop_intermediate=False)
    full = set(zip(full_x.round(9), full_y.round(9), strict=True))
    assert set(zip(x.round(9), y.round(9), strict=True)) <= full
    json.dumps(curve)


def test_calibration_curve_equals_means_by_bin() -> None:
    """Predicted means agree to 1e-10 on scores in the middles of the bins; empty bins are None."""
    probability, labels = _scores(3000, seed=2)
    kept = (probability < 0.6) | (probability > 0.7)
    probability, labels = probability[kept], labels[kept]
    curve = metrics.calibration_curve(_pooled(probability, labels))
    for tenth in range(10):
        inside = np.floor(probability * 10) == tenth
        assert curve["count"][tenth] == inside.sum()
        if tenth == 6:
            assert curve["predicted"][tenth] is None and curve["observed"][tenth] is None
        else:
            mean = probability[inside].mean()
            assert curve["predicted"][tenth] == pytest.approx(mean, abs=1e-10)
            assert curve["observed"][tenth] == pytest.approx(labels[inside].mean(), abs=1e-10)
    json.dumps(curve)


def test_percentiles_and_histogram_leave_out_what_is_undefined() -> None:
    values = np.array([np.nan, *np.arange(11) / 10, np.inf])
    assert client_spread.percentiles(values) == pytest.approx(
        {"p10": 0.1, "p50": 0.5, "p90": 0.9, "clients": 11}
    )
    assert client_spread.percentiles(np.array([np.nan])) is None
    found = client_spread.histogram(values, num_bins=2)
    assert found == {"bin_edges": [0.0, 0.5, 1.0], "clients": [5, 6]}
    assert client_spread.histogram(np.array([3.0, 0.5]), num_bins=3)["clients"] == [1, 0, 1]
    assert sum(client_spread.histogram(np.array([np.nan]))["clients"]) == 0
