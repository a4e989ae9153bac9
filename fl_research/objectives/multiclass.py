"""Classification among several classes: a softmax over one output a class.

The loss is the softmax cross entropy. The evaluation adds up the confusion matrix, the loss, and
how many rows and right answers there are by the confidence of the answer (the largest softmax
probability), which gives the accuracy over the share of rows that are answered at all.

A row whose outputs are not all finite numbers has no answer: it counts as wrong.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.argument_checks import require_choice
from fl_research.data.clients import Clients
from fl_research.errors import InputError
from fl_research.objectives.objective import Objective

if TYPE_CHECKING:
    import tensorflow as tf

    from fl_research.objectives.client_rows import ClientRows

_METRICS = ("accuracy", "macro_f1", "log_loss")
_MOST_CONFUSED = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class MulticlassClassification(Objective):
    """One output a class; a label is the place of its class.

    Attributes:
      classes: The names of the classes, at least two; they are public.
      primary_metric: accuracy, macro_f1 or log_loss.
      num_bins: Bins of the confidence, for the accuracy over coverage.
      num_outputs: The number of classes; follows.

    Raises:
      InputError: There are fewer than two classes, or one twice.
    """

    classes: tuple[str, ...]
    primary_metric: str = "accuracy"
    num_bins: int = 1000
    num_outputs: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        require_choice("primary_metric", self.primary_metric, _METRICS)
        object.__setattr__(self, "num_outputs", len(self.classes))
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise InputError(
                f"classes={self.classes[:5]!r} are not two or more different names; check the "
                "label column"
            )

    def check(self, train: Clients) -> None:
        """Checks that labels are places of classes, and that two occur; see `Objective.check`."""
        labels = list(train.label_counts())
        if not np.isin(labels, np.arange(len(self.classes))).all():
            raise InputError(
                f"labels must be 0 to {len(self.classes) - 1}, train has {labels[:5]}; encode them "
                "by the list of classes"
            )
        if len(labels) < 2:
            raise InputError(
                f"every label of the train split is {self.classes[int(labels[0])]!r}; a classifier "
                "needs at least two: check the label column, or take another --seed"
            )

    def row_loss(self, outputs: Any, labels: tf.Tensor) -> tf.Tensor:
        """Returns each row's softmax cross entropy."""
        from fl_research.stackable.layers import softmax_cross_entropy

        return softmax_cross_entropy(outputs, labels)

    def pooled(
        self, outputs: Any, labels: tf.Tensor, features: Mapping[str, tf.Tensor]
    ) -> collections.OrderedDict:
        """Returns confusion int64[classes, classes] (rows by true class, then by answer),
        answered_counts and correct_counts int64[num_bins] (by confidence), loss_sum float64 (nats)
        and examples int64.
        """
        import tensorflow as tf

        classes, bins = len(self.classes), self.num_bins
        labels = tf.cast(labels, tf.int64)
        answer, confidence, has_answer = _answers(outputs)
        # A negative place is dropped by the segment sum.
        cell = tf.where(has_answer, labels * classes + answer, -1)
        by_confidence = tf.minimum(tf.cast(confidence * bins, tf.int64), bins - 1)
        bin_index = tf.where(has_answer, by_confidence, -1)
        correct = tf.cast(tf.equal(answer, labels), tf.int64)
        count = tf.math.unsorted_segment_sum
        return collections.OrderedDict(
            confusion=tf.reshape(
                count(tf.ones_like(cell), cell, classes * classes), [classes, classes]
            ),
            answered_counts=count(tf.ones_like(cell), bin_index, bins),
            correct_counts=count(correct, bin_index, bins),
            loss_sum=tf.reduce_sum(_row_losses(outputs, labels)),
            examples=tf.size(labels, tf.int64),
        )

    def per_client(
        self,
        outputs: Any,
        labels: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        clients: ClientRows,
    ) -> collections.OrderedDict:
        """Returns accuracy and loss of each client; NaN without rows."""
        import tensorflow as tf

        answer, _, has_answer = _answers(outputs)
        correct = tf.equal(answer, tf.cast(labels, tf.int64)) & has_answer
        return collections.OrderedDict(
            accuracy=clients.mean(tf.cast(correct, tf.float64)),
            loss=clients.mean(_row_losses(outputs, labels)),
        )

    def metrics(self, pooled: Mapping[str, Any]) -> dict[str, float]:
        """Returns accuracy, macro_f1 (over the classes that occur, as a truth or as an answer) and
        log_loss.
        """
        examples = int(pooled["examples"])
        if not examples:
            return dict.fromkeys(_METRICS, float("nan"))
        confusion = np.asarray(pooled["confusion"], np.float64)
        return {
            "accuracy": float(np.trace(confusion)) / examples,
            "macro_f1": macro_f1(confusion),
            "log_loss": float(pooled["loss_sum"]) / examples,
        }

    def findings(self, pooled: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the confusion matrix with its largest cells, and the accuracy over coverage."""
        confusion = np.asarray(pooled["confusion"], np.int64)
        return {
            "confusion": {
                "classes": list(self.classes),
                "counts": confusion.tolist(),
                "most_confused": most_confused(confusion, self.classes),
            },
            "accuracy_over_coverage": accuracy_over_coverage(
                pooled["answered_counts"], pooled["correct_counts"], int(pooled["examples"])
            ),
        }

    def trivial(self, train: Clients, test: Clients) -> dict[str, dict[str, float]]:
        """Returns the metrics of the model that knows only how frequent classes are in training.

        It answers the most frequent class; its probabilities are the shares, each class counted
        once more than it occurs, so that a class which never occurs has one too.
        """
        known, rows = (_class_counts(split, len(self.classes)) for split in (train, test))
        shares = (known + 1) / (known + 1).sum()
        confusion = np.zeros([len(rows), len(rows)])
        confusion[:, np.argmax(known)] = rows
        return {
            "trivial": {
                "accuracy": float(np.trace(confusion) / rows.sum()),
                "macro_f1": macro_f1(confusion),
                "log_loss": float(-(rows * np.log(shares)).sum() / rows.sum()),
            }
        }

    def predictions(self, outputs: Any, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns `class_index` int32[rows], its `confidence` float32[rows], and `probabilities`
        float32[rows, classes].
        """
        import tensorflow as tf

        probabilities = tf.nn.softmax(outputs)
        return {
            "class_index": tf.argmax(outputs, axis=-1, output_type=tf.int32),
            "confidence": tf.reduce_max(probabilities, axis=-1),
            "probabilities": probabilities,
        }

    def describe(self) -> dict[str, Any]:
        """Returns the names of the classes."""
        return {"kind": "multiclass", "classes": list(self.classes)}


def macro_f1(confusion: np.ndarray) -> float:
    """Returns the mean F1 over the classes that occur, as a truth or as an answer.

    Args:
      confusion: [classes, classes], rows by true class, then by answer.
    """
    true, answered = confusion.sum(axis=1), confusion.sum(axis=0)
    occurs = true + answered > 0
    if not occurs.any():
        return float("nan")
    return float(np.mean(2 * np.diag(confusion)[occurs] / (true + answered)[occurs]))


def most_confused(confusion: np.ndarray, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Returns the pairs of classes that are most often taken for each other, the worst first.

    Args:
      confusion: int [classes, classes], rows by true class, then by answer.
      classes: Their names.

    Returns:
      Each with `true`, `answer`, `rows`, and their share of the rows of the true class.
    """
    wrong = confusion * (1 - np.eye(len(classes), dtype=confusion.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSED]
    pairs = [divmod(int(cell), len(classes)) for cell in order]
    return [
        {
            "true": classes[true],
            "answer": classes[answer],
            "rows": int(wrong[true, answer]),
            "share": float(wrong[true, answer] / confusion[true].sum()),
        }
        for true, answer in pairs
        if wrong[true, answer]
    ]


def accuracy_over_coverage(
    answered_counts: Any, correct_counts: Any, examples: int, points: int = 50
) -> dict[str, list[float]]:
    """Returns how right the answers are if only the most confident are given.

    Args:
      answered_counts: int[bins], rows by confidence in equal bins of [0, 1].
      correct_counts: int[bins], the right answers among them.
      examples: All rows.
      points: So many at most.

    Returns:
      `threshold` (lower ends of bins), `coverage` (share of rows answered at or above it) and
      `accuracy` (share of right answers among those), by falling threshold.
    """
    answered = np.cumsum(np.asarray(answered_counts, np.int64)[::-1])
    correct = np.cumsum(np.asarray(correct_counts, np.int64)[::-1])
    bins = len(answered)
    changes = np.flatnonzero(np.diff(answered, prepend=0))
    # Evenly over the coverage, so that the curve is smooth where most rows are.
    wanted = np.linspace(0, examples, points + 1)[1:]
    chosen = np.unique(np.searchsorted(answered[changes], wanted).clip(0, max(0, len(changes) - 1)))
    places = changes[chosen] if len(changes) else changes
    return {
        "threshold": ((bins - 1 - places) / bins).tolist(),
        "coverage": (answered[places] / max(1, examples)).tolist(),
        "accuracy": (correct[places] / np.maximum(1, answered[places])).tolist(),
    }


def _answers(outputs: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns (int64 class, float64 confidence, whether the outputs are numbers), each [rows]."""
    import tensorflow as tf

    outputs = tf.cast(outputs, tf.float64)
    has_answer = tf.reduce_all(tf.math.is_finite(outputs), axis=-1)
    confidence = tf.reduce_max(tf.nn.softmax(outputs), axis=-1)
    return tf.argmax(outputs, axis=-1), tf.where(has_answer, confidence, 0.0), has_answer


def _row_losses(outputs: Any, labels: tf.Tensor) -> tf.Tensor:
    """Returns each row's cross entropy, float64[rows]."""
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(outputs, tf.float64))


def _class_counts(clients: Clients, classes: int) -> np.ndarray:
    """How many rows each class has, float64[classes]."""
    counts = np.zeros([classes])
    for label, rows in clients.label_counts().items():
        counts[int(label)] = rows
    return counts
