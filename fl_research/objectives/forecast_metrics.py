"""Sums of forecast errors by step, which add up over clients, and the metrics that follow."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

_INTERVAL = (0.1, 0.9)


def pinball(forecast: Any, actual: Any, quantiles: Sequence[float]) -> tf.Tensor:
    """Returns the pinball loss of forecasts [..., quantiles] of actual values [..., 1].

    With quantile q and error e = actual - forecast it is q e where e > 0, else (q - 1) e.
    """
    import tensorflow as tf

    q = tf.constant(quantiles, forecast.dtype)
    error = actual - forecast
    return tf.maximum(q * error, (q - 1) * error)


def sums(
    name: str, forecast: tf.Tensor, actual: tf.Tensor, quantiles: Sequence[float]
) -> collections.OrderedDict:
    """Returns sums over rows for each step, each under `name` and what it is.

    Args:
      name: Which forecast it is, such as `model`.
      forecast: float64 [rows, horizon, quantiles]; without quantiles the last axis has size 1.
      actual: float64 [rows, horizon].
      quantiles: Those of the forecast; the middle one, 0.5, is the point forecast.

    Returns:
      float64: absolute_error, squared_error and total (of forecasts) [horizon]; with quantiles
      pinball and not_above (how often the actual value is not above the quantile)
      [horizon, quantiles], and inside_80 [horizon] where 0.1 and 0.9 are among them.
    """
    import tensorflow as tf

    point = forecast[..., quantiles.index(0.5) if quantiles else 0]
    error = point - actual
    found = collections.OrderedDict(
        absolute_error=tf.reduce_sum(tf.abs(error), axis=0),
        squared_error=tf.reduce_sum(tf.square(error), axis=0),
        total=tf.reduce_sum(point, axis=0),
    )
    if quantiles:
        value = actual[..., tf.newaxis]
        found["pinball"] = tf.reduce_sum(pinball(forecast, value, quantiles), axis=0)
        not_above = tf.cast(value <= forecast, tf.float64)
        found["not_above"] = tf.reduce_sum(not_above, axis=0)
    if has_interval(quantiles):
        low, high = (forecast[..., quantiles.index(q)] for q in _INTERVAL)
        inside = tf.cast((actual >= low) & (actual <= high), tf.float64)
        found["inside_80"] = tf.reduce_sum(inside, axis=0)
    return collections.OrderedDict((f"{name}_{what}", value) for what, value in found.items())


def has_interval(quantiles: Sequence[float]) -> bool:
    """Whether the quantiles hold an interval of 80 %."""
    return all(q in quantiles for q in _INTERVAL)


def metrics(pooled: Mapping[str, Any], name: str, quantiles: Sequence[float]) -> dict[str, float]:
    """Returns mae, rmse, wmape, and with quantiles pinball_loss and coverage_80.

    Args:
      pooled: `examples`, `actual_size` and the sums of each forecast by name.
      name: Which forecast.
      quantiles: Those of the forecast.
    """
    values = float(pooled["examples"]) * len(np.asarray(pooled["actual"]))
    size = float(np.sum(pooled["actual_size"]))
    absolute = float(np.sum(pooled[f"{name}_absolute_error"]))
    squared = float(np.sum(pooled[f"{name}_squared_error"]))
    found = {
        "mae": _ratio(absolute, values),
        "rmse": math.sqrt(_ratio(squared, values)),
        "wmape": _ratio(absolute, size),
    }
    if quantiles:
        pinball_sum = float(np.sum(pooled[f"{name}_pinball"]))
        found["pinball_loss"] = _ratio(pinball_sum, values * len(quantiles))
    if has_interval(quantiles):
        found["coverage_80"] = _ratio(float(np.sum(pooled[f"{name}_inside_80"])), values)
    return found


def by_step(
    pooled: Mapping[str, Any], names: Sequence[str], quantiles: Sequence[float], metric: str
) -> dict[str, Any]:
    """Returns what a report draws of the forecasts, plain JSON.

    Args:
      pooled: As for `metrics`.
      names: The forecasts, `model` first.
      quantiles: Those of the forecasts.
      metric: rmse, mae or pinball_loss.

    Returns:
      rows; metric and errors, it by step: {name: [horizon]}; actual and forecast,
      the totals over all clients [horizon]; quantiles and not_above [horizon][quantiles], the
      share of actual values that are not above each quantile.
    """
    rows = int(pooled["examples"])
    quantity = {"rmse": "squared_error", "mae": "absolute_error", "pinball_loss": "pinball"}[metric]
    steps = len(np.asarray(pooled["actual"]))
    errors = {}
    for name in names:
        of_step = np.asarray(pooled[f"{name}_{quantity}"], float).reshape(steps, -1).mean(axis=1)
        means = _shares(of_step, rows)
        errors[name] = [math.sqrt(mean) for mean in means] if metric == "rmse" else means
    found: dict[str, Any] = {
        "rows": rows,
        "metric": metric,
        "errors": errors,
        "actual": np.asarray(pooled["actual"], float).tolist(),
        "forecast": np.asarray(pooled["model_total"], float).tolist(),
        "quantiles": list(quantiles),
    }
    if quantiles:
        found["not_above"] = [
            _shares(step, rows) for step in np.asarray(pooled["model_not_above"], float)
        ]
    return found


def _ratio(numerator: float, denominator: float) -> float:
    """A ratio; NaN where it is undefined."""
    return numerator / denominator if denominator else math.nan


def _shares(values: np.ndarray, rows: int) -> list[float]:
    """Each value by the number of rows."""
    return [_ratio(float(value), rows) for value in values]
