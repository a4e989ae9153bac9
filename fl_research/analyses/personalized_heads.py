"""Personalised heads: what each department gains by a last layer of its own.

Each department trains a last layer on its own training rows (`learning.personalization`), and both
the global model and its own are evaluated on its test rows. The layers stay with the departments:
what leaves is the table of areas under the ROC curve, without noise.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fl_research.analysis import AnalysisContext
    from fl_research.data.client_data import ClientData

MOST_DEPARTMENTS = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class PersonalizedHeads:
    """The analysis; for binary classification whose test rows are of clients that train."""

    name: str = "personalized_heads"

    def __call__(self, context: AnalysisContext) -> dict[str, Any]:
        """Returns each department's figures, largest first, and those of all rows together.

        Args:
          context: Its task has train and test rows of the same clients.
        """
        import tensorflow as tf

        from fl_research.learning.personalization import HeadTrainer, HeadTraining

        train, test = (_all_of(clients) for clients in (context.task.train, context.task.test))
        trainer = HeadTrainer(context.model, context.weights, HeadTraining(), context.seed)
        own_rows = {str(name): index for index, name in enumerate(train.client_ids)}
        departments, logits, labels = [], [], []
        largest = np.argsort(-test.rows_per_client, kind="stable")[:MOST_DEPARTMENTS]
        for number in largest:
            department = str(test.client_ids[number])
            of_test = test.select([number])
            if department not in own_rows or not of_test.num_rows:
                continue
            of_train = train.select([own_rows[department]])
            head = trainer.train(of_train.features, of_train.labels, own_rows[department])
            weights = context.weights.trainable, head.trainable
            of_both = [
                np.asarray(
                    context.model.predict_on_batch(
                        tf.nest.map_structure(
                            tf.convert_to_tensor, (tuple(w), context.weights.non_trainable)
                        ),
                        {n: tf.constant(v) for n, v in of_test.features.items()},
                        training=False,
                    ),
                    np.float64,
                )
                for w in weights
            ]
            logits.append(np.stack(of_both))
            labels.append(of_test.labels)
            departments.append(
                {
                    "department": department,
                    "training_rows": of_train.num_rows,
                    "steps": head.steps,
                    **_figures(logits[-1], labels[-1]),
                }
            )
        together = _figures(np.concatenate(logits, axis=1), np.concatenate(labels))
        return {"departments": departments, "together": together, "left_out": _left_out(test)}


def area_under_roc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of pairs of a 1 and a 0 that are in order, ties one half; NaN without any.

    Args:
      scores: `[rows]`, finite.
      labels: `[rows]`, 0 or 1.
    """
    positives = int((labels == 1).sum())
    pairs = positives * (len(labels) - positives)
    if not pairs:
        return math.nan
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle_rank = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(middle_rank[place][labels == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2) / pairs


def _figures(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Test rows, share of ones, AUC and log loss of the global model and of the own head."""
    found: dict[str, Any] = {"test_rows": len(labels), "positive_share": float(labels.mean())}
    for name, values in zip(("global", "personal"), logits, strict=True):
        auc = area_under_roc(values, labels)
        # log(1 + exp(-z)) of a one and log(1 + exp(z)) of a zero.
        loss = float(np.logaddexp(0.0, np.where(labels == 1, -values, values)).mean())
        found[f"auc_{name}"] = None if math.isnan(auc) else auc
        found[f"log_loss_{name}"] = loss
    return found


def _left_out(test: ClientData) -> int:
    """How many departments there are beyond those that are looked at."""
    return max(0, test.num_clients - MOST_DEPARTMENTS)


def _all_of(clients: Any) -> ClientData:
    """All clients in memory."""
    found: ClientData = clients.select(np.arange(clients.num_clients))
    return found
