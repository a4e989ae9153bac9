"""Rating prediction: which rating would a customer give to an item.

A row is one customer with its targets: items and the ratings it gave them. Inside, ratings are in
units of half their public range around its middle, so from -1 to 1; metrics and answers are in the
ratings' own units, with predictions cut to the range. RMSE and MAE weigh every rating equally; the
training loss is the sum of a customer's squared errors over the number of places for targets, the
same for all customers, so that it weighs every rating equally too.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fl_research.argument_checks import require_at_least
from fl_research.data.clients import Clients
from fl_research.data.interactions import RatingRange
from fl_research.errors import InputError
from fl_research.objectives.objective import Objective

if TYPE_CHECKING:
    import tensorflow as tf

    from fl_research.objectives.client_rows import ClientRows

NUM_BINS = 20
"""Equal bins of the range, of actual and of predicted ratings, for the report's plot."""

_BIAS_RIDGE = 1.0  # Of the biases baseline, in ratings of average size.
_BIAS_SWEEPS = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class RatingPrediction(Objective):
    """Ratings of items by customers.

    Attributes:
      items: Name of each item, in the order of their numbers (the first has number 1).
      places: Targets that a row has room for.
      rating_range: Between which numbers all ratings are.
      label_shape: (places, 2): value and weight; follows.

    Raises:
      InputError: There are no items or no places.
    """

    label_dtype: ClassVar[type] = np.float32
    primary_metric: str = "rmse"
    items: tuple[str, ...]
    places: int
    rating_range: RatingRange
    label_shape: tuple[int, ...] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        require_at_least("number of items", len(self.items), 1)
        require_at_least("places", self.places, 1)
        object.__setattr__(self, "label_shape", (self.places, 2))

    @property
    def num_items(self) -> int:
        """The number of items."""
        return len(self.items)

    def check(self, train: Clients) -> None:
        """Raises InputError where a training customer has no rating, or one out of range."""
        labels = train.select(np.arange(train.num_clients)).labels
        if labels.shape[1:] != (self.places, 2):
            raise InputError(
                f"labels have rows of shape {labels.shape[1:]}; give (value, weight) of "
                f"{self.places} places"
            )
        weight = labels[..., 1]
        if not (weight.sum(axis=1) > 0).all():
            raise InputError("a training customer has no rating; leave such customers out")
        if np.abs(labels[..., 0] * (weight > 0)).max() > 1 + 1e-6:
            raise InputError(
                f"a rating is outside {self.rating_range}; correct it or give the range in which "
                "all ratings are"
            )

    def row_loss(self, outputs: Any, labels: tf.Tensor) -> tf.Tensor:
        """Returns squared errors and penalty over the number of places, float32[..., rows].

        Args:
          outputs: `scores` float32[..., rows, places] and `penalty` float32[..., rows].
          labels: float32[..., rows, places, 2]: value and weight.
        """
        import tensorflow as tf

        error = (outputs["scores"] - labels[..., 0]) * labels[..., 1]
        return (tf.reduce_sum(tf.square(error), axis=-1) + outputs["penalty"]) / self.places

    def _errors(self, outputs: Any, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns prediction and error in units of the ratings, and weight, float64."""
        import tensorflow as tf

        # Cut before it is decoded; NaN stays NaN.
        scores = tf.cast(outputs["scores"], tf.float64)
        values, weight = tf.unstack(tf.cast(labels, tf.float64), axis=-1)
        predicted = self.rating_range.decode(tf.where(tf.abs(scores) > 1, tf.sign(scores), scores))
        return predicted, (predicted - self.rating_range.decode(values)) * weight, weight

    def pooled(
        self, outputs: Any, labels: tf.Tensor, features: Mapping[str, tf.Tensor]
    ) -> collections.OrderedDict:
        """Returns sums of errors, and counts of (actual, predicted) in bins of the range."""
        import tensorflow as tf

        del features
        predicted, error, weight = self._errors(outputs, labels)
        actual = tf.cast(labels[..., 0], tf.float64)
        bins = [_bin(value) for value in (actual, self.rating_range.encode(predicted))]
        place = tf.where(weight > 0, bins[0] * NUM_BINS + bins[1], -1)
        place = tf.reshape(place, [-1])
        counts = tf.math.unsorted_segment_sum(tf.ones_like(place), place, NUM_BINS**2)
        return collections.OrderedDict(
            squared_error_sum=tf.reduce_sum(tf.square(error)),
            absolute_error_sum=tf.reduce_sum(tf.abs(error)),
            ratings=tf.reduce_sum(weight),
            actual_by_predicted=tf.reshape(counts, [NUM_BINS, NUM_BINS]),
            examples=tf.shape(labels, tf.int64)[0],
        )

    def per_client(
        self,
        outputs: Any,
        labels: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        clients: ClientRows,
    ) -> collections.OrderedDict:
        """Returns RMSE and MAE of each customer's own ratings."""
        import tensorflow as tf

        del features
        _, error, weight = self._errors(outputs, labels)
        total = clients.total(tf.stack([tf.square(error), tf.abs(error), weight], axis=-1))
        squared, absolute, ratings = tf.unstack(tf.reduce_sum(total, axis=1), axis=-1)
        # 0 / 0 is NaN, as it should be.
        return collections.OrderedDict(rmse=tf.sqrt(squared / ratings), mae=absolute / ratings)

    def metrics(self, pooled: Mapping[str, Any]) -> dict[str, float]:
        """Returns rmse and mae over all ratings, in their units."""
        ratings = float(pooled["ratings"])
        if not ratings:
            return {"rmse": math.nan, "mae": math.nan}
        return {
            "rmse": math.sqrt(float(pooled["squared_error_sum"]) / ratings),
            "mae": float(pooled["absolute_error_sum"]) / ratings,
        }

    def findings(self, pooled: Mapping[str, Any]) -> dict[str, Any]:
        """Returns how predicted and actual ratings go together, for the report."""
        bounds = self.rating_range
        edges = np.linspace(bounds.lowest, bounds.highest, NUM_BINS + 1)
        return {
            "rating_agreement": {
                "edges": edges.tolist(),
                "actual_by_predicted": np.asarray(pooled["actual_by_predicted"]).tolist(),
                "ratings": int(pooled["ratings"]),
            }
        }

    def trivial(self, train: Clients, test: Clients) -> dict[str, dict[str, float]]:
        """Returns the errors of the global mean, item means, and biases of items and users."""
        known = _pairs(train)
        asked = _pairs(test)
        items = self.num_items
        mean = float(known.value.mean())
        count = np.bincount(known.item, minlength=items)
        total = np.bincount(known.item, known.value, minlength=items)
        item_mean = np.where(count > 0, total / np.maximum(count, 1), mean)
        of_user, of_item = _biases(known, mean, items)
        users = {name: number for number, name in enumerate(known.names)}
        place = np.array([users.get(name, len(users)) for name in asked.names], np.int64)
        of_user = np.append(of_user, 0.0)
        predictions = {
            "global mean": np.full(len(asked.value), mean),
            "item mean": item_mean[asked.item],
            "item and user biases": mean + of_item[asked.item] + of_user[place[asked.user]],
        }
        actual = self.rating_range.decode(asked.value)
        found = {}
        for name, predicted in predictions.items():
            error = self.rating_range.decode(np.clip(predicted, -1, 1)) - actual
            found[name] = {
                "rmse": float(np.sqrt(np.mean(error**2))),
                "mae": float(np.mean(np.abs(error))),
            }
        return found

    def predictions(self, outputs: Any, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the predicted `rating` [rows, places] and the `item`; "" and 0 for nothing."""
        import tensorflow as tf

        items = features["target_items"]
        there = items > 0
        rating = self.rating_range.decode(tf.clip_by_value(outputs["scores"], -1.0, 1.0))
        names = tf.gather(tf.constant(["", *self.items]), items)
        return {"item": names, "rating": tf.where(there, rating, tf.zeros_like(rating))}

    def describe(self) -> dict[str, Any]:
        """Returns the range of the ratings and the names of the items."""
        return {"rating_range": dataclasses.asdict(self.rating_range), "items": list(self.items)}


@dataclasses.dataclass(frozen=True)
class _Pairs:
    """Ratings as plain arrays: number of the user in `names`, number of the item from 0, value."""

    user: np.ndarray
    item: np.ndarray
    value: np.ndarray
    names: np.ndarray


def _pairs(clients: Clients) -> _Pairs:
    """Returns the target ratings of all clients."""
    data = clients.select(np.arange(clients.num_clients))
    of_row = np.repeat(np.arange(data.num_clients), data.rows_per_client)
    row, place = np.nonzero(data.labels[..., 1] > 0)
    items = data.features["target_items"][row, place] - 1
    return _Pairs(of_row[row], items, data.labels[row, place, 0].astype(float), data.client_ids)


def _biases(known: _Pairs, mean: float, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns user and item biases by ridge regression, in turns until they hardly move."""
    users = len(known.names)
    of_user, of_item = np.zeros(users), np.zeros(items)
    user_count = np.bincount(known.user, minlength=users) + _BIAS_RIDGE
    item_count = np.bincount(known.item, minlength=items) + _BIAS_RIDGE
    left = known.value - mean
    for _ in range(_BIAS_SWEEPS):
        of_item = np.bincount(known.item, left - of_user[known.user], items) / item_count
        of_user = np.bincount(known.user, left - of_item[known.item], users) / user_count
    return of_user, of_item


def _bin(scaled: tf.Tensor) -> tf.Tensor:
    """Returns the number of the bin, int64, of values in [-1, 1]."""
    import tensorflow as tf

    place = tf.cast(tf.floor((scaled + 1) / 2 * NUM_BINS), tf.int64)
    return tf.clip_by_value(place, 0, NUM_BINS - 1)
