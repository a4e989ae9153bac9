"""A query that adds repeatable noise to the sums of a noise-free query.

tensorflow_privacy clips, sums, estimates the quantile and divides; its noise, though, comes from an
unseeded generator, and a round could not be repeated to the bit. So the inner query is built with a
standard deviation of zero, and this one adds the noise to the sample state before the inner
`get_noised_result` sees it. The noise of a tensor is a function of (noise key, release index,
tensor index), and of the state of its stream where noise is correlated over releases: the key is
hashed to a root of 128 bits, and root XOR (release, tensor) seeds the generator of
`learning.keyed_values`. The release index counts up in the query's own global state.

The event is computed from the standard deviation that was multiplied with the noise and the clip
norm that was in force, both read from the state of that release.

Both mechanisms: Dwork and Roth 2014, The Algorithmic Foundations of Differential Privacy.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import dp_accounting
import tensorflow as tf
import tensorflow_privacy as tfp

from fl_research.learning.keyed_values import (
    noise_root,
    seed_at,
    standard_laplace,
    standard_normal,
)
from fl_research.privacy.noise_streams import Draw, FreshNoise, NoiseStream
from fl_research.privacy.plan import NoiseKey, checked_noise_key

_VALUES = {"gaussian": standard_normal, "laplace": standard_laplace}
_STDDEVS = {"gaussian": 1.0, "laplace": math.sqrt(2.0)}  # Of values of scale 1.
_EVENTS = {"gaussian": dp_accounting.GaussianDpEvent, "laplace": dp_accounting.LaplaceDpEvent}
# Fresh values of one tensor and release beyond the first, such as the nodes of a tree.
_PLACE = 2**32


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisedPart:
    """One part of the sample state, with a clip norm and a noise level of its own.

    Attributes:
      tensors: From the inner query's sample state, the tensors of this part.
      clip_norm: From the inner query's global state, the live bound (float32 scalar) on the norm of
        what one client adds to this part: L2 for Gaussian noise, L1 for Laplace noise.
      noise_multiplier: Scale of the fresh noise on the sum, divided by `clip_norm`: the standard
        deviation of Gaussian noise, the parameter b of Laplace noise.
      distribution: "gaussian" or "laplace".
      stream: How the noise of a release follows from fresh noise.
    """

    tensors: Callable[[Any], Any]
    clip_norm: Callable[[Any], tf.Tensor]
    noise_multiplier: float
    distribution: str = "gaussian"
    stream: NoiseStream = dataclasses.field(default_factory=FreshNoise)


def event_of(distribution: str, noise_multiplier: Any) -> dp_accounting.DpEvent:
    """Returns the event of a part with noise of this distribution and multiplier."""
    return _EVENTS[distribution](noise_multiplier)


class KeyedNoiseState(NamedTuple):
    """Global state: the inner query's own, how many releases were made (int64), the streams'."""

    inner: Any
    release_index: Any
    streams: Any


class KeyedNoiseQuery(tfp.SumAggregationDPQuery):
    """Adds noise to each part of an inner query's sums, from a key.

    The event of a release is a `GaussianDpEvent` or a `LaplaceDpEvent` with the noise multiplier
    (float64 scalar tensor) of the only part, or a `ComposedDpEvent` of one such event a part, in
    order.
    """

    def __init__(
        self,
        inner: tfp.DPQuery,
        *,
        parts: Sequence[NoisedPart],
        noise_key: NoiseKey,
        update_specs: Any,
    ) -> None:
        """Initializes the query.

        Args:
          inner: A query that sums and adds no noise.
          parts: Cover every tensor of the inner query's sample state, in the order of
            `tf.nest.flatten`. The first is the clients' update.
          noise_key: Two signed 64-bit integers.
          update_specs: Tensor specs of an update, whose shapes the streams' states have.

        Raises:
          InputError: The key is no such pair.
        """
        self._inner = inner
        self._parts = tuple(parts)
        self._root = noise_root(checked_noise_key(noise_key))
        self._update_specs = update_specs

    def initial_global_state(self) -> KeyedNoiseState:
        """Returns the inner query's state, release 0, and the streams at their start."""
        nothing = self._inner.initial_sample_state(self._update_specs)
        streams = tuple(
            part.stream.initial_state(
                [tf.convert_to_tensor(tensor) for tensor in tf.nest.flatten(part.tensors(nothing))]
            )
            for part in self._parts
        )
        return KeyedNoiseState(
            self._inner.initial_global_state(), tf.constant(0, tf.int64), streams
        )

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
        events, streams = [], []
        for part, stream_state in zip(self._parts, global_state.streams, strict=True):
            clip_norm, scale = self._clip_norm_and_scale(part, global_state)
            tensors = [_floating(t) for t in tf.nest.flatten(part.tensors(sample_state))]
            draw = self._draw(part, tensors, global_state.release_index, first=len(noised))
            noises, stream_state = part.stream.next(  # noqa: PLW2901
                stream_state, tensors, draw
            )
            streams.append(stream_state)
            noised += [
                tensor + tf.cast(noise * tf.cast(scale, tf.float64), tensor.dtype)
                for tensor, noise in zip(tensors, noises, strict=True)
            ]
            # A clip norm that fell to zero gives 0, "no privacy", rather than NaN.
            ratio = tf.math.divide_no_nan(tf.cast(scale, tf.float64), tf.cast(clip_norm, "float64"))
            events.append(event_of(part.distribution, ratio))
        if len(noised) != len(tf.nest.flatten(sample_state)):
            raise ValueError(
                f"The parts cover {len(noised)} tensors of a sample state of "
                f"{len(tf.nest.flatten(sample_state))}."
            )
        result, inner_state, _ = self._inner.get_noised_result(
            tf.nest.pack_sequence_as(sample_state, noised), global_state.inner
        )
        event = events[0] if len(events) == 1 else dp_accounting.ComposedDpEvent(events)
        state = KeyedNoiseState(inner_state, global_state.release_index + 1, tuple(streams))
        return result, state, event

    def derive_metrics(self, global_state: KeyedNoiseState) -> collections.OrderedDict:
        """Returns `clip_norm` and `noise_stddev_of_sum` (float32) of the release to come.

        Of noise that is correlated over releases, the standard deviation is that of the fresh part.
        """
        clip_norm, scale = self._clip_norm_and_scale(self._parts[0], global_state)
        stddev = _STDDEVS[self._parts[0].distribution]
        return collections.OrderedDict(clip_norm=clip_norm, noise_stddev_of_sum=stddev * scale)

    def _clip_norm_and_scale(self, part: NoisedPart, global_state: Any) -> tuple[Any, Any]:
        """Returns the part's live clip norm, and the scale of its noise as it is used: float32."""
        clip_norm = part.clip_norm(global_state.inner)
        scale = tf.cast(clip_norm, tf.float64) * part.noise_multiplier
        return clip_norm, tf.cast(scale, tf.float32)

    def _draw(
        self, part: NoisedPart, tensors: Sequence[tf.Tensor], release_index: Any, first: int
    ) -> Draw:
        """Gives fresh noise for each tensor of a part, whose first is tensor `first` of all."""
        values = _VALUES[part.distribution]

        def draw(index: int, place: Any) -> tf.Tensor:
            second = tf.cast(place, tf.int64) * _PLACE + first + index
            seed = seed_at(self._root, release_index, second)
            return values(seed, tf.shape(tensors[index]))

        return draw


def _floating(tensor: Any) -> tf.Tensor:
    """The tensor; raises TypeError unless it can take noise."""
    tensor = tf.convert_to_tensor(tensor)
    if not tensor.dtype.is_floating:
        raise TypeError(f"Noise needs a floating type, got {tensor.dtype.name}.")
    return tensor
