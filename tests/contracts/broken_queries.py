"""Queries and noise streams with a slip in them, for tests of the checks that should notice."""

from typing import Any

import tensorflow as tf
import tensorflow_privacy as tfp

from fl_research.privacy.client_record import UpdateOnlyQuery
from fl_research.privacy.keyed_noise import KeyedNoiseQuery, event_of
from fl_research.privacy.local_noise import LocalNoiseQuery
from fl_research.privacy.noise_streams import BandedNoise, TreeNoise
from tests.contracts.mechanism_cases import EXPECTED_COHORT


class Lying(KeyedNoiseQuery):
    """Emits the event, and shows the metrics, that it should have."""

    def get_noised_result(self, sample_state: Any, global_state: Any) -> tuple[Any, Any, Any]:
        result, state, event = super().get_noised_result(sample_state, global_state)
        events = [event_of(part.distribution, self.declared[i]) for i, part in self._numbered()]
        return result, state, type(event)(events) if len(events) > 1 else events[0]

    def derive_metrics(self, global_state: Any) -> Any:
        metrics = super().derive_metrics(global_state)
        metrics["noise_stddev_of_sum"] = metrics["clip_norm"] * self.declared[0]
        return metrics

    def _numbered(self) -> Any:
        return enumerate(self._parts)


class InitialClip(KeyedNoiseQuery):
    """Scales noise by the clip norm that the run began with."""

    def _clip_norm_and_scale(self, part: Any, global_state: Any) -> tuple[Any, Any]:
        clip_norm, _ = super()._clip_norm_and_scale(part, global_state)
        _, scale = super()._clip_norm_and_scale(part, self.initial_global_state())
        return clip_norm, scale


class LyingInitialClip(Lying, InitialClip):
    """The same, and does not tell."""


class NoClip(Lying):
    """Forgets the clip norm in the scale of the noise."""

    def _clip_norm_and_scale(self, part: Any, global_state: Any) -> tuple[Any, Any]:
        clip_norm, _ = super()._clip_norm_and_scale(part, global_state)
        return clip_norm, tf.constant(part.noise_multiplier, tf.float32)


class OneNoiseForTensors(KeyedNoiseQuery):
    """Draws each tensor's noise from the same seed."""

    def _draw(self, part: Any, tensors: Any, release_index: Any, first: int) -> Any:
        draws = [
            super(OneNoiseForTensors, self)._draw(part, [t], release_index, 0) for t in tensors
        ]
        return lambda index, place: draws[index](0, place)


class OneNoiseForReleases(KeyedNoiseQuery):
    """Draws each release's noise from the same seed."""

    def _draw(self, part: Any, tensors: Any, release_index: Any, first: int) -> Any:
        return super()._draw(part, tensors, tf.constant(0, tf.int64), first)


class DividesByWhoCame(tfp.SumAggregationDPQuery):
    """Divides by the clients that came, where there are any."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def initial_global_state(self) -> Any:
        return self._inner.initial_global_state()

    def derive_sample_params(self, global_state: Any) -> Any:
        return self._inner.derive_sample_params(global_state)

    def initial_sample_state(self, template: Any = None) -> Any:
        return self._inner.initial_sample_state(template), tf.constant(0.0)

    def preprocess_record(self, params: Any, record: Any) -> Any:
        return self._inner.preprocess_record(params, record), tf.constant(1.0)

    def get_noised_result(self, sample_state: Any, global_state: Any) -> tuple[Any, Any, Any]:
        sums, came = sample_state
        result, state, event = self._inner.get_noised_result(sums, global_state)
        factor = tf.where(came > 0, EXPECTED_COHORT / tf.maximum(came, 1.0), 1.0)
        return tf.nest.map_structure(lambda t: t * factor, result), state, event

    def derive_metrics(self, global_state: Any) -> Any:
        return self._inner.derive_metrics(global_state)


class ClipsEachTensor(UpdateOnlyQuery):
    """Clips each tensor of an update on its own."""

    def preprocess_record(self, params: Any, record: Any) -> Any:
        def alone(tensor: tf.Tensor) -> tf.Tensor:
            return self._inner.preprocess_record(params, tensor)

        return tf.nest.map_structure(alone, record["update"])


class WeighsByRows(UpdateOnlyQuery):
    """Multiplies a clipped update with what the client says of its rows."""

    def preprocess_record(self, params: Any, record: Any) -> Any:
        clipped = super().preprocess_record(params, record)
        return tf.nest.map_structure(lambda t: t * record["weight"], clipped)


class OneNoiseForClients(LocalNoiseQuery):
    """Leaves the client's seed out."""

    def preprocess_record(self, params: Any, record: Any) -> Any:
        return super().preprocess_record(params, {**record, "seed": tf.zeros([2], tf.int64)})


class TakesNoiseBack(TreeNoise):
    """Subtracts the last tree's noise from the first release of the next."""

    def next(self, state: Any, tensors: Any, draw: Any) -> tuple[Any, Any]:
        noises, after = super().next(state, tensors, draw)
        prefix = [
            tf.cast(tf.cast(old, tf.float64) + noise, old.dtype)
            for old, noise in zip(state.prefix, noises, strict=True)
        ]
        return noises, after._replace(prefix=prefix)


class OnlyLeaves(TreeNoise):
    """Draws no noise for the nodes above the leaves."""

    def _with_leaf(self, nodes: Any, position: Any, index: int, draw: Any) -> Any:
        def of_leaves(index: int, place: Any) -> tf.Tensor:
            noise = draw(index, place)
            return noise if isinstance(place, int) else tf.zeros_like(noise)

        return super()._with_leaf(nodes, position, index, of_leaves)


class Forgetful(BandedNoise):
    """Begins anew with each release."""

    def next(self, state: Any, tensors: Any, draw: Any) -> tuple[Any, Any]:
        noises, _ = super().next(state, tensors, draw)
        return noises, self.initial_state(tensors)
