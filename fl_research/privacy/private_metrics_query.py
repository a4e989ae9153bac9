"""A query around a private mean that also sums the clients' losses and numbers, with noise.

Each client's record has its mean loss beside the update. It is clipped to [0, bound] and becomes
the vector (loss / bound, 1) / sqrt(2), of norm at most 1. The sum of these vectors gets Gaussian
noise from the run's key in a stream of its own, and is kept, noised, in the query's state: the
result stays the mean update, and nothing leaves the query without noise. See
`privacy.private_metrics` for how update and metrics share the budget.
"""

import collections
import math
from typing import Any, NamedTuple

import dp_accounting
import tensorflow as tf
import tensorflow_privacy as tfp

from fl_research.learning.keyed_values import noise_root, seed_at, standard_normal
from fl_research.privacy.plan import NoiseKey, checked_noise_key


class PrivateMetricsState(NamedTuple):
    """Global state.

    Attributes:
      inner: The inner query's own.
      release_index: int64 scalar, how many releases were made.
      released: float32[2] of the last release, with noise: the sum of the clipped losses, and the
        number of clients. Zero before the first.
    """

    inner: Any
    release_index: Any
    released: Any


class PrivateMetricsSums(NamedTuple):
    """Sample state, and a preprocessed record: the inner query's, and float32[2]."""

    inner: Any
    metrics: Any


class PrivateMetricsQuery(tfp.SumAggregationDPQuery):
    """Sums `record["mean_loss"]` and clients with noise, beside what an inner query does.

    A client whose loss is NaN adds nothing to the metrics. The event of a release is a
    `ComposedDpEvent` of the inner query's events, and of a `GaussianDpEvent` of the metrics.
    """

    def __init__(
        self,
        inner: tfp.DPQuery,
        *,
        loss_bound: float,
        noise_multiplier: float,
        noise_key: NoiseKey,
    ) -> None:
        """Initializes the query.

        Args:
          inner: Takes the whole record; its events are Gaussian.
          loss_bound: What a client's mean loss is clipped to, above 0.
          noise_multiplier: Standard deviation of the noise on each sum of the vectors' coordinates.
          noise_key: The run's, two signed 64-bit integers.

        Raises:
          InputError: The key is no such pair.
        """
        self._inner = inner
        self._loss_bound = loss_bound
        self._noise_multiplier = noise_multiplier
        # The inner query draws from the key's root; the root's own root is unrelated to it.
        root = noise_root(checked_noise_key(noise_key))
        self._root = noise_root((int(root[0]), int(root[1])))

    def initial_global_state(self) -> PrivateMetricsState:
        """Returns the inner query's state, release 0 and no metrics."""
        return PrivateMetricsState(
            self._inner.initial_global_state(), tf.constant(0, tf.int64), tf.zeros([2])
        )

    def derive_sample_params(self, global_state: PrivateMetricsState) -> Any:
        """Returns what the inner query sends to the clients."""
        return self._inner.derive_sample_params(global_state.inner)

    def initial_sample_state(self, template: Any = None) -> PrivateMetricsSums:
        """Returns the inner query's empty sums, and two zeros."""
        return PrivateMetricsSums(self._inner.initial_sample_state(template), tf.zeros([2]))

    def preprocess_record(self, params: Any, record: Any) -> PrivateMetricsSums:
        """Returns the record as the inner query clips it, and the vector of its metrics."""
        # In float64: a bound that is zero in float32 must not give 0 / 0.
        loss = tf.cast(record["mean_loss"], tf.float64) / self._loss_bound
        is_number = tf.logical_not(tf.math.is_nan(loss))
        clipped = tf.cast(tf.clip_by_value(loss, 0.0, 1.0), tf.float32)
        vector = tf.stack([clipped, tf.ones_like(clipped)]) * math.sqrt(0.5)
        return PrivateMetricsSums(
            self._inner.preprocess_record(params, record),
            tf.where(is_number, vector, tf.zeros_like(vector)),
        )

    def accumulate_preprocessed_record(
        self, sample_state: PrivateMetricsSums, preprocessed_record: PrivateMetricsSums
    ) -> PrivateMetricsSums:
        """Adds one client, or the sums over several."""
        return PrivateMetricsSums(
            self._inner.accumulate_preprocessed_record(
                sample_state.inner, preprocessed_record.inner
            ),
            sample_state.metrics + preprocessed_record.metrics,
        )

    def merge_sample_states(
        self, sample_state_1: PrivateMetricsSums, sample_state_2: PrivateMetricsSums
    ) -> PrivateMetricsSums:
        """Adds two sums."""
        return PrivateMetricsSums(
            self._inner.merge_sample_states(sample_state_1.inner, sample_state_2.inner),
            sample_state_1.metrics + sample_state_2.metrics,
        )

    def get_noised_result(
        self, sample_state: PrivateMetricsSums, global_state: PrivateMetricsState
    ) -> tuple[Any, PrivateMetricsState, dp_accounting.DpEvent]:
        """Ends a release.

        Returns:
          The inner query's result, the state for the next release, which holds this one's noised
          metrics, and the event.
        """
        result, inner_state, event = self._inner.get_noised_result(
            sample_state.inner, global_state.inner
        )
        stddev = tf.constant(self._noise_multiplier, tf.float64)
        noise = stddev * standard_normal(seed_at(self._root, global_state.release_index, 0), [2])
        noised = tf.cast(sample_state.metrics, tf.float64) + noise
        in_units = noised * tf.constant([self._loss_bound, 1.0], tf.float64) * math.sqrt(2.0)
        state = PrivateMetricsState(
            inner_state, global_state.release_index + 1, tf.cast(in_units, tf.float32)
        )
        of_update = event.events if isinstance(event, dp_accounting.ComposedDpEvent) else [event]
        of_metrics = dp_accounting.GaussianDpEvent(stddev)
        return result, state, dp_accounting.ComposedDpEvent([*of_update, of_metrics])

    def derive_metrics(self, global_state: PrivateMetricsState) -> collections.OrderedDict:
        """Returns the inner query's metrics."""
        return self._inner.derive_metrics(global_state.inner)
