"""Gradients of one client's rows that are private for each row: clipped one by one, then noised.

Algorithm, for one step of DP-SGD: every row of the client is taken on its own with the sampling
rate q (Poisson sampling, on which the accounting rests). The gradient of each taken row's own loss
is clipped to an L2 norm over all trainable tensors together; the clipped gradients are summed,
Gaussian noise is added to the sum, and the sum is divided by the expected batch size q * n, a
constant. A gradient that is not finite counts as zero. A step that takes no row adds its noise all
the same.

Which rows are taken and what noise is added are functions of (noise key, the client's seed of the
round, step, tensor): the key is hashed to a root, the root XOR the client's seed draws a seed of
128 bits, and that seed XOR (step, place) starts a stream, where place 0 is the batch and place
i + 1 is tensor i. Without the key neither can be told.

Paper: Abadi et al. 2016, "Deep Learning with Differential Privacy".
"""

import dataclasses
import numbers
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from fl_research.argument_checks import require_not_negative, require_positive
from fl_research.errors import InputError
from fl_research.learning.keyed_values import noise_root, seed_at, standard_normal

_PHILOX = tf.random.Algorithm.PHILOX.value

ExampleGradients = Callable[[tff.learning.models.FunctionalModel, Any, Any, Any], tuple[Any, Any]]
"""`(model, (trainable, non_trainable), x, y) -> (gradients [rows, ...], losses [rows])`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExamplePrivacy:
    """How the local training of a client protects each of its rows.

    Attributes:
      clip_norm: Bound on the L2 norm of one row's gradient, above 0.
      noise_multiplier: Standard deviation of the noise on a step's sum of gradients, divided by
        `clip_norm`; 0 or more, and 0 gives no privacy.
      noise_key: Two whole numbers of 64 bits; secret, and never shown.

    Raises:
      InputError: A value is out of its range.
    """

    clip_norm: float
    noise_multiplier: float
    noise_key: tuple[int, int] = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        require_positive("clip_norm", self.clip_norm)
        require_not_negative("noise_multiplier", self.noise_multiplier)
        words = self.noise_key if isinstance(self.noise_key, (tuple, list)) else ()
        if len(words) != 2 or not all(_is_int64(word) for word in words):
            # The key stays secret, even a wrong one.
            raise InputError("noise_key=<hidden> is not a key; give two whole numbers of 64 bits")

    @property
    def stddev(self) -> float:
        """Standard deviation of the noise on each number of a step's sum."""
        return self.noise_multiplier * self.clip_norm


# ---------------------------------------------------------------------------- random choices


def client_seed(noise_key: tuple[int, int], block_seed: tf.Tensor) -> tf.Tensor:
    """Returns int64[2], the seed of all that one client draws in one round.

    Args:
      noise_key: The secret key.
      block_seed: int64[2], the client's seed of the round; it may be public.
    """
    start = tf.bitwise.bitwise_xor(tf.constant(noise_root(noise_key)), block_seed)
    # Drawn, not only XOR-ed: seeds that differ in low bits only would share streams of steps.
    return tf.random.stateless_uniform(
        [2], seed=start, minval=None, maxval=None, dtype=tf.int64, alg=_PHILOX
    )


def expected_batch_size(batch_size: int, rows: tf.Tensor) -> tf.Tensor:
    """Returns q * n as a float64 scalar: the batch size, or all rows where there are fewer."""
    return tf.cast(tf.minimum(rows, tf.constant(batch_size, rows.dtype)), tf.float64)


def taken_rows(seed: tf.Tensor, step: tf.Tensor, batch_size: int, rows: tf.Tensor) -> tf.Tensor:
    """Returns the rows of one step's batch, each taken on its own with probability q.

    Args:
      seed: int64[2], from `client_seed`.
      step: int64 scalar.
      batch_size: The expected size for clients that have more rows.
      rows: int64 scalar n, the client's rows, at least 1.

    Returns:
      int64[taken], ascending places below n; it may be empty.
    """
    rate = expected_batch_size(batch_size, rows) / tf.cast(rows, tf.float64)
    uniform = tf.random.stateless_uniform(
        [rows], seed=seed_at(seed, step, 0), dtype=tf.float64, alg=_PHILOX
    )
    # Values are below 1, so that a rate of 1 takes every row.
    return tf.where(uniform < rate)[:, 0]


# --------------------------------------------------------------------- gradients of each row


def stacked_gradients(
    model: tff.learning.models.FunctionalModel, weights: Any, x: Any, y: Any
) -> tuple[Any, tf.Tensor]:
    """Returns each row's gradient and loss, for a `StackableModel` that keeps clients apart.

    Each row is a stacked client of one row, with the same weights as all others.

    Args:
      model: The model.
      weights: `(trainable, non_trainable)`, tensors.
      x: Features `[rows, ...]`, at least one row.
      y: Labels `[rows, ...]`.

    Returns:
      Gradients `[rows, *shape]` with the structure of the trainable weights, and `[rows]` losses.
    """
    trainable, non_trainable = weights
    rows = tf.shape(y)[0]
    repeated = tf.nest.map_structure(
        lambda w: tf.broadcast_to(w, tf.concat([[rows], tf.shape(w)], axis=0)), trainable
    )
    shared = tf.nest.map_structure(lambda w: tf.convert_to_tensor(w)[tf.newaxis], non_trainable)
    x, y = tf.nest.map_structure(lambda t: t[:, tf.newaxis], (x, y))
    return _gradients(model, (repeated, shared), x, y)


def mapped_gradients(
    model: tff.learning.models.FunctionalModel, weights: Any, x: Any, y: Any
) -> tuple[Any, tf.Tensor]:
    """Returns each row's gradient and loss for any model; see `stacked_gradients`.

    The model gets each row as a batch of its own, so no row has a part in another's gradient.
    """

    def of_row(row: Any) -> tuple[Any, tf.Tensor]:
        x, y = tf.nest.map_structure(lambda t: t[tf.newaxis], row)
        return _gradients(model, weights, x, y)

    return tf.vectorized_map(of_row, (x, y))


def _gradients(
    model: tff.learning.models.FunctionalModel, weights: Any, x: Any, y: Any
) -> tuple[Any, tf.Tensor]:
    """The gradients, as dense tensors, of the sum of the model's losses, and these losses."""
    with tf.GradientTape() as tape:
        tape.watch(weights[0])
        losses = model.loss(model.predict_on_batch(weights, x, training=True), y)
        total = tf.reduce_sum(losses)
    # A tensor without influence gets noise like the others: its gradient is zero, not absent.
    found = tape.gradient(total, weights[0], unconnected_gradients="zero")
    return tf.nest.map_structure(tf.convert_to_tensor, found), losses


# ------------------------------------------------------------------------- clipping and noise


def clipped_sum(gradients: Any, clip_norm: float) -> Any:
    """Returns the sum over rows of gradients that are clipped one by one.

    In float64, where the square of no finite float32 overflows: a huge gradient is clipped to the
    norm like any other. A row whose gradient holds NaN or infinity counts as zero.

    Args:
      gradients: Tensors `[rows, *shape]`.
      clip_norm: Bound on the L2 norm of one row's gradient, over all tensors together.

    Returns:
      float64 tensors `[*shape]`, with the structure of `gradients`.
    """
    flat = [
        tf.cast(tf.reshape(g, [tf.shape(g)[0], g.shape[1:].num_elements()]), tf.float64)
        for g in tf.nest.flatten(gradients)
    ]
    norm = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(g), axis=1) for g in flat]))
    scale = tf.where(tf.math.is_finite(norm), tf.minimum(clip_norm / norm, 1.0), 0.0)
    sums = [
        # Zero times NaN must be zero here.
        tf.reduce_sum(tf.math.multiply_no_nan(g, scale[:, tf.newaxis]), axis=0)
        for g in flat
    ]
    return tf.nest.map_structure(
        lambda g, total: tf.reshape(total, g.shape[1:]),
        gradients,
        tf.nest.pack_sequence_as(gradients, sums),
    )


def noised_mean(
    privacy: ExamplePrivacy,
    seed: tf.Tensor,
    step: tf.Tensor,
    gradient_sum: Any,
    expected_size: tf.Tensor,
) -> Any:
    """Returns the noised sum of gradients over the expected batch size, float64.

    Args:
      privacy: The settings.
      seed: int64[2], from `client_seed`.
      step: int64 scalar.
      gradient_sum: float64 tensors of static shapes, from `clipped_sum`.
      expected_size: float64 scalar, from `expected_batch_size`.
    """
    leaves = tf.nest.flatten(gradient_sum)
    noised = [
        leaf + privacy.stddev * standard_normal(seed_at(seed, step, place + 1), leaf.shape)
        for place, leaf in enumerate(leaves)
    ]
    return tf.nest.pack_sequence_as(gradient_sum, [leaf / expected_size for leaf in noised])


def _is_int64(word: Any) -> bool:
    """Whether a value is a whole number that fits 64 bits."""
    is_whole = isinstance(word, numbers.Integral) and not isinstance(word, bool)
    return is_whole and -(2**63) <= word < 2**63
