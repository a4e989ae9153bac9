"""The customers, metrics and curves of the example runs, in numpy and scikit-learn."""

from typing import Any

import numpy as np

FEATURES = 12


def customers(clients: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [clients, rows, features] in [-1, 1] with a constant, labels [clients, rows]."""
    generator = np.random.default_rng(0)
    inputs = generator.uniform(-1, 1, (clients, rows, FEATURES))
    inputs[..., 0] = 1.0
    truth = np.array([-1.3, 2.0, -1.5, 1.2, 1.0, -0.8, 0.6, 0.5, 0, 0, 0.3, -0.2])
    chance = sigmoid(inputs @ truth + generator.normal(0, 0.5, inputs.shape[:2]))
    return inputs, (generator.uniform(size=chance.shape) < chance).astype(float)


def evaluate(predicted: np.ndarray, labels: np.ndarray) -> tuple[dict[str, float], dict[str, Any]]:
    """Pooled metrics and curves of predictions [clients, rows]."""
    from sklearn import metrics

    p, y = predicted.ravel(), labels.ravel()
    p = np.clip(p, 1e-6, 1 - 1e-6)
    pooled = {
        "auc": float(metrics.roc_auc_score(y, p)),
        "average_precision": float(metrics.average_precision_score(y, p)),
        "accuracy": float(((p > 0.5) == y).mean()),
        "log_loss": float(metrics.log_loss(y, p)),
        "brier": float(np.mean((p - y) ** 2)),
    }
    false_positive, true_positive, _ = metrics.roc_curve(y, p)
    bins = np.minimum((p * 10).astype(int), 9)
    count = np.bincount(bins, minlength=10)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, values, minlength=10) / count for values in (p, y)]
    losses = -(y * np.log(p) + (1 - y) * np.log(1 - p)).reshape(labels.shape).mean(axis=1)
    accuracies = ((predicted > 0.5) == labels).mean(axis=1)
    curves = {
        "roc": {
            "false_positive_rate": false_positive.tolist(),
            "true_positive_rate": true_positive.tolist(),
        },
        "calibration": {
            "predicted": [None if np.isnan(v) else float(v) for v in means[0]],
            "observed": [None if np.isnan(v) else float(v) for v in means[1]],
            "count": count.tolist(),
        },
        "per_client": {"accuracy": _histogram(accuracies), "loss": _histogram(losses)},
        "percentiles": {"accuracy": _percentiles(accuracies), "loss": _percentiles(losses)},
    }
    return pooled, curves


def _histogram(values: np.ndarray) -> dict[str, list[float]]:
    clients, edges = np.histogram(values, bins=30, range=(0, max(1.0, float(values.max()))))
    return {"bin_edges": edges.tolist(), "clients": clients.tolist()}


def _percentiles(values: np.ndarray) -> dict[str, float]:
    low, middle, high = np.percentile(values, [10, 50, 90])
    return {"p10": low, "p50": middle, "p90": high, "clients": len(values)}


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, logits) - labels * logits
