"""Binary classification: one logit a row, labels 0 and 1.

The loss is the sigmoid cross entropy. Pooled AUC, average precision, lift and curves come from
counts of predicted probabilities in bins (`binary_metrics`), which add up over blocks; the AUC of
each client is exact (`binary_rows`).
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.argument_checks import require_at_least
from fl_research.data.clients import Clients
from fl_research.errors import InputError
from fl_research.objectives import binary_metrics
from fl_research.objectives.objective import Objective

if TYPE_CHECKING:
    import tensorflow as tf

    from fl_research.objectives.client_rows import ClientRows


@dataclasses.dataclass(frozen=True, kw_only=True)
class BinaryClassification(Objective):
    """One logit a row; labels are 0 and 1.

    Attributes:
      primary_metric: `"auc"`, or another of `binary_metrics.pooled_metrics`.
      num_bins: Bins of the predicted probability, at least 2. The AUC computed from them differs
        from the exact one by half the share of pairs that share a bin, at most.
      positive: What label 1 means, in words; None: not known.

    Raises:
      InputError: If `num_bins` is below 2.
    """

    primary_metric: str = "auc"
    num_bins: int = 10_000
    positive: str | None = None

    def __post_init__(self) -> None:
        require_at_least("num_bins", self.num_bins, 2)

    def check(self, train: Clients) -> None:
        """Checks that both labels occur, and no other; see `Objective.check`."""
        labels = list(train.label_counts())
        if not np.isin(labels, (0, 1)).all():
            raise InputError(f"labels must be 0 or 1, train has {labels[:5]}")
        if len(labels) < 2:
            raise InputError(
                f"every label of the train split is {labels[0]}; a classifier needs both: "
                "check --positive_label, or take another --seed"
            )

    def row_loss(self, outputs: Any, labels: tf.Tensor) -> tf.Tensor:
        """Returns each row's sigmoid cross entropy."""
        from fl_research.stackable.layers import sigmoid_cross_entropy

        return sigmoid_cross_entropy(outputs, labels)

    def pooled(
        self, outputs: Any, labels: tf.Tensor, features: Mapping[str, tf.Tensor]
    ) -> collections.OrderedDict:
        """Returns negative_counts and positive_counts int64[num_bins] (rows of label 0 and 1 by
        predicted probability), loss_sum float64 (nats), squared_error_sum float64, correct int64
        (at threshold 1/2) and examples int64.
        """
        import tensorflow as tf

        from fl_research.objectives import binary_rows

        rows = binary_rows.evaluate_rows(outputs, labels)
        counts = binary_rows.probability_counts(outputs, labels, self.num_bins)
        return collections.OrderedDict(
            negative_counts=counts[0],
            positive_counts=counts[1],
            loss_sum=tf.reduce_sum(rows["loss"]),
            squared_error_sum=tf.reduce_sum(rows["squared_error"]),
            correct=tf.cast(tf.reduce_sum(rows["correct"]), tf.int64),
            examples=tf.size(labels, tf.int64),
        )

    def per_client(
        self,
        outputs: Any,
        labels: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        clients: ClientRows,
    ) -> collections.OrderedDict:
        """Returns accuracy, loss and auc of each client; NaN where undefined: without rows, auc
        with one class only.
        """
        from fl_research.objectives import binary_rows

        rows = binary_rows.evaluate_rows(outputs, labels)
        return collections.OrderedDict(
            accuracy=clients.mean(rows["correct"]),
            loss=clients.mean(rows["loss"]),
            auc=binary_rows.client_auc(outputs, labels, clients.client, clients.number),
        )

    def metrics(self, pooled: Mapping[str, Any]) -> dict[str, float]:
        """Returns the metrics of `binary_metrics.pooled_metrics`."""
        return binary_metrics.pooled_metrics(pooled)

    def findings(self, pooled: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the ROC curve and the calibration curve."""
        return {
            "roc_and_calibration": {
                "roc": binary_metrics.roc_curve(pooled),
                "calibration": binary_metrics.calibration_curve(pooled),
            }
        }

    def trivial(self, train: Clients, test: Clients) -> dict[str, dict[str, float]]:
        """Returns the metrics of the model that knows only the share of label 1 in training."""
        rate = float(np.clip(_positive_share(train), 1e-6, 1 - 1e-6))
        share = _positive_share(test)
        return {
            "trivial": {
                "auc": 0.5,
                "average_precision": share,
                "lift_at_10_percent": 1.0,
                "accuracy": share if rate > 0.5 else 1 - share,
                "log_loss": float(-share * np.log(rate) - (1 - share) * np.log(1 - rate)),
                "brier": float(share * (1 - rate) ** 2 + (1 - share) * rate**2),
            }
        }

    def predictions(self, outputs: Any, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns `probability`, that of label 1, float32[rows]."""
        import tensorflow as tf

        return {"probability": tf.math.sigmoid(outputs)}

    def describe(self) -> dict[str, Any]:
        """Returns what label 1 means."""
        return {"kind": "binary_classification", "positive": self.positive}


def _positive_share(clients: Clients) -> float:
    """The share of rows with label 1."""
    return clients.label_counts().get(1, 0) / clients.num_rows
