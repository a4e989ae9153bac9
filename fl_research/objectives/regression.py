"""Forecasts of several steps ahead, in the units of the value, from scaled targets.

A label is what came in each of `horizon` periods, divided by the client's own scale. The loss is
taken on labels that are clipped to public bounds, so that one giant order does not rule a client's
update; the metrics are of whole values in their own units. `squared` makes the model forecast the
mean, `absolute` the median, `pinball` several quantiles (Koenker and Bassett 1978, "Regression
quantiles"). Quantiles that cross are sorted, which never makes the loss worse (Chernozhukov et al.
2010, "Quantile and probability curves without crossing").

The primary metric is the one that the loss is about: RMSE, WMAPE or pinball loss. Where most
periods are zero the median is zero too: mean absolute error and WMAPE are then best for a forecast
of nothing, and say little.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fl_research.argument_checks import is_finite_number, require_at_least, require_choice
from fl_research.data.clients import Clients
from fl_research.data.windows import NAIVE, OWN_QUANTILES, SCALE
from fl_research.errors import InputError
from fl_research.objectives import forecast_metrics
from fl_research.objectives.objective import Objective

if TYPE_CHECKING:
    import tensorflow as tf

    from fl_research.objectives.client_rows import ClientRows

LOSSES = {"squared": "rmse", "absolute": "wmape", "pinball": "pinball_loss"}
"""Each loss, and the metric that it minimises."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regression(Objective):
    """Forecasts of `horizon` periods; labels are scaled values, float32 [horizon].

    Outputs are float32 [..., rows, horizon * quantiles], of each step all quantiles.

    Attributes:
      horizon: Periods ahead, 1 or more.
      loss: `squared`, `absolute` or `pinball`.
      quantiles: With `pinball`: rising, in (0, 1), with 0.5 among them, which is the forecast.
      clip: Public bounds (low, high) of scaled values, for the loss and for forecasts.
      naive: Names of the baselines in the feature `naive`.
      value: What is forecast, in words.
      primary_metric: By the loss.
      label_shape: `(horizon,)`.
      num_outputs: `horizon` times the number of quantiles.

    Raises:
      InputError: A value is not possible.
    """

    horizon: int
    loss: str
    quantiles: tuple[float, ...] = ()
    clip: tuple[float, float] = (-1.0, 10.0)
    naive: tuple[str, ...] = ()
    value: str = "value"
    primary_metric: str = dataclasses.field(init=False)
    label_shape: tuple[int, ...] = dataclasses.field(init=False)
    num_outputs: int | None = dataclasses.field(init=False)
    label_dtype: ClassVar[type] = np.float32

    def __post_init__(self) -> None:
        require_at_least("horizon", self.horizon, 1)
        require_choice("loss", self.loss, LOSSES)
        low, high = self.clip
        if not (is_finite_number(low) and is_finite_number(high) and low <= 0 < high):
            raise InputError(f"clip={self.clip} are no bounds; give low,high with low <= 0 < high")
        self._check_quantiles()
        object.__setattr__(self, "primary_metric", LOSSES[self.loss])
        object.__setattr__(self, "label_shape", (self.horizon,))
        object.__setattr__(self, "num_outputs", self.horizon * self.num_quantiles)

    @property
    def num_quantiles(self) -> int:
        """Numbers that are forecast of one period."""
        return max(1, len(self.quantiles))

    def check(self, train: Clients) -> None:
        """Checks the number of steps; see `Objective.check`."""
        labels = train.select(np.arange(min(1, train.num_clients))).labels
        if labels.shape[1:] != self.label_shape:
            raise InputError(
                f"labels have {labels.shape[1:]} numbers a row, horizon={self.horizon} needs "
                f"{self.label_shape}; cut the windows with the same horizon"
            )

    def row_loss(self, outputs: Any, labels: tf.Tensor) -> tf.Tensor:
        """Returns each row's mean loss over steps and quantiles, of clipped scaled labels."""
        import tensorflow as tf

        clipped = tf.clip_by_value(labels, *self.clip)
        if self.loss == "pinball":
            losses = forecast_metrics.pinball(
                self._by_quantile(outputs), clipped[..., tf.newaxis], self.quantiles
            )
            return tf.reduce_mean(losses, axis=[-2, -1])
        error = outputs - clipped
        size = tf.square(error) if self.loss == "squared" else tf.abs(error)
        return tf.reduce_mean(size, axis=-1)

    def pooled(
        self, outputs: Any, labels: tf.Tensor, features: Mapping[str, tf.Tensor]
    ) -> collections.OrderedDict:
        """Returns `forecast_metrics.sums` of the model and of each baseline, by step."""
        import tensorflow as tf

        actual = self._in_units(labels, features)
        forecasts = {"model": self._forecasts(outputs, features), **self._baselines(features)}
        sums = collections.OrderedDict(
            examples=tf.shape(labels, tf.int64)[0],
            actual=tf.reduce_sum(actual, axis=0),
            actual_size=tf.reduce_sum(tf.abs(actual), axis=0),
        )
        for name, forecast in forecasts.items():
            sums.update(forecast_metrics.sums(name, forecast, actual, self.quantiles))
        return sums

    def per_client(
        self,
        outputs: Any,
        labels: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        clients: ClientRows,
    ) -> collections.OrderedDict:
        """Returns scaled_mae (the mean absolute error as a share of the client's own scale), mae
        and loss of each client; NaN for one without rows.
        """
        import tensorflow as tf

        actual = self._in_units(labels, features)
        forecast = self._forecasts(outputs, features)[..., self._middle]
        error = tf.reduce_mean(tf.abs(forecast - actual), axis=-1)
        scale = tf.cast(features[SCALE], tf.float64)
        return collections.OrderedDict(
            scaled_mae=clients.mean(error / scale),
            mae=clients.mean(error),
            loss=clients.mean(tf.cast(self.row_loss(outputs, labels), tf.float64)),
        )

    def metrics(self, pooled: Mapping[str, Any]) -> dict[str, float]:
        """Returns mae, rmse and wmape of the forecast; with quantiles pinball_loss, and with 0.1
        and 0.9 among them coverage_80. NaN where undefined.
        """
        return forecast_metrics.metrics(pooled, "model", self.quantiles)

    def findings(self, pooled: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the errors by step beside those of the baselines, and of all demand together."""
        names = ["model", *self._baseline_names]
        # By step a share of the sum says no more than the error itself.
        metric = "mae" if self.primary_metric == "wmape" else self.primary_metric
        found = forecast_metrics.by_step(pooled, names, self.quantiles, metric)
        return {"forecast": {"value": self.value, **found}}

    def trivial(self, train: Clients, test: Clients) -> dict[str, dict[str, float]]:
        """Returns the test metrics of the baselines: those of the feature `naive`, always zero,
        and with quantiles those of each client's own history.
        """
        import tensorflow as tf

        rows = test.select(np.arange(test.num_clients))
        features = {name: tf.constant(values) for name, values in rows.features.items()}
        outputs = tf.zeros([rows.num_rows, self.num_outputs])
        pooled = self.pooled(outputs, tf.constant(rows.labels), features)
        pooled = collections.OrderedDict((name, total.numpy()) for name, total in pooled.items())
        return {
            name: forecast_metrics.metrics(pooled, name, self.quantiles)
            for name in self._baseline_names
        }

    def predictions(self, outputs: Any, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns `forecast` float32[rows, horizon] in units of the value, and with quantiles
        `quantile_10` and so on.
        """
        import tensorflow as tf

        forecasts = tf.cast(self._forecasts(outputs, features), tf.float32)
        answers = {"forecast": forecasts[..., self._middle]}
        for index, quantile in enumerate(self.quantiles):
            name = f"quantile_{100 * quantile:g}".replace(".", "_")
            answers[name] = forecasts[..., index]
        return answers

    def describe(self) -> dict[str, Any]:
        """Returns what the outputs are."""
        return {
            "kind": "regression",
            "loss": self.loss,
            "quantiles": list(self.quantiles),
            "horizon": self.horizon,
            "clip": list(self.clip),
            "value": self.value,
        }

    def _check_quantiles(self) -> None:
        """Quantiles where they are needed, and only there."""
        rising = all(a < b for a, b in zip(self.quantiles, self.quantiles[1:], strict=False))
        inside = all(is_finite_number(q) and 0 < q < 1 for q in self.quantiles)
        if self.loss != "pinball" and self.quantiles:
            raise InputError(
                f"quantiles={self.quantiles} do not go with loss={self.loss!r}; leave them out, or "
                "give loss='pinball'"
            )
        if self.loss == "pinball" and not (rising and inside and 0.5 in self.quantiles):
            raise InputError(
                f"quantiles={self.quantiles} are not possible; give rising numbers in (0, 1) with "
                "0.5 among them, such as 0.1,0.5,0.9"
            )

    @property
    def _middle(self) -> int:
        """The index of the forecast among what is said of one period."""
        return self.quantiles.index(0.5) if self.quantiles else 0

    @property
    def _baseline_names(self) -> tuple[str, ...]:
        """Names of the forecasts that need no model."""
        own = ("own_quantiles",) if self.quantiles else ()
        return (*self.naive, "always_zero", *own)

    def _by_quantile(self, outputs: tf.Tensor) -> tf.Tensor:
        """Outputs as [..., rows, horizon, quantiles]."""
        import tensorflow as tf

        shape = tf.concat([tf.shape(outputs)[:-1], [self.horizon, self.num_quantiles]], axis=0)
        return tf.reshape(outputs, shape)

    def _forecasts(self, outputs: Any, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The forecasts in units of the value, float64 [rows, horizon, quantiles]."""
        import tensorflow as tf

        scaled = tf.cast(self._by_quantile(outputs), tf.float64)
        scaled = tf.clip_by_value(tf.sort(scaled, axis=-1), *self.clip)
        return scaled * tf.cast(features[SCALE], tf.float64)[:, tf.newaxis, tf.newaxis]

    def _in_units(self, labels: tf.Tensor, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The labels in units of the value, float64 [rows, horizon]."""
        import tensorflow as tf

        return tf.cast(labels, tf.float64) * tf.cast(features[SCALE], tf.float64)[:, tf.newaxis]

    def _baselines(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The forecasts of the baselines, float64 [rows, horizon, quantiles], by name."""
        import tensorflow as tf

        naive = tf.cast(features[NAIVE], tf.float64)
        points = {name: naive[:, index] for index, name in enumerate(self.naive)}
        points["always_zero"] = tf.zeros_like(naive[:, 0])
        of_quantiles = [1, 1, self.num_quantiles]
        forecasts = {n: tf.tile(p[..., tf.newaxis], of_quantiles) for n, p in points.items()}
        if self.quantiles:
            own = tf.cast(features[OWN_QUANTILES], tf.float64)
            forecasts["own_quantiles"] = tf.tile(own[:, tf.newaxis], [1, self.horizon, 1])
        return forecasts
