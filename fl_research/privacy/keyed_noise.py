"""A query that adds repeatable Gaussian noise to the sums of a noise-free query.

tensorflow_privacy clips, sums, estimates the quantile and divides; its noise, though, comes from an
unseeded generator, and a round could not be repeated to the bit. So the inner query is built with a
standard deviation of zero, and this one adds the noise to the sample state before the inner
`get_noised_result` sees it. The noise of a tensor is a function of (noise key, release index,
tensor index) and of nothing else: the key is hashed to a root of 128 bits, and root XOR
(release, tensor) seeds the generator of `learning.keyed_values`. The release index counts up in the
query's own global state.

The event is computed from the standard deviation that was multiplied with the noise and the clip
norm that was in force, both read from the state of that release.

Gaussian mechanism: Dwork and Roth 2014, The Algorithmic Foundations of Differential Privacy.
"""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import dp_accounting
import tensorflow as tf
import tensorflow_privacy as tfp

from fl_research.learning.keyed_values import noise_root, seed_at, standard_normal
from fl_research.privacy.plan import NoiseKey, checked_noise_key


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisedPart:
    """One part of the sample state, with a clip norm and a noise level of its own.

    Attributes:
      tensors: From the inner query's sample state, the tensors of this part.
      clip_norm: From the inner query's global state, the live bound (float32 scalar) on the L2 norm
        of what one client adds to this part.
      noise_multiplier: Standard deviation of the noise on the sum, divided by `clip_norm`.
    """

    tensors: Callable[[Any], Any]
    clip_norm: Callable[[Any], tf.Tensor]
    noise_multiplier: float


class KeyedNoiseState(NamedTuple):
    """Global state: the inner query's own, and how many releases were made (int64 scalar)."""

    inner: Any
    release_index: Any


class KeyedGaussianNoiseQuery(tfp.SumAggregationDPQuery):
    """Adds Gaussian noise to each part of an inner query's sums, from a key.

    The event of a release is a `GaussianDpEvent` with the noise multiplier (float64 scalar tensor)
    of the only part, or a `ComposedDpEvent` of one such event a part, in order.
    """

    def __init__(
        self, inner: tfp.DPQuery, *, parts: Sequence[NoisedPart], noise_key: NoiseKey
    ) -> None:
        """Initializes the query.

        Args:
          inner: A query that sums and adds no noise.
          parts: Cover every tensor of the inner query's sample state, in the order of
            `tf.nest.flatten`. The first is the clients' update.
          noise_key: Two signed 64-bit integers.

        Raises:
          InputError: The key is no such pair.
        """
        self._inner = inner
        self._parts = tuple(parts)
        self._root = noise_root(checked_noise_key(noise_key))

    def initial_global_state(self) -> KeyedNoiseState:
        """Returns the inner query's state, and release 0."""
        return KeyedNoiseState(self._inner.initial_global_state(), tf.constant(0, tf.int64))

    def derive_sample_params(self, global_state: KeyedNoiseState) -> Any:
        """Returns what the inner query sends to the clients; nothing of the noise."""
        return self._inner.derive_sample_params(global_state.inner)

    def initial_sample_state(self, template: Any = None) -> Any:
        """Returns the inner query's empty sums."""
        return self._inner.initial_sample_state(template)

    def preprocess_record(self, params: Any, record: Any) -> Any:
        """Returns the record as the inner query clips it."""
        return self._inner.preprocess_record(params, record)

    def accumulate_preprocessed_record(self, sample_state: Any, preprocessed_record: Any) -> Any:
        """Adds one clipped record to the sums."""
        return self._inner.accumulate_preprocessed_record(sample_state, preprocessed_record)

    def merge_sample_states(self, sample_state_1: Any, sample_state_2: Any) -> Any:
        """Adds two sums."""
        return self._inner.merge_sample_states(sample_state_1, sample_state_2)

    def get_noised_result(
        self, sample_state: Any, global_state: KeyedNoiseState
    ) -> tuple[Any, KeyedNoiseState, dp_accounting.DpEvent]:
        """Adds this release's noise, then lets the inner query make its result of the sums.

        Returns:
          The result, the state for the next release, and the event of this one.

        Raises:
          TypeError: A tensor of the sample state is not of a floating type.
          ValueError: The parts do not cover the sample state.
        """
        noised: list[tf.Tensor] = []
        events = []
        for part in self._parts:
            clip_norm, stddev = self._clip_norm_and_stddev(part, global_state)
            for tensor in tf.nest.flatten(part.tensors(sample_state)):
                noised.append(
                    self._add_noise(tensor, stddev, global_state.release_index, len(noised))
                )
            # A clip norm that fell to zero gives 0, "no privacy", rather than NaN.
            ratio = tf.math.divide_no_nan(
                tf.cast(stddev, tf.float64), tf.cast(clip_norm, "float64")
            )
            events.append(dp_accounting.GaussianDpEvent(ratio))
        if len(noised) != len(tf.nest.flatten(sample_state)):
            raise ValueError(
                f"The parts cover {len(noised)} tensors of a sample state of "
                f"{len(tf.nest.flatten(sample_state))}."
            )
        result, inner_state, _ = self._inner.get_noised_result(
            tf.nest.pack_sequence_as(sample_state, noised), global_state.inner
        )
        event = events[0] if len(events) == 1 else dp_accounting.ComposedDpEvent(events)
        return result, KeyedNoiseState(inner_state, global_state.release_index + 1), event

    def derive_metrics(self, global_state: KeyedNoiseState) -> collections.OrderedDict:
        """Returns `clip_norm` and `noise_stddev_of_sum` (float32) of the release to come."""
        clip_norm, stddev = self._clip_norm_and_stddev(self._parts[0], global_state)
        return collections.OrderedDict(clip_norm=clip_norm, noise_stddev_of_sum=stddev)

    def _clip_norm_and_stddev(self, part: NoisedPart, global_state: Any) -> tuple[Any, Any]:
        """Returns the part's live clip norm, and the standard deviation as it is used: float32."""
        clip_norm = part.clip_norm(global_state.inner)
        stddev = tf.cast(clip_norm, tf.float64) * part.noise_multiplier
        return clip_norm, tf.cast(stddev, tf.float32)

    def _add_noise(self, tensor: Any, stddev: Any, release_index: Any, tensor_index: int) -> Any:
        """Returns the tensor plus its noise of this release, in the tensor's own type."""
        tensor = tf.convert_to_tensor(tensor)
        if not tensor.dtype.is_floating:
            raise TypeError(f"Noise needs a floating type, got {tensor.dtype.name}.")
        seed = seed_at(self._root, release_index, tensor_index)
        normal = standard_normal(seed, tf.shape(tensor))
        return tensor + tf.cast(normal * tf.cast(stddev, tf.float64), tensor.dtype)
