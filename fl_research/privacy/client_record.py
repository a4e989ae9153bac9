"""Queries over the record that each client hands in: `OrderedDict(update, weight, seed)`.

The weight is a float32, the seed the client's own of the round (int64[2]). `UpdateOnlyQuery` is for
private means: the weight is dropped, so that no client can count more than
another, and the update goes to an inner query that clips it. `ClientMeanQuery` is the plain mean,
uniform or weighted, with no privacy (FedAvg: McMahan et al. 2017).
"""

import collections
from typing import Any

import dp_accounting
import tensorflow as tf
import tensorflow_privacy as tfp

# Squares of larger values than this would overflow float32 when a norm is computed.
_LARGEST_SAFE_VALUE = 1e15


class UpdateOnlyQuery(tfp.SumAggregationDPQuery):
    """Hands `record["update"]` to an inner query and drops `record["weight"]`."""

    def __init__(self, inner: tfp.DPQuery) -> None:
        """Initializes the query around the one that takes the bare update."""
        self._inner = inner

    def initial_global_state(self) -> Any:
        """Returns the inner query's state."""
        return self._inner.initial_global_state()

    def derive_sample_params(self, global_state: Any) -> Any:
        """Returns what the inner query sends to the clients."""
        return self._inner.derive_sample_params(global_state)

    def initial_sample_state(self, template: Any = None) -> Any:
        """Returns the inner query's empty sums for the template's update."""
        return self._inner.initial_sample_state(template["update"])

    def preprocess_record(self, params: Any, record: Any) -> Any:
        """Returns the update as the inner query clips it."""
        return self._inner.preprocess_record(params, _with_finite_norm(record["update"]))

    def accumulate_preprocessed_record(self, sample_state: Any, preprocessed_record: Any) -> Any:
        """Adds one clipped update to the sums."""
        return self._inner.accumulate_preprocessed_record(sample_state, preprocessed_record)

    def merge_sample_states(self, sample_state_1: Any, sample_state_2: Any) -> Any:
        """Adds two sums."""
        return self._inner.merge_sample_states(sample_state_1, sample_state_2)

    def get_noised_result(self, sample_state: Any, global_state: Any) -> tuple[Any, Any, Any]:
        """Returns the inner query's result, state and event."""
        return self._inner.get_noised_result(sample_state, global_state)

    def derive_metrics(self, global_state: Any) -> collections.OrderedDict:
        """Returns the inner query's metrics."""
        return self._inner.derive_metrics(global_state)


class ClientMeanQuery(tfp.NoPrivacyAverageQuery):
    """The plain mean of the clients' updates; zero for an empty cohort."""

    def __init__(self, *, weighted: bool) -> None:
        """Initializes the mean: by `record["weight"]` if `weighted`, else each client once."""
        self._weighted = weighted

    def initial_sample_state(self, template: Any = None) -> Any:
        """Returns an empty sum for the template's update, and a weight of zero."""
        return super().initial_sample_state(template["update"])

    def preprocess_record(self, params: Any, record: Any) -> Any:
        """Returns the update times its weight, and the weight (float32 scalar)."""
        weight = record["weight"] if self._weighted else tf.constant(1.0)
        return super().preprocess_record(params, record["update"], weight)

    def accumulate_record(self, params: Any, sample_state: Any, record: Any) -> Any:
        """Adds one client's record to the sums."""
        return self.accumulate_preprocessed_record(
            sample_state, self.preprocess_record(params, record)
        )

    def get_noised_result(self, sample_state: Any, global_state: Any) -> tuple[Any, Any, Any]:
        """Returns the mean, the state and a `NonPrivateDpEvent`."""
        update_sum, weight_sum = sample_state
        # 0 / 0 would be NaN: with nobody there, divide zero by one.
        safe_weight = tf.where(weight_sum > 0.0, weight_sum, tf.ones_like(weight_sum))
        return super().get_noised_result((update_sum, safe_weight), global_state)


class ExampleNoiseMeanQuery(ClientMeanQuery):
    """The plain mean of updates that are private already for each record they come from.

    Each of the clients' steps was noised where it was taken; the event says by how much.
    """

    def __init__(self, *, clip_norm: float, noise_multiplier: float) -> None:
        """Initializes the mean of clients that trained with this clip and noise."""
        super().__init__(weighted=False)
        self._clip_norm = clip_norm
        self._noise_multiplier = noise_multiplier

    def get_noised_result(self, sample_state: Any, global_state: Any) -> tuple[Any, Any, Any]:
        """Returns the mean, the state and the event of one step of one client."""
        result, state, _ = super().get_noised_result(sample_state, global_state)
        multiplier = tf.constant(self._noise_multiplier, tf.float64)
        return result, state, dp_accounting.GaussianDpEvent(multiplier)

    def derive_metrics(self, global_state: Any) -> collections.OrderedDict:
        """Returns `clip_norm` and, as `noise_stddev_of_sum`, that of a step's sum of gradients."""
        return collections.OrderedDict(
            clip_norm=tf.constant(self._clip_norm, tf.float32),
            noise_stddev_of_sum=tf.constant(self._clip_norm * self._noise_multiplier, tf.float32),
        )


def _with_finite_norm(update: Any) -> Any:
    """Scales an update down whose norm would overflow; every other one stays as it is, to the bit.

    Clipping divides by the norm. A finite value of 1e20 has an infinite float32 norm, which would
    turn the clipped update, and with it the model, to NaN.
    """
    extremes = [
        tf.cast(extreme, tf.float32)
        for t in tf.nest.flatten(update)
        for extreme in (tf.reduce_max(t), -tf.reduce_min(t))
    ]
    divisor = tf.maximum(tf.reduce_max(tf.stack(extremes)) / _LARGEST_SAFE_VALUE, 1.0)
    return tf.nest.map_structure(lambda t: t / tf.cast(divisor, t.dtype), update)
