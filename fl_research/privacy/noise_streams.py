"""How the noise of a release follows from fresh noise and from the noise of earlier releases.

A stream works on values of standard deviation 1; the query scales them. Its state is part of the
query's global state, so that a run that goes on after an interruption goes on with the same stream,
whatever key its fresh values come from then.

* Fresh noise keeps nothing.
* Banded: x_t = (z_t - sum of c_j x_(t-j)) / c_0 over the bands, which is C^-1 z; it keeps the last
  releases' noise, one model less than there are bands (Choquette-Choo et al. 2023).
* Buffered: the same for coefficients that are sums of geometric series; it keeps a model a series
  (McMahan, Xu, Zhang 2024, "A hassle-free algorithm for private learning in practice").
* Tree: the noise of a prefix sum is that of the complete nodes of a binary tree over the rounds;
  each complete node is estimated from its own noise and its children's with the least variance
  (Honaker 2015, "Efficient use of differentially private binary trees"). The noise of a release is
  what the prefix's noise changed by (Kairouz et al. 2021, "Practical and private (deep) learning
  without sampling or shuffling"). It keeps a model a level of the tree, and one.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

Draw = Callable[[int, Any], tf.Tensor]
"""`(tensor, place) -> standard noise of the tensor's shape`; places are 0, 1, 2 …, one a stream."""


class NoiseStream(abc.ABC):
    """Turns fresh standard noise into the noise of one release after the other."""

    @abc.abstractmethod
    def initial_state(self, tensors: Sequence[tf.Tensor]) -> Any:
        """Returns the state before the first release, for tensors of these shapes and types."""

    @abc.abstractmethod
    def next(
        self, state: Any, tensors: Sequence[tf.Tensor], draw: Draw
    ) -> tuple[list[tf.Tensor], Any]:
        """Returns the noise of a release for each tensor, float64, and the state for the next.

        Args:
          state: From `initial_state` or the release before.
          tensors: What the noise will be added to; their shapes and types count.
          draw: Gives the release's fresh noise, float64.
        """


class FreshNoise(NoiseStream):
    """Noise of each release on its own."""

    def initial_state(self, tensors: Sequence[tf.Tensor]) -> tuple[()]:
        """Returns nothing."""
        return ()

    def next(
        self, state: Any, tensors: Sequence[tf.Tensor], draw: Draw
    ) -> tuple[list[tf.Tensor], Any]:
        """Returns the fresh noise as it is."""
        return [draw(index, 0) for index in range(len(tensors))], state


@dataclasses.dataclass(frozen=True)
class BandedNoise(NoiseStream):
    """Noise of a banded Toeplitz strategy; the state is the last noise, newest first."""

    coefficients: tuple[float, ...]

    def initial_state(self, tensors: Sequence[tf.Tensor]) -> Any:
        """Returns zeros `[bands - 1, ...]` for each tensor."""
        return [_no_models(len(self.coefficients) - 1, tensor) for tensor in tensors]

    def next(
        self, state: Any, tensors: Sequence[tf.Tensor], draw: Draw
    ) -> tuple[list[tf.Tensor], Any]:
        """Returns C^-1 z of this release."""
        noises, after = [], []
        for index, history in enumerate(state):
            earlier = _weighted_sum(self.coefficients[1:], history)
            noise = (draw(index, 0) - earlier) / self.coefficients[0]
            newest = tf.cast(noise, history.dtype)[tf.newaxis]
            kept = len(self.coefficients) - 1
            after.append(tf.concat([newest, history], axis=0)[:kept])
            noises.append(noise)
        return noises, after


@dataclasses.dataclass(frozen=True)
class BufferedNoise(NoiseStream):
    """Noise of a buffered Toeplitz strategy; the state is one model for each buffer."""

    output_weights: tuple[float, ...]
    decays: tuple[float, ...]

    def initial_state(self, tensors: Sequence[tf.Tensor]) -> Any:
        """Returns zeros `[buffers, ...]` for each tensor."""
        return [_no_models(len(self.decays), tensor) for tensor in tensors]

    def next(
        self, state: Any, tensors: Sequence[tf.Tensor], draw: Draw
    ) -> tuple[list[tf.Tensor], Any]:
        """Returns C^-1 z of this release."""
        noises, after = [], []
        for index, buffers in enumerate(state):
            noise = draw(index, 0) - _weighted_sum(self.output_weights, buffers)
            rank = buffers.shape.rank
            decays = tf.reshape(tf.constant(self.decays, buffers.dtype), [-1] + [1] * (rank - 1))
            after.append(decays * buffers + tf.cast(noise, buffers.dtype)[tf.newaxis])
            noises.append(noise)
        return noises, after


class TreeState(NamedTuple):
    """State of a tree: rounds in it (int64), node estimates by level, noise of the prefix."""

    position: Any
    levels: Any
    prefix: Any


@dataclasses.dataclass(frozen=True)
class TreeNoise(NoiseStream):
    """Noise of the prefix sums of a binary tree, as the change from one prefix to the next.

    Attributes:
      restart_every: Rounds of one tree; the next one begins with no node.
    """

    restart_every: int

    @property
    def num_levels(self) -> int:
        """Levels of the complete nodes of a tree."""
        return self.restart_every.bit_length()

    def initial_state(self, tensors: Sequence[tf.Tensor]) -> TreeState:
        """Returns an empty tree for each tensor."""
        return TreeState(
            tf.constant(0, tf.int64),
            [_no_models(self.num_levels, tensor) for tensor in tensors],
            [tf.zeros_like(tensor) for tensor in tensors],
        )

    def next(
        self, state: TreeState, tensors: Sequence[tf.Tensor], draw: Draw
    ) -> tuple[list[tf.Tensor], TreeState]:
        """Returns what the noise of the prefix changes by."""
        position = state.position + 1
        goes_on = position < self.restart_every
        noises, levels, prefixes = [], [], []
        for index, (nodes, before) in enumerate(zip(state.levels, state.prefix, strict=True)):
            nodes = self._with_leaf(nodes, state.position, index, draw)  # noqa: PLW2901
            prefix = tf.reduce_sum(nodes, axis=0)
            noises.append(tf.cast(prefix, tf.float64) - tf.cast(before, tf.float64))
            levels.append(tf.where(goes_on, nodes, 0.0))
            prefixes.append(tf.where(goes_on, prefix, 0.0))
        return noises, TreeState(tf.where(goes_on, position, 0), levels, prefixes)

    def _with_leaf(
        self, nodes: tf.Tensor, position: tf.Tensor, index: int, draw: Draw
    ) -> tf.Tensor:
        """Adds a leaf and all the nodes that it completes, which take their children's place."""

        def is_taken(level: tf.Tensor, node: tf.Tensor) -> tf.Tensor:
            del node
            # Not "==": in the graphs that TFF builds it compares Python objects, not values.
            return tf.equal(tf.bitwise.bitwise_and(tf.bitwise.right_shift(position, level), 1), 1)

        def parent(level: tf.Tensor, node: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # The variance of an estimate of level h is 1 / (2 - 2^-h), which is the weight of the
            # node's own noise beside the sum of its children.
            weight = 1.0 / (2.0 - 2.0 ** -tf.cast(level + 1, tf.float64))
            children = tf.cast(tf.gather(nodes, level), tf.float64) + node
            return level + 1, weight * draw(index, level + 1) + (1.0 - weight) * children

        leaf = draw(index, 0)
        level, node = tf.while_loop(is_taken, parent, (tf.constant(0, tf.int64), leaf))
        places = tf.range(self.num_levels, dtype=tf.int64)
        places = tf.reshape(places, [-1] + [1] * (nodes.shape.rank - 1))
        above = tf.where(places > level, nodes, 0.0)
        is_new = tf.equal(places, level)
        return tf.where(is_new, tf.cast(node, nodes.dtype)[tf.newaxis], above)


def _no_models(number: int, tensor: tf.Tensor) -> tf.Tensor:
    """Zeros for so many tensors of one shape."""
    return tf.zeros([number, *tensor.shape], tensor.dtype)


def _weighted_sum(weights: Sequence[float], stacked: tf.Tensor) -> tf.Tensor:
    """The weighted sum of tensors along the first axis, float64."""
    if not weights:
        return tf.zeros(stacked.shape[1:], tf.float64)
    weighed = tf.tensordot(tf.constant(weights, stacked.dtype), stacked, axes=1)
    return tf.cast(weighed, tf.float64)
