"""Clustering: outputs are squared distances to the centres of segments; the nearest one decides.

The metrics come from sums over rows: of the squared distance to the nearest centre (inertia), of
each segment's rows, numbers in their own units and categories, and of how often segments meet the
true groups, where these are known. The segment table is made from the same sums. A label is a pair
of whole numbers that the model never sees in its loss: the true group, and whether the row is worth
much; -1 where that is not known.
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
from fl_research.data.schema import Column
from fl_research.errors import InputError
from fl_research.objectives.adjusted_rand import adjusted_rand_index
from fl_research.objectives.objective import Objective
from fl_research.objectives.public_centres import public_centres

if TYPE_CHECKING:
    import tensorflow as tf

    from fl_research.objectives.client_rows import ClientRows

NOT_KNOWN = -1
_CENTRAL_STARTS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clustering(Objective):
    """Squared distances to segments' centres, one a segment.

    Attributes:
      segments: How many segments, at least 2.
      columns: The schema's number and category columns, in the order of the features.
      groups: The names of the true groups, where they are known; empty: they are not.
      worth: What it means to be worth much, in words; None: not known.
      primary_metric: `"inertia"` or, with groups, `"adjusted_rand_index"`.

    Raises:
      InputError: Fewer than two segments, or no columns.
    """

    segments: int
    columns: tuple[Column, ...]
    groups: tuple[str, ...] = ()
    worth: str | None = None
    primary_metric: str = "inertia"
    label_shape: tuple[int, ...] = (2,)

    def __post_init__(self) -> None:
        require_at_least("segments", self.segments, 2)
        if not self.columns:
            raise InputError(f"columns={self.columns!r} leaves nothing to cluster by; give columns")
        object.__setattr__(self, "num_outputs", self.segments)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(name for column in self.columns for name in column.feature_names)

    def check(self, train: Clients) -> None:
        """Checks that there are as many clients and rows as segments; see `Objective.check`."""
        if train.num_clients < self.segments:
            raise InputError(
                f"segments={self.segments} is more than the {train.num_clients} clients that train;"
                " ask for fewer segments, or make smaller clients (--profile_client=customer)"
            )
        width = train.row_types["inputs"][0]
        if width != (len(self.feature_names),):
            raise InputError(
                f"columns={self.feature_names} are not the {width} inputs of a row; give the "
                "columns that the records were encoded by"
            )

    def row_loss(self, outputs: Any, labels: tf.Tensor) -> tf.Tensor:
        """Returns each row's squared distance to the nearest centre."""
        import tensorflow as tf

        del labels
        return tf.reduce_min(outputs, axis=-1)

    def pooled(
        self, outputs: Any, labels: tf.Tensor, features: Mapping[str, tf.Tensor]
    ) -> collections.OrderedDict:
        """Returns squared_distance_sum float64, examples int64, and for each segment its rows
        int64, feature_sums float64[segments, features] (numbers in units), contingency
        int64[groups, segments], worth_known and worth_much int64.
        """
        import tensorflow as tf

        segment = tf.argmin(outputs, axis=-1)
        distance = tf.cast(tf.reduce_min(outputs, axis=-1), tf.float64)

        def count(chosen: tf.Tensor) -> tf.Tensor:
            """How many of the chosen rows each segment has."""
            ones = tf.cast(chosen, tf.int64)
            return tf.math.unsorted_segment_sum(ones, segment, self.segments)

        group = tf.cast(labels[:, 0], tf.int64)
        groups = max(1, len(self.groups))
        is_known = (group >= 0) & (group < len(self.groups))
        # A negative place is dropped by the segment sum.
        place = tf.where(is_known, group * self.segments + segment, tf.constant(-1, tf.int64))
        contingency = tf.math.unsorted_segment_sum(
            tf.ones_like(place), place, groups * self.segments
        )
        return collections.OrderedDict(
            squared_distance_sum=tf.reduce_sum(distance),
            rows=count(labels[:, 1] >= NOT_KNOWN),
            feature_sums=tf.math.unsorted_segment_sum(
                self._in_units(features["inputs"]), segment, self.segments
            ),
            contingency=tf.reshape(contingency, [groups, self.segments]),
            worth_known=count(labels[:, 1] >= 0),
            worth_much=count(tf.equal(labels[:, 1], 1)),
            examples=tf.size(segment, tf.int64),
        )

    def per_client(
        self,
        outputs: Any,
        labels: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        clients: ClientRows,
    ) -> collections.OrderedDict:
        """Returns inertia of each client."""
        import tensorflow as tf

        distance = tf.cast(tf.reduce_min(outputs, axis=-1), tf.float64)
        return collections.OrderedDict(inertia=clients.mean(distance))

    def metrics(self, pooled: Mapping[str, Any]) -> dict[str, float]:
        """Returns inertia, and adjusted_rand_index where the true groups are known."""
        examples = int(pooled["examples"])
        inertia = float(pooled["squared_distance_sum"]) / examples if examples else math.nan
        if not self.groups:
            return {"inertia": inertia}
        return {
            "inertia": inertia,
            "adjusted_rand_index": adjusted_rand_index(pooled["contingency"]),
        }

    def findings(self, pooled: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the segment table, largest segment first."""
        rows = np.asarray(pooled["rows"], np.int64)
        sums = np.asarray(pooled["feature_sums"], np.float64)
        known = np.asarray(pooled["worth_known"], np.int64)
        much = np.asarray(pooled["worth_much"], np.int64)
        if not rows.sum():
            return {}
        return {
            "segments": {
                "customers": int(rows.sum()),
                "worth": self.worth,
                "overall": self._profile(rows.sum(), sums.sum(axis=0), known.sum(), much.sum()),
                "segments": [
                    {
                        "segment": int(s) + 1,
                        "share": float(rows[s] / rows.sum()),
                        **self._profile(rows[s], sums[s], known[s], much[s]),
                    }
                    for s in np.argsort(-rows, kind="stable")
                ],
            }
        }

    def trivial(self, train: Clients, test: Clients) -> dict[str, dict[str, float]]:
        """Returns the metrics of one centre for all, the training mean, and of public centres."""
        train_inputs, test_inputs = (_rows(clients)[0] for clients in (train, test))
        one = train_inputs.mean(axis=0, keepdims=True)
        start = public_centres(self.columns, segments=self.segments, restarts=1, seed=0)[0]
        groups = _rows(test)[1][:, 0]
        return {
            "one_centre": self._metrics_of(one, test_inputs, groups),
            "public_centres": self._metrics_of(start.astype(np.float64), test_inputs, groups),
        }

    def central_weights(self, model: Any, train: Clients, seed: int) -> Any:
        """Returns those of k-means on all rows together, the best of ten k-means++ starts.

        Args:
          model: Of the family `k_means`.
          train: Clients whose rows are pooled.
          seed: Of the starts.

        Paper: Arthur and Vassilvitskii 2007, "k-means++: The Advantages of Careful Seeding".
        """
        from sklearn.cluster import KMeans  # slow to import

        found = KMeans(self.segments, n_init=_CENTRAL_STARTS, random_state=seed)
        found.fit(_rows(train)[0])
        shares = np.bincount(found.labels_, minlength=self.segments) / train.num_rows
        centres, counts, inertia = (np.zeros_like(w) for w in model.initial_weights[0])
        centres[:], counts[:] = found.cluster_centers_, shares
        inertia[:] = found.inertia_ / train.num_rows
        return centres, counts, inertia

    def predictions(self, outputs: Any, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns `segment`, int64[rows] from 1, and `squared_distance` to its centre."""
        import tensorflow as tf

        return {
            "segment": tf.argmin(outputs, axis=-1) + 1,
            "squared_distance": tf.reduce_min(outputs, axis=-1),
        }

    def describe(self) -> dict[str, Any]:
        """Returns how many segments there are."""
        return {"kind": "clustering", "segments": self.segments}

    def _in_units(self, inputs: tf.Tensor) -> tf.Tensor:
        """Turns encoded numbers back into their units, float64 `[rows, features]`."""
        import tensorflow as tf

        is_number, is_log, low, high = (tf.constant(a) for a in self._scales())
        inputs = tf.cast(inputs, tf.float64)
        scaled = low + (inputs + 1) / 2 * (high - low)
        in_units = tf.where(is_log, tf.math.expm1(tf.where(is_log, scaled, 0.0)), scaled)
        return tf.where(is_number, in_units, inputs)

    def _scales(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of each feature: is it a number, is that on a log scale, and its bounds on that scale."""
        rows = []
        for column in self.columns:
            if column.kind == "category":
                rows += [(False, False, 0.0, 1.0)] * len(column.feature_names)
                continue
            assert column.minimum is not None and column.maximum is not None
            is_log = column.scale == "log1p"
            low, high = column.minimum, column.maximum
            if is_log:
                low, high = math.log1p(low), math.log1p(high)
            rows.append((True, is_log, low, high))
        is_number, is_log_scale, lows, highs = zip(*rows, strict=True)
        return (
            np.array(is_number),
            np.array(is_log_scale),
            np.array(lows, np.float64),
            np.array(highs, np.float64),
        )

    def _profile(self, rows: Any, sums: np.ndarray, known: Any, much: Any) -> dict[str, Any]:
        """What the rows of one segment are like; None where there are no rows to say it."""
        means = sums / rows if rows else np.full(len(sums), np.nan)
        place, numbers, categories = 0, {}, {}
        for column in self.columns:
            part = [None if np.isnan(v) else float(v) for v in means[place:][: _width(column)]]
            place += _width(column)
            if column.kind == "number":
                numbers[column.name] = part[0]
            else:
                categories[column.name] = dict(zip(column.values or (), part, strict=True))
        return {
            "rows": int(rows),
            "numbers": numbers,
            "categories": categories,
            "worth_share": float(much / known) if known else None,
        }

    def _metrics_of(
        self, centres: np.ndarray, inputs: np.ndarray, groups: np.ndarray
    ) -> dict[str, float]:
        """The metrics of the given centres, on rows in one table."""
        squared = np.square(centres).sum(axis=1) - 2 * inputs @ centres.T
        segment = squared.argmin(axis=1)
        inertia = float((squared.min(axis=1) + np.square(inputs).sum(axis=1)).mean())
        if not self.groups:
            return {"inertia": inertia}
        known = groups >= 0
        table = np.zeros((len(self.groups), len(centres)))
        np.add.at(table, (groups[known], segment[known]), 1)
        return {"inertia": inertia, "adjusted_rand_index": adjusted_rand_index(table)}


def _width(column: Column) -> int:
    """How many features a column has."""
    return len(column.feature_names)


def _rows(clients: Clients) -> tuple[np.ndarray, np.ndarray]:
    """All rows of all clients: inputs float64 and labels."""
    everybody = clients.select(np.arange(clients.num_clients))
    return everybody.features["inputs"].astype(np.float64), everybody.labels
