"""From the counts and sums of a binary classifier's evaluation to metrics and curves; numpy only.

Log loss, Brier score and accuracy come from exact sums. AUC, average precision and the curves come
from the counts of predicted probabilities in bins: rows in the same bin are taken as tied. With
10,000 bins this moves the AUC by at most half the share of (positive, negative) pairs that fall
into one bin, on real models about 1e-4.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def pooled_metrics(pooled: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics over all rows, by name.

    Args:
      pooled: The pooled part of an evaluation's output.

    Returns:
      auc, average_precision, accuracy (at threshold 1/2), lift_at_10_percent, log_loss (nats) and
      brier (mean squared error of the probability); NaN where undefined.
    """
    examples = int(pooled["examples"])
    sums = {"accuracy": "correct", "log_loss": "loss_sum", "brier": "squared_error_sum"}
    means = {
        metric: float(pooled[total]) / examples if examples else math.nan
        for metric, total in sums.items()
    }
    return {
        "auc": auc(pooled),
        "average_precision": average_precision(pooled),
        "lift_at_10_percent": lift(pooled, 0.1),
        **means,
    }


def auc(pooled: Mapping[str, Any]) -> float:
    """Returns the area under the ROC curve; NaN unless both labels occur."""
    false_positive_rate, true_positive_rate = _rates(pooled)
    return float(np.trapz(true_positive_rate, false_positive_rate))


def average_precision(pooled: Mapping[str, Any]) -> float:
    """Returns the sum over thresholds of precision times the gain in recall; NaN if undefined."""
    negatives, positives = _falling_totals(pooled)
    if not positives[-1]:
        return math.nan
    gain = np.diff(positives, prepend=0.0) / positives[-1]
    precision = positives / np.maximum(positives + negatives, 1.0)
    return float(np.sum(gain * precision))


def lift(pooled: Mapping[str, Any], share: float) -> float:
    """Returns how many times the average rate of label 1 the rows of highest probability have.

    Args:
      pooled: The pooled part of an evaluation's output.
      share: The share of all rows that are looked at, in (0, 1]. Of the rows that tie at its edge
        as many count as there is room for, with their average rate.

    Returns:
      At least 0; NaN unless label 1 occurs.
    """
    negatives, positives = _falling_totals(pooled)
    rows = negatives + positives
    if not positives[-1]:
        return math.nan
    found = np.interp(share * rows[-1], np.r_[0.0, rows], np.r_[0.0, positives])
    return float(found / positives[-1] / share)


def roc_curve(pooled: Mapping[str, Any], max_points: int = 201) -> dict[str, list[float]] | None:
    """Returns the ROC curve, thinned to points that are about equally far apart.

    Args:
      pooled: The pooled part of an evaluation's output.
      max_points: Points to keep at most, 2 or more; both ends are always kept.

    Returns:
      `false_positive_rate` and `true_positive_rate`, ascending from 0 to 1; None unless both
      labels occur.
    """
    false_positive_rate, true_positive_rate = _rates(pooled)
    along = false_positive_rate + true_positive_rate
    if np.isnan(along[-1]):
        return None
    kept = np.unique(np.searchsorted(along, np.linspace(0.0, along[-1], max_points)))
    return {
        "false_positive_rate": false_positive_rate[kept].tolist(),
        "true_positive_rate": true_positive_rate[kept].tolist(),
    }


def calibration_curve(
    pooled: Mapping[str, Any], num_bins: int = 10
) -> dict[str, list[float | None]]:
    """Returns predicted against observed shares in equal bins of the predicted probability.

    Args:
      pooled: The pooled part of an evaluation's output.
      num_bins: Number of bins; it divides the number of bins that were counted.

    Returns:
      `predicted` (mean predicted probability, within half a counted bin), `observed` (share of
      label 1), None in empty bins, and `count` (rows) of each bin.
    """
    negatives = np.asarray(pooled["negative_counts"], np.int64)
    positives = np.asarray(pooled["positive_counts"], np.int64)
    rows = (negatives + positives).reshape(num_bins, -1)
    middles = ((np.arange(rows.size) + 0.5) / rows.size).reshape(num_bins, -1)
    count, hits = rows.sum(axis=1), positives.reshape(num_bins, -1).sum(axis=1)
    sums = (rows * middles).sum(axis=1)
    return {
        "predicted": [float(s / n) if n else None for s, n in zip(sums, count, strict=True)],
        "observed": [float(h / n) if n else None for h, n in zip(hits, count, strict=True)],
        "count": count.tolist(),
    }


def _falling_totals(pooled: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns how many negatives and positives are at or above each bin, from the top down."""
    negatives = np.asarray(pooled["negative_counts"], np.float64)
    positives = np.asarray(pooled["positive_counts"], np.float64)
    return np.cumsum(negatives[::-1]), np.cumsum(positives[::-1])


def _rates(pooled: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns false and true positive rates as the threshold falls; NaN if a label is missing."""
    negatives, positives = _falling_totals(pooled)
    with np.errstate(invalid="ignore"):
        rates = [np.concatenate([[0.0], total / total[-1]]) for total in (negatives, positives)]
    return rates[0], rates[1]
