"""Ordinal regression: levels in order, such as one to five stars, by cumulative logits.

For K levels a model gives K-1 outputs: one score of the row, plus a bias for each step from one
level to the next. They become the log-odds of "level k or higher" (`ordinal_rows`), so that a
linear model is McCullagh's proportional odds model, in which a feature moves all these odds by the
same factor; an MLP gives a score that is not linear. The loss is minus the log-likelihood.

The predicted level is the median of the predicted distribution, which no other prediction beats in
mean absolute error. The AUC is the mean over the K-1 steps of the AUC of "level k or higher" by its
predicted probability, so that no level has to be named as the one that counts; steps that all rows
or none have reached are left out of it.

Papers: McCullagh 1980, "Regression Models for Ordinal Data"; Cao, Mirjalili and Raschka 2020, "Rank
consistent ordinal regression for neural networks with application to age estimation" (the shared
score).
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fl_research.argument_checks import require_at_least, require_choice
from fl_research.data.clients import Clients
from fl_research.errors import InputError
from fl_research.objectives import binary_metrics
from fl_research.objectives.objective import Objective

if TYPE_CHECKING:
    import tensorflow as tf

    from fl_research.objectives.client_rows import ClientRows

_METRICS = ("mae", "accuracy", "auc", "log_loss")
_MOST_LEVELS = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ordinal(Objective):
    """K-1 outputs a row; labels are levels 0 to K-1.

    Attributes:
      levels: Names of the levels, the lowest first, 3 to 100 of them.
      primary_metric: `"mae"` (mean |predicted level - true level|, in levels), `"accuracy"`,
        `"auc"` or `"log_loss"`.
      num_bins: Bins of the predicted probability for the AUC, at least 2.

    Raises:
      InputError: Too few or too many levels, a name twice, or an unknown metric.
    """

    levels: tuple[str, ...]
    primary_metric: str = "mae"
    num_bins: int = 2_000
    shared_score: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))
        if not 3 <= len(self.levels) <= _MOST_LEVELS:
            raise InputError(
                f"levels={self.levels[:5]} are {len(self.levels)}; give 3 to {_MOST_LEVELS}, or "
                "for two of them the positive one (--positive_label)"
            )
        if len(set(self.levels)) < len(self.levels):
            raise InputError(f"levels={self.levels} has a name twice; give each level once")
        require_choice("primary_metric", self.primary_metric, _METRICS)
        require_at_least("num_bins", self.num_bins, 2)

    @property
    def num_outputs(self) -> int:  # type: ignore[override]
        """One output for each step from a level to the next."""
        return len(self.levels) - 1

    def check(self, train: Clients) -> None:
        """Checks that labels are levels, and not all the same; see `Objective.check`."""
        found = list(train.label_counts())
        if not np.isin(found, range(len(self.levels))).all():
            raise InputError(
                f"labels must be levels from 0 to {len(self.levels) - 1}, train has {found[:5]}; "
                "list the levels in order as the label's values in the schema"
            )
        if len(found) < 2:
            raise InputError(
                f"every label of the train split is {self.levels[found[0]]!r}; there is nothing to "
                "tell apart: check --label_column, or take another --seed"
            )

    def row_loss(self, outputs: Any, labels: tf.Tensor) -> tf.Tensor:
        """Returns minus the log-probability of each row's level."""
        from fl_research.objectives import ordinal_rows

        return ordinal_rows.row_loss(outputs, labels)

    def pooled(
        self, outputs: Any, labels: tf.Tensor, features: Mapping[str, tf.Tensor]
    ) -> collections.OrderedDict:
        """Returns confusion int64[K, K] (rows by true and predicted level), step_counts
        int64[K-1, 2, num_bins] (for each step, rows that do not and that do reach it, by the
        predicted probability that they do), loss_sum float64 (nats) and examples int64.
        """
        import tensorflow as tf

        from fl_research.objectives import binary_rows, ordinal_rows

        outputs = tf.cast(outputs, tf.float64)
        log_odds = ordinal_rows.cumulative_log_odds(outputs)
        steps = [
            binary_rows.probability_counts(
                log_odds[:, step], tf.cast(labels > step, tf.int32), self.num_bins
            )
            for step in range(self.num_outputs)
        ]
        return collections.OrderedDict(
            confusion=ordinal_rows.confusion(
                labels, ordinal_rows.median_level(outputs), len(self.levels)
            ),
            step_counts=tf.stack(steps),
            loss_sum=tf.reduce_sum(ordinal_rows.row_loss(outputs, labels)),
            examples=tf.size(labels, tf.int64),
        )

    def per_client(
        self,
        outputs: Any,
        labels: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        clients: ClientRows,
    ) -> collections.OrderedDict:
        """Returns mae, accuracy and loss of each client; NaN without rows."""
        import tensorflow as tf

        from fl_research.objectives import ordinal_rows

        outputs = tf.cast(outputs, tf.float64)
        off = tf.abs(ordinal_rows.median_level(outputs) - tf.cast(labels, tf.int32))
        return collections.OrderedDict(
            mae=clients.mean(tf.cast(off, tf.float64)),
            accuracy=clients.mean(tf.cast(tf.equal(off, 0), tf.float64)),
            loss=clients.mean(ordinal_rows.row_loss(outputs, labels)),
        )

    def metrics(self, pooled: Mapping[str, Any]) -> dict[str, float]:
        """Returns mae, accuracy, auc and log_loss; NaN without rows, auc also where all rows are of
        one level.
        """
        examples = int(pooled["examples"])
        areas = [
            binary_metrics.auc({"negative_counts": not_reached, "positive_counts": reached})
            for not_reached, reached in np.asarray(pooled["step_counts"])
            if not_reached.any() and reached.any()
        ]
        loss = float(pooled["loss_sum"]) / examples if examples else math.nan
        return {
            **_of_confusion(np.asarray(pooled["confusion"])),
            "auc": float(np.mean(areas)) if areas else math.nan,
            "log_loss": loss,
        }

    def findings(self, pooled: Mapping[str, Any]) -> dict[str, Any]:
        """Returns how many rows of each true level are predicted as which."""
        return {
            "levels": {
                "levels": list(self.levels),
                "confusion": np.asarray(pooled["confusion"]).tolist(),
            }
        }

    def trivial(self, train: Clients, test: Clients) -> dict[str, dict[str, float]]:
        """Returns the metrics of the model that knows only how frequent each level is in training:
        with the median level, which is best in mae, and with the most frequent one.
        """
        known, met = self._counts(train), self._counts(test)
        shares = known / known.sum()
        # A level that training does not have must not make the loss infinite.
        shares = np.clip(shares, 1e-6, None) / np.clip(shares, 1e-6, None).sum()
        same = {"auc": 0.5, "log_loss": float(-np.sum(met * np.log(shares)) / met.sum())}
        guesses = {
            "median_level": int(np.sum(np.cumsum(known[::-1])[::-1][1:] >= known.sum() / 2)),
            "majority_level": int(np.argmax(known)),
        }
        result = {}
        for name, guess in guesses.items():
            confusion = np.zeros([len(self.levels)] * 2, np.int64)
            confusion[:, guess] = met
            result[name] = {**_of_confusion(confusion), **same}
        return result

    def predictions(self, outputs: Any, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns `level` int32[rows] (the median, counted from 0), `expected_level` float32[rows]
        (in the numbers that name the levels, or without such counted from 0) and `probabilities`
        float32[rows, K].
        """
        import tensorflow as tf

        from fl_research.objectives import ordinal_rows

        probabilities = tf.exp(ordinal_rows.log_probabilities(outputs))
        values = tf.constant(self._values(), probabilities.dtype)
        return {
            "level": ordinal_rows.median_level(outputs),
            "expected_level": tf.reduce_sum(probabilities * values, axis=-1),
            "probabilities": probabilities,
        }

    def describe(self) -> dict[str, Any]:
        """Returns the names of the levels."""
        return {"kind": "ordinal", "levels": list(self.levels)}

    def _values(self) -> list[float]:
        """The numbers that name the levels, if they rise; else 0 and up."""
        try:
            values = [float(level) for level in self.levels]
        except ValueError:
            values = []
        rise = all(low < high for low, high in itertools.pairwise(values))
        if values and rise and all(map(math.isfinite, values)):
            return values
        return list(map(float, range(len(self.levels))))

    def _counts(self, clients: Clients) -> np.ndarray:
        """Rows of each level, int64[K]."""
        found = clients.label_counts()
        return np.array([found.get(level, 0) for level in range(len(self.levels))], np.int64)


def _of_confusion(confusion: np.ndarray) -> dict[str, float]:
    """The metrics of the predicted level; NaN without rows."""
    total = int(confusion.sum())
    if not total:
        return {"mae": math.nan, "accuracy": math.nan}
    level = np.arange(len(confusion))
    off = np.abs(level[:, np.newaxis] - level)
    return {
        "mae": float((confusion * off).sum() / total),
        "accuracy": float(np.trace(confusion) / total),
    }
