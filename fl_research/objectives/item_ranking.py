"""Item ranking: which items will a customer choose next.

A row is one customer; its label is the items it chose. A model scores all items. For the metrics
they are ranked without those that the customer had before (its context), which nobody needs to be
told of:

- hit rate at k: the share of customers with at least one chosen item among the first k;
- NDCG at 10: the sum of `1 / log2(1 + rank)` over chosen items among the first ten, over the
  largest sum possible with so many chosen items; the mean over customers. (Järvelin and Kekäläinen
  2002, "Cumulated gain-based evaluation of IR techniques".)

Items of equal score are ranked by their numbers. Every customer weighs the same. The loss is that
of matrix factorisation for implicit feedback, whose part over the whole catalogue is the model's
penalty.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.argument_checks import require_at_least
from fl_research.data.clients import Clients
from fl_research.errors import InputError
from fl_research.objectives.objective import Objective

if TYPE_CHECKING:
    import tensorflow as tf

    from fl_research.objectives.client_rows import ClientRows

TOP = 10
LONGEST = 50
"""Longest list of recommendations whose hit rate is shown."""

CURVE = "recommendation_hits"
"""Name of the finding: the file of reports/findings that draws it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ItemRanking(Objective):
    """Items that customers choose.

    Attributes:
      items: Name of each item, in the order of their numbers (the first has number 1).
      places: Chosen items that a row has room for.
      label_shape: (places,); follows.

    Raises:
      InputError: There are fewer than two items, or no places.
    """

    primary_metric: str = "ndcg_at_10"
    items: tuple[str, ...]
    places: int
    label_shape: tuple[int, ...] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        require_at_least("number of items", len(self.items), 2)
        require_at_least("places", self.places, 1)
        object.__setattr__(self, "label_shape", (self.places,))

    @property
    def num_items(self) -> int:
        """The number of items."""
        return len(self.items)

    def check(self, train: Clients) -> None:
        """Raises InputError where a training customer has no item, or one that is not there."""
        labels = train.select(np.arange(train.num_clients)).labels
        if labels.shape[1:] != (self.places,):
            raise InputError(
                f"labels have rows of shape {labels.shape[1:]}; give the numbers of "
                f"{self.places} items, 0 for nothing"
            )
        if labels.min() < 0 or labels.max() > self.num_items:
            raise InputError(
                f"labels go from {labels.min()} to {labels.max()}; give numbers of items from 1 to "
                f"{self.num_items}, 0 for nothing"
            )
        if not (labels > 0).any(axis=1).all():
            raise InputError("a training customer has no item; leave such customers out")

    def row_loss(self, outputs: Any, labels: tf.Tensor) -> tf.Tensor:
        """Returns `(sum over chosen items of (1 - score)^2 + penalty) / places`.

        Args:
          outputs: `scores` float32[..., rows, items] and `penalty` float32[..., rows].
          labels: int32[..., rows, places].
        """
        import tensorflow as tf

        rank = labels.shape.rank
        chosen = tf.gather(
            outputs["scores"], tf.maximum(labels - 1, 0), axis=-1, batch_dims=rank - 1
        )
        error = (1.0 - chosen) * tf.cast(labels > 0, chosen.dtype)
        return (tf.reduce_sum(tf.square(error), axis=-1) + outputs["penalty"]) / self.places

    def _ranked(
        self, outputs: Any, labels: tf.Tensor, features: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns which places of each list hold a chosen item, the row's NDCG, and if it counts.

        bool[rows, length], float64[rows], float64[rows].
        """
        import tensorflow as tf

        listed, _ = best_items(outputs["scores"], features["context_items"], LONGEST)
        hit = tf.reduce_any(tf.equal(listed[:, :, tf.newaxis], labels[:, tf.newaxis, :]), axis=-1)
        hit &= listed > 0
        gain = tf.constant(_gains(), tf.float64)
        top = min(TOP, hit.shape[1])
        chosen = tf.reduce_sum(tf.cast(labels > 0, tf.int64), axis=-1)
        best = tf.gather(tf.concat([[0.0], tf.cumsum(gain)], axis=0), tf.minimum(chosen, TOP))
        found = tf.linalg.matvec(tf.cast(hit[:, :top], tf.float64), gain[:top])
        return hit, tf.math.divide_no_nan(found, best), tf.cast(chosen > 0, tf.float64)

    def pooled(
        self, outputs: Any, labels: tf.Tensor, features: Mapping[str, tf.Tensor]
    ) -> collections.OrderedDict:
        """Returns sums over customers: NDCG, hits by the length of the list, customers."""
        import tensorflow as tf

        hit, gain, counts = self._ranked(outputs, labels, features)
        by_length = tf.cumsum(tf.cast(hit, tf.int64), axis=1) > 0
        return collections.OrderedDict(
            hits_by_length=tf.reduce_sum(tf.cast(by_length, tf.int64), axis=0),
            ndcg_sum=tf.reduce_sum(gain),
            customers=tf.reduce_sum(counts),
            examples=tf.shape(labels, tf.int64)[0],
        )

    def per_client(
        self,
        outputs: Any,
        labels: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        clients: ClientRows,
    ) -> collections.OrderedDict:
        """Returns NDCG at 10 and whether there is a hit at 10, of each customer."""
        import tensorflow as tf

        hit, gain, counts = self._ranked(outputs, labels, features)
        has_hit = tf.cast(tf.reduce_any(hit[:, :TOP], axis=1), tf.float64)
        rows = clients.total(counts)
        # 0 / 0 is NaN, as it should be.
        return collections.OrderedDict(
            ndcg_at_10=clients.total(gain) / rows, hit_rate_at_10=clients.total(has_hit) / rows
        )

    def metrics(self, pooled: Mapping[str, Any]) -> dict[str, float]:
        """Returns ndcg_at_10 and hit_rate_at_10, means over customers."""
        customers = float(pooled["customers"])
        if not customers:
            return {"ndcg_at_10": math.nan, "hit_rate_at_10": math.nan}
        hits = np.asarray(pooled["hits_by_length"])
        return {
            "ndcg_at_10": float(pooled["ndcg_sum"]) / customers,
            "hit_rate_at_10": float(hits[min(TOP, len(hits)) - 1]) / customers,
        }

    def popularity(self, train: Clients, test: Clients) -> Mapping[str, Any]:
        """Returns the sums of `pooled` where items are ranked by how many customers have them.

        Args:
          train: Their labels are counted, without noise.
          test: The customers to recommend to.
        """
        labels = train.select(np.arange(train.num_clients)).labels
        counts = np.bincount(labels[labels > 0] - 1, minlength=self.num_items)
        data = test.select(np.arange(test.num_clients))
        hits, gain, customers = np.zeros(_length(self.num_items), np.int64), 0.0, 0
        gains = _gains()
        for context, label in zip(data.features["context_items"], data.labels, strict=True):
            chosen = label[label > 0]
            if not len(chosen):
                continue
            score = counts.astype(float)
            score[context[context > 0] - 1] = -np.inf
            listed = np.argsort(-score, kind="stable")[: len(hits)]
            hit = np.isin(listed + 1, chosen) & np.isfinite(score[listed])
            hits += np.cumsum(hit) > 0
            top = hit[:TOP]
            gain += (top * gains[: len(top)]).sum() / gains[: len(chosen)].sum()
            customers += 1
        return {"hits_by_length": hits, "ndcg_sum": gain, "customers": customers}

    def trivial(self, train: Clients, test: Clients) -> dict[str, dict[str, float]]:
        """Returns the metrics of recommending what most customers have."""
        return {"popularity": self.metrics(self.popularity(train, test))}

    def predictions(self, outputs: Any, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the first ten items without the context: `item` and `score`, [rows, 10]."""
        import tensorflow as tf

        listed, scores = best_items(outputs["scores"], features["context_items"], TOP)
        return {
            "item": tf.gather(tf.constant(["", *self.items]), listed),
            "score": tf.where(listed > 0, scores, tf.zeros_like(scores)),
        }

    def describe(self) -> dict[str, Any]:
        """Returns the names of the items."""
        return {"items": list(self.items)}


def best_items(scores: tf.Tensor, context: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the items of highest score without those of the context.

    Args:
      scores: float32[rows, items]; NaN is never recommended.
      context: int32[rows, length], numbers from 1, 0 for nothing.
      length: How many; fewer where there are fewer items.

    Returns:
      Their numbers from 1, int32[rows, length], best first, 0 where no item is left, and scores.
    """
    import tensorflow as tf

    lowest = tf.constant(scores.dtype.min, scores.dtype)
    rows = tf.shape(scores)[0]
    # Item 0, "nothing", in front: places of the context without an item fall on it.
    padded = tf.pad(tf.where(tf.math.is_finite(scores), scores, lowest), [[0, 0], [1, 0]])
    row = tf.broadcast_to(tf.range(rows)[:, tf.newaxis], tf.shape(context))
    place = tf.stack([row, context], axis=-1)
    kept = tf.tensor_scatter_nd_update(padded, place, tf.fill(tf.shape(context), lowest))[:, 1:]
    best, listed = tf.math.top_k(kept, _length(scores.shape[-1], length))
    return tf.where(best > lowest, listed + 1, tf.zeros_like(listed)), best


def _length(items: int, length: int = LONGEST) -> int:
    """How long a list of recommendations is."""
    return min(length, items)


def _gains() -> np.ndarray:
    """The gain of each of the first ten ranks."""
    return 1 / np.log2(np.arange(2, TOP + 2))
