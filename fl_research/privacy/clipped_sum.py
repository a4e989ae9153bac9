"""Sums of clipped records, which get their noise elsewhere; the L2 clip is tensorflow_privacy's."""

from typing import Any

import dp_accounting
import tensorflow as tf
import tensorflow_privacy as tfp


class ClippedSumQuery(tfp.GaussianSumQuery):
    """Clips each record to an L2 norm and sums, without noise.

    A `GaussianSumQuery` of standard deviation zero does the same, and draws a normal value for each
    number only to multiply it by zero; for large models that was a tenth of a round.
    """

    def __init__(self, *, l2_norm_clip: float) -> None:
        """Initializes the query with the largest L2 norm of a record."""
        super().__init__(l2_norm_clip=l2_norm_clip, stddev=0.0)

    def get_noised_result(
        self, sample_state: Any, global_state: Any
    ) -> tuple[Any, Any, dp_accounting.DpEvent]:
        """Returns the sums as they are, the state, and an event without privacy."""
        return sample_state, global_state, dp_accounting.NonPrivateDpEvent()


class L1ClippedSumQuery(tfp.SumAggregationDPQuery):
    """Clips each record to an L1 norm over all of its tensors and sums, without noise."""

    def __init__(self, *, l1_norm_clip: float) -> None:
        """Initializes the query with the largest L1 norm of a record."""
        self._clip = l1_norm_clip

    def initial_global_state(self) -> tf.Tensor:
        """Returns the clip norm (float32 scalar)."""
        return tf.constant(self._clip, tf.float32)

    def derive_sample_params(self, global_state: Any) -> Any:
        """Returns the clip norm."""
        return global_state

    def preprocess_record(self, params: Any, record: Any) -> Any:
        """Returns the record, scaled down to the clip norm where it is above."""
        norms = [tf.reduce_sum(tf.abs(t)) for t in tf.nest.flatten(record)]
        scale = params / tf.maximum(params, tf.add_n(norms))
        return tf.nest.map_structure(lambda t: t * tf.cast(scale, t.dtype), record)

    def get_noised_result(
        self, sample_state: Any, global_state: Any
    ) -> tuple[Any, Any, dp_accounting.DpEvent]:
        """Returns the sums as they are, the state, and an event without privacy."""
        return sample_state, global_state, dp_accounting.NonPrivateDpEvent()
