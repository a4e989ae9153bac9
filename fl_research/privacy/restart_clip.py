"""A clipped sum whose clip norm follows a quantile, and moves only when a tree is restarted.

Within one tree the noise of all prefix sums is relative to one clip norm, so the clip has to stay.
With each update goes +1/2 if its norm was within the clip and -1/2 if it was clipped; the noised
counts of a tree's rounds add up, and at the restart the clip C becomes
C * exp(-learning_rate * (b - target_quantile)), with b the fraction of updates that were within it.

Andrew et al. 2021, "Differentially Private Learning with Adaptive Clipping"; Kairouz et al. 2021,
"Practical and Private (Deep) Learning without Sampling or Shuffling".
"""

import collections
from typing import Any, NamedTuple

import dp_accounting
import tensorflow as tf
import tensorflow_privacy as tfp


class RestartClipState(NamedTuple):
    """State: the clip norm (float32), rounds of the tree (int64), its counts' sum (float32)."""

    clip_norm: Any
    rounds: Any
    count_sum: Any


class RestartClipSample(NamedTuple):
    """Sample state: the sum of the clipped updates, and the sum of their +1/2 and -1/2."""

    update: Any
    count: Any


class RestartClipSumQuery(tfp.SumAggregationDPQuery):
    """Clips updates to a norm that moves at restarts, and sums, without noise.

    The sample state has two parts, the updates' sum and the count's. `get_noised_result` takes both
    with their noise and returns the first.
    """

    COUNT_SENSITIVITY = 0.5

    def __init__(
        self,
        *,
        clip_norm: float,
        restart_every: int,
        target_quantile: float,
        learning_rate: float,
        expected_cohort_size: float,
    ) -> None:
        """Initializes the query.

        Args:
          clip_norm: L2 norm that the first tree's updates are clipped to.
          restart_every: Rounds of one tree.
          target_quantile: The fraction of updates that should not be clipped.
          learning_rate: The clip changes by at most the factor exp(learning_rate) a restart.
          expected_cohort_size: Clients a round.
        """
        self._clip_norm = clip_norm
        self._restart_every = restart_every
        self._target_quantile = target_quantile
        self._learning_rate = learning_rate
        self._expected_cohort_size = expected_cohort_size

    def initial_global_state(self) -> RestartClipState:
        """Returns the first clip norm and a tree without rounds."""
        return RestartClipState(
            tf.constant(self._clip_norm, tf.float32), tf.constant(0, tf.int64), tf.constant(0.0)
        )

    def derive_sample_params(self, global_state: RestartClipState) -> Any:
        """Returns the clip norm."""
        return global_state.clip_norm

    def initial_sample_state(self, template: Any = None) -> RestartClipSample:
        """Returns empty sums."""
        zeros = tf.nest.map_structure(lambda t: tf.zeros(t.shape, t.dtype), template)
        return RestartClipSample(zeros, tf.constant(0.0))

    def preprocess_record(self, params: Any, record: Any) -> RestartClipSample:
        """Returns the clipped update, and on which side of the clip its norm was."""
        tensors = tf.nest.flatten(record)
        clipped, norm = tf.clip_by_global_norm(tensors, params)
        count = tf.where(norm <= params, 0.5, -0.5)
        return RestartClipSample(tf.nest.pack_sequence_as(record, clipped), count)

    def get_noised_result(
        self, sample_state: RestartClipSample, global_state: RestartClipState
    ) -> tuple[Any, RestartClipState, dp_accounting.DpEvent]:
        """Returns the updates' sum, the state of the next round, and an event without privacy."""
        rounds = global_state.rounds + 1
        count_sum = global_state.count_sum + sample_state.count
        clients = self._expected_cohort_size * tf.cast(rounds, tf.float32)
        within = tf.clip_by_value(count_sum / clients + 0.5, 0.0, 1.0)
        moved = global_state.clip_norm * tf.exp(
            -self._learning_rate * (within - self._target_quantile)
        )
        goes_on = rounds < self._restart_every
        state = RestartClipState(
            tf.where(goes_on, global_state.clip_norm, moved),
            tf.where(goes_on, rounds, 0),
            tf.where(goes_on, count_sum, 0.0),
        )
        return sample_state.update, state, dp_accounting.NonPrivateDpEvent()

    def derive_metrics(self, global_state: RestartClipState) -> collections.OrderedDict:
        """Returns `clip_norm` (float32) of the release to come."""
        return collections.OrderedDict(clip_norm=global_state.clip_norm)
