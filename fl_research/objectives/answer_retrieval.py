"""Answer retrieval: every answer of a public catalogue gets a score for a question.

A label is the place of the right answer. The metrics look at its rank among all answers: recall at
1 and 5, and the mean of 1 / rank. Answers that score as high as the right one stand before it, so
that a model which scores all alike gains nothing. Scores that are not all finite numbers rank the
right answer last.

The loss of a row is the softmax cross entropy over the whole catalogue; a model may train by
another (`models.dual_encoder`).
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.argument_checks import require_choice
from fl_research.data.clients import Clients
from fl_research.data.hashed_text import HashedText, encode_texts
from fl_research.errors import InputError
from fl_research.objectives.objective import Objective

if TYPE_CHECKING:
    import tensorflow as tf

    from fl_research.objectives.client_rows import ClientRows

_METRICS = ("recall_at_1", "recall_at_5", "mrr", "log_loss")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerRetrieval(Objective):
    """One score an answer; a label is the place of the right answer.

    Attributes:
      names: A short name of each answer, such as the intent that it answers; at least two.
      answers: Their texts, in the same order; they are public.
      encoding: How the answers are hashed for models that read them: as the questions are.
      primary_metric: recall_at_1, recall_at_5, mrr or log_loss.
      num_outputs: The number of answers; follows.

    Raises:
      InputError: There are fewer than two answers, a name twice, or an answer without a text.
    """

    names: tuple[str, ...]
    answers: tuple[str, ...]
    encoding: HashedText
    primary_metric: str = "recall_at_1"
    num_outputs: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        require_choice("primary_metric", self.primary_metric, _METRICS)
        object.__setattr__(self, "num_outputs", len(self.names))
        if len(self.names) < 2 or len(set(self.names)) < len(self.names):
            raise InputError(
                f"names={self.names[:5]!r} are not two or more different names of answers; check "
                "the catalogue"
            )
        if len(self.answers) != len(self.names):
            raise InputError(
                f"answers: there are {len(self.answers)} for {len(self.names)} names; give one each"
            )
        blank = np.flatnonzero(encode_texts(self.answers, self.encoding).features == 0)
        if blank.size:
            raise InputError(
                f"the answer of {self.names[blank[0]]!r} has no text; write one in the catalogue"
            )

    def answer_ids(self) -> np.ndarray:
        """Returns the hashed ids of the answers, int32[answers, longest], padded with 0."""
        ids = encode_texts(self.answers, self.encoding).ids
        return ids[:, : int((ids > 0).sum(axis=1).max())]

    def check(self, train: Clients) -> None:
        """Checks that labels are places of answers; see `Objective.check`."""
        labels = list(train.label_counts())
        if not np.isin(labels, np.arange(len(self.names))).all():
            raise InputError(
                f"labels must be 0 to {len(self.names) - 1}, train has {labels[:5]}; encode them "
                "by the catalogue of answers"
            )
        if len(labels) < 2:
            raise InputError(
                f"every question of the train split has the answer {self.names[int(labels[0])]!r}; "
                "at least two are needed: check the answer column, or take another --seed"
            )

    def row_loss(self, outputs: Any, labels: tf.Tensor) -> tf.Tensor:
        """Returns each row's softmax cross entropy over the whole catalogue."""
        from fl_research.stackable.layers import softmax_cross_entropy

        return softmax_cross_entropy(outputs, labels)

    def pooled(
        self, outputs: Any, labels: tf.Tensor, features: Mapping[str, tf.Tensor]
    ) -> collections.OrderedDict:
        """Returns rank_counts int64[answers] (rows by the rank of the right answer, from 1),
        loss_sum float64 (nats) and examples int64.
        """
        import tensorflow as tf

        place = _rank(outputs, labels) - 1
        return collections.OrderedDict(
            rank_counts=tf.math.unsorted_segment_sum(tf.ones_like(place), place, len(self.names)),
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
        """Returns recall_at_1, mrr and loss of each client; NaN without rows."""
        import tensorflow as tf

        rank = tf.cast(_rank(outputs, labels), tf.float64)
        return collections.OrderedDict(
            recall_at_1=clients.mean(tf.cast(tf.equal(rank, 1.0), tf.float64)),
            mrr=clients.mean(1 / rank),
            loss=clients.mean(_row_losses(outputs, labels)),
        )

    def metrics(self, pooled: Mapping[str, Any]) -> dict[str, float]:
        """Returns recall_at_1, recall_at_5, mrr and log_loss."""
        examples = int(pooled["examples"])
        if not examples:
            return dict.fromkeys(_METRICS, float("nan"))
        return {
            **_rank_metrics(np.asarray(pooled["rank_counts"], np.float64), examples),
            "log_loss": float(pooled["loss_sum"]) / examples,
        }

    def findings(self, pooled: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the share of questions whose right answer is among the first k, for each k."""
        counts = np.asarray(pooled["rank_counts"], np.float64)
        shares = np.cumsum(counts) / max(1, int(pooled["examples"]))
        return {"answer_ranks": {"recall_at": shares.tolist()}}

    def trivial(self, train: Clients, test: Clients) -> dict[str, dict[str, float]]:
        """Returns the metrics of the model that always gives the most frequent answers first."""
        known, rows = (_counts(split, len(self.names)) for split in (train, test))
        ranks = np.empty(len(known), np.int64)
        ranks[np.argsort(-known, kind="stable")] = np.arange(len(known))
        rank_counts = np.bincount(ranks, weights=rows, minlength=len(known))
        shares = (known + 1) / (known + 1).sum()
        return {
            "trivial": {
                **_rank_metrics(rank_counts, int(rows.sum())),
                "log_loss": float(-(rows * np.log(shares)).sum() / rows.sum()),
            }
        }

    def predictions(self, outputs: Any, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns `class_index` int32[rows] (the best answer), its `confidence` float32[rows] (the
        softmax over the catalogue), and `probabilities` float32[rows, answers].
        """
        import tensorflow as tf

        probabilities = tf.nn.softmax(outputs)
        return {
            "class_index": tf.argmax(outputs, axis=-1, output_type=tf.int32),
            "confidence": tf.reduce_max(probabilities, axis=-1),
            "probabilities": probabilities,
        }

    def describe(self) -> dict[str, Any]:
        """Returns the catalogue."""
        return {
            "kind": "answer_retrieval",
            "classes": list(self.names),
            "answers": list(self.answers),
        }


def _rank(outputs: Any, labels: tf.Tensor) -> tf.Tensor:
    """Returns the rank of the right answer, int64[rows], from 1; ties stand before it."""
    import tensorflow as tf

    outputs = tf.cast(outputs, tf.float64)
    own = tf.gather(outputs, tf.cast(labels, tf.int64), axis=-1, batch_dims=1)
    # The answer itself is among those that score as high, so that the rank starts at 1.
    rank = tf.math.count_nonzero(outputs >= own[:, tf.newaxis], axis=-1)
    are_numbers = tf.reduce_all(tf.math.is_finite(outputs), axis=-1)
    last = tf.cast(tf.shape(outputs)[-1], tf.int64)
    return tf.where(are_numbers, rank, last)


def _row_losses(outputs: Any, labels: tf.Tensor) -> tf.Tensor:
    """Returns each row's cross entropy, float64[rows]."""
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(outputs, tf.float64))


def _rank_metrics(rank_counts: np.ndarray, examples: int) -> dict[str, float]:
    """The metrics of ranks, from how many rows have each of them."""
    ranks = np.arange(1, len(rank_counts) + 1)
    return {
        "recall_at_1": float(rank_counts[0] / examples),
        "recall_at_5": float(rank_counts[:5].sum() / examples),
        "mrr": float((rank_counts / ranks).sum() / examples),
    }


def _counts(clients: Clients, answers: int) -> np.ndarray:
    """How many rows each answer is right for, float64[answers]."""
    counts = np.zeros([answers])
    for label, rows in clients.label_counts().items():
        counts[int(label)] = rows
    return counts
