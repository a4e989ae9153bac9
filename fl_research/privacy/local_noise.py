"""A query whose clients add the noise: what reaches the server is private already.

The noise of a client in a round is a function of (noise key, the client's seed of that round,
tensor), drawn where the client trains.
"""

import collections
from typing import Any

import dp_accounting
import tensorflow as tf
import tensorflow_privacy as tfp

from fl_research.learning.example_privacy import client_seed
from fl_research.learning.keyed_values import standard_normal
from fl_research.privacy.client_record import UpdateOnlyQuery
from fl_research.privacy.clipped_sum import ClippedSumQuery
from fl_research.privacy.plan import NoiseKey, checked_noise_key


class LocalNoiseQuery(UpdateOnlyQuery):
    """Clips each update to an L2 norm, adds Gaussian noise to it, and averages."""

    def __init__(
        self,
        *,
        clip_norm: float,
        noise_multiplier: float,
        expected_cohort_size: float,
        noise_key: NoiseKey,
    ) -> None:
        """Initializes the query.

        Args:
          clip_norm: Largest L2 norm of an update.
          noise_multiplier: Standard deviation of the noise on each update, divided by `clip_norm`.
          expected_cohort_size: What the sum is divided by.
          noise_key: Two signed 64-bit integers; every client's noise follows from it.
        """
        clipped = ClippedSumQuery(l2_norm_clip=clip_norm)
        super().__init__(tfp.NormalizedQuery(clipped, denominator=expected_cohort_size))
        self._noise_multiplier = noise_multiplier
        self._noise_key = checked_noise_key(noise_key)

    def preprocess_record(self, params: Any, record: Any) -> Any:
        """Returns the clipped update with this client's noise of this round.

        An update that is not finite counts as zero: to send nothing would tell the server so.
        """
        clipped = super().preprocess_record(params, {**record, "update": _finite(record["update"])})
        seed = client_seed(self._noise_key, record["seed"])
        # The sample parameter of a clipped sum is its clip norm.
        stddev = tf.cast(params, tf.float64) * self._noise_multiplier
        noised = []
        for index, tensor in enumerate(tf.nest.flatten(clipped)):
            place = tf.constant([-1, index], tf.int64)  # No step of DP-SGD has this number.
            normal = standard_normal(tf.bitwise.bitwise_xor(seed, place), tf.shape(tensor))
            noised.append(tensor + tf.cast(normal * stddev, tensor.dtype))
        return tf.nest.pack_sequence_as(clipped, noised)

    def get_noised_result(
        self, sample_state: Any, global_state: Any
    ) -> tuple[Any, Any, dp_accounting.DpEvent]:
        """Returns the mean, the state, and the event of one client's noised update."""
        result, state, _ = super().get_noised_result(sample_state, global_state)
        return result, state, dp_accounting.GaussianDpEvent(self._ratio(global_state))

    def derive_metrics(self, global_state: Any) -> collections.OrderedDict:
        """Returns `clip_norm`, and as `noise_stddev_of_sum` that of one client's update."""
        clip_norm = tf.cast(self.derive_sample_params(global_state), tf.float32)
        stddev = tf.cast(tf.cast(clip_norm, tf.float64) * self._noise_multiplier, tf.float32)
        return collections.OrderedDict(clip_norm=clip_norm, noise_stddev_of_sum=stddev)

    def _ratio(self, global_state: Any) -> tf.Tensor:
        """The noise multiplier from what was multiplied and what was clipped to (float64)."""
        metrics = self.derive_metrics(global_state)
        return tf.math.divide_no_nan(
            tf.cast(metrics["noise_stddev_of_sum"], tf.float64),
            tf.cast(metrics["clip_norm"], tf.float64),
        )


def _finite(update: Any) -> Any:
    """The update, or zero where a value of it is not finite."""
    finite = tf.reduce_all(
        tf.stack([tf.reduce_all(tf.math.is_finite(t)) for t in tf.nest.flatten(update)])
    )
    return tf.nest.map_structure(lambda t: tf.where(finite, t, tf.zeros_like(t)), update)
