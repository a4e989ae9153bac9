"""A query that adds canary clients to each release of another query.

Canary j of a run has one direction, uniform on the unit sphere: normal numbers drawn by a
counter-based generator from the run's canary key and j, divided by their length. In each round that
it takes part in, it hands in that direction, scaled far above any clip, as a client would: through
the query's own `preprocess_record`, which clips it to exactly the clip norm that is in force, and
`accumulate_preprocessed_record`. Then the query adds its noise and goes on as without canaries.

Directions are functions of (key, canary), participations of (sampler, seed, round), and the round
is the number of releases so far, which is part of the query's state: a resumed run goes on with the
same canaries. Nothing of the key is in the state.

Andrew et al. 2023, One-shot Empirical Privacy Estimation for Federated Learning (arXiv:2302.03098).
"""

import collections
import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import dp_accounting
import numpy as np
import tensorflow as tf
import tensorflow_privacy as tfp

from fl_research.argument_checks import require_at_least
from fl_research.audit.run_audit import Canaries
from fl_research.learning.keyed_values import noise_root, seed_at
from fl_research.privacy.plan import NoiseKey, checked_noise_key

# Above any clip norm in use; squares of it are far from overflowing float32.
_LENGTH_ABOVE_CLIPS = 1e12
_LENGTH_WITHOUT_CLIP = 1.0
_PHILOX = tf.random.Algorithm.PHILOX.value
# No release has this number: seeds of directions and of releases differ.
_DIRECTIONS = -1


class CanaryState(NamedTuple):
    """Global state: the inner query's own, and how many releases were made (int64)."""

    inner: Any
    release_index: Any


class CanaryQuery(tfp.SumAggregationDPQuery):
    """Adds the canaries of each release to the sums of an inner query."""

    def __init__(self, inner: tfp.DPQuery, *, canaries: Canaries, update_specs: Any) -> None:
        """Initializes the query.

        Args:
          inner: A query over records `OrderedDict(update, weight, seed)`.
          canaries: Whose updates are added, and when.
          update_specs: Tensor specs of an update, all with static shapes.
        """
        self._inner = inner
        self._canaries = canaries
        self._root = noise_root(canaries.key)
        self._update_specs = update_specs

    def initial_global_state(self) -> CanaryState:
        """Returns the inner query's state, and release 0."""
        return CanaryState(self._inner.initial_global_state(), tf.constant(0, tf.int64))

    def derive_sample_params(self, global_state: CanaryState) -> Any:
        """Returns what the inner query sends to the clients."""
        return self._inner.derive_sample_params(global_state.inner)

    def initial_sample_state(self, template: Any = None) -> Any:
        """Returns the inner query's empty sums."""
        return self._inner.initial_sample_state(template)

    def preprocess_record(self, params: Any, record: Any) -> Any:
        """Returns the record as the inner query preprocesses it."""
        return self._inner.preprocess_record(params, record)

    def accumulate_preprocessed_record(self, sample_state: Any, preprocessed_record: Any) -> Any:
        """Adds one preprocessed record to the sums."""
        return self._inner.accumulate_preprocessed_record(sample_state, preprocessed_record)

    def merge_sample_states(self, sample_state_1: Any, sample_state_2: Any) -> Any:
        """Adds two sums."""
        return self._inner.merge_sample_states(sample_state_1, sample_state_2)

    def get_noised_result(
        self, sample_state: Any, global_state: CanaryState
    ) -> tuple[Any, CanaryState, dp_accounting.DpEvent]:
        """Adds this release's canaries, then lets the inner query make its result of the sums."""
        with_canaries = self._with_canaries(sample_state, global_state)
        result, inner_state, event = self._inner.get_noised_result(
            with_canaries, global_state.inner
        )
        return result, CanaryState(inner_state, global_state.release_index + 1), event

    def derive_metrics(self, global_state: CanaryState) -> collections.OrderedDict:
        """Returns the inner query's metrics."""
        return self._inner.derive_metrics(global_state.inner)

    def _with_canaries(self, sample_state: Any, global_state: CanaryState) -> Any:
        """The sums with the canaries of the release to come."""
        params = self._inner.derive_sample_params(global_state.inner)
        table = tf.constant(self._canaries.participations, tf.bool)
        # Outside of the table is an error of its own: no canary was planned for such a round.
        taking_part = tf.where(table[global_state.release_index])[:, 0]

        def add_one(place: tf.Tensor, sums: Any) -> tuple[tf.Tensor, Any]:
            """The sums with one more canary."""
            record = canary_record(
                self._canaries, self._update_specs, global_state.release_index, taking_part[place]
            )
            preprocessed = self._inner.preprocess_record(params, record)
            return place + 1, self._inner.accumulate_preprocessed_record(sums, preprocessed)

        _, sums = tf.while_loop(
            lambda place, _: place < tf.size(taking_part),
            add_one,
            (tf.constant(0), tf.nest.map_structure(tf.convert_to_tensor, sample_state)),
        )
        return sums


def canary_record(
    canaries: Canaries, update_specs: Any, release_index: Any, index: Any
) -> collections.OrderedDict:
    """Returns the record that one canary hands in.

    Args:
      canaries: The run's.
      update_specs: Tensor specs of an update.
      release_index: int64 scalar, releases before this one; only the seed depends on it.
      index: int64 scalar, the canary.
    """
    length = _LENGTH_ABOVE_CLIPS if canaries.clipped else _LENGTH_WITHOUT_CLIP
    root = noise_root(canaries.key)
    direction = _direction(root, index, dimension_of(update_specs), length)
    sizes = [spec.shape.num_elements() for spec in tf.nest.flatten(update_specs)]
    update = [
        tf.cast(tf.reshape(piece, spec.shape), spec.dtype)
        for piece, spec in zip(
            tf.split(direction, sizes), tf.nest.flatten(update_specs), strict=True
        )
    ]
    return collections.OrderedDict(
        update=tf.nest.pack_sequence_as(update_specs, update),
        weight=tf.constant(1.0, tf.float32),
        seed=seed_at(root, release_index, index),
        # A canary has no loss: a query that releases metrics leaves it out of them.
        mean_loss=tf.constant(math.nan, tf.float32),
    )


def dimension_of(update_specs: Any) -> int:
    """Returns how many numbers an update has."""
    return sum(int(spec.shape.num_elements()) for spec in tf.nest.flatten(update_specs))


def canary_directions(
    key: NoiseKey, number: int, dimension: int, rows_per_chunk: int = 16
) -> Iterator[np.ndarray]:
    """Yields the directions of canaries 0 to `number` - 1, each a unit vector, in chunks.

    The coordinates before division by the length are float32 normal values, which end at 5.7
    standard deviations. So the directions are uniform on the sphere but for a share of about 1e-8
    of the coordinates, which can only make a large cosine with few coordinates less likely.

    Args:
      key: The run's canary key.
      number: How many, 1 or more.
      dimension: Numbers of an update, 1 or more.
      rows_per_chunk: 1 or more.

    Yields:
      float32[at most rows_per_chunk, dimension].
    """
    require_at_least("number", number, 1)
    require_at_least("dimension", dimension, 1)
    require_at_least("rows_per_chunk", rows_per_chunk, 1)
    root = noise_root(checked_noise_key(key))
    draw = tf.function(functools.partial(_direction, root, dimension=dimension), autograph=False)
    for start in range(0, number, rows_per_chunk):
        indices = range(start, min(start + rows_per_chunk, number))
        yield np.stack([draw(index=tf.constant(index, tf.int64)).numpy() for index in indices])


def _direction(root: np.ndarray, index: Any, dimension: int, length: float = 1.0) -> tf.Tensor:
    """Returns float32[dimension], the direction of one canary with a length."""
    normal = tf.random.stateless_normal(
        [dimension], seed=seed_at(root, _DIRECTIONS, index), dtype=tf.float32, alg=_PHILOX
    )
    return normal * (length / tf.norm(normal))
