"""Layers that take leading axes of clients: the last axes are as usual, any may stand in front.

See `fl_research.stackable.model` for why.
"""

import tensorflow as tf


def dense(inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Returns `inputs @ kernel + bias`.

    Args:
      inputs: `[..., rows, in]`.
      kernel: `[..., in, out]`.
      bias: `[..., out]`.

    Returns:
      `[..., rows, out]`.
    """
    return tf.matmul(inputs, kernel) + bias[..., tf.newaxis, :]


def embedding_mean(ids: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Returns the mean embedding of each row's ids.

    Args:
      ids: int `[..., rows, length]`, each below the table's size.
      table: `[..., size, width]`.

    Returns:
      `[..., rows, width]`.
    """
    vectors = tf.gather(table, ids, axis=-2, batch_dims=table.shape.rank - 2)
    return tf.reduce_mean(vectors, axis=-2)


def gru_last_state(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    recurrent_bias: tf.Tensor,
) -> tf.Tensor:
    """Returns the last state of a gated recurrent unit that starts at zero, unrolled over time.

    With gates r (reset), z (update) and candidate n along the last axis of the kernels:
    `n = tanh(x W_n + b_n + r * (h U_n + c_n))`, `h' = (1 - z) * n + z * h`. The number of steps is
    static; a loop in the graph would be slower and cannot be compiled.

    Args:
      inputs: `[..., rows, steps, in]`; `steps` and `in` are static.
      kernel: `[..., in, 3 * units]`.
      recurrent_kernel: `[..., units, 3 * units]`; static units.
      bias: `[..., 3 * units]`, b.
      recurrent_bias: `[..., 3 * units]`, c.

    Returns:
      `[..., rows, units]`.

    Paper: Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder"; the reset
    gate acts after the product, as in cuDNN's form of it.
    """
    steps, width, units = inputs.shape[-2], inputs.shape[-1], recurrent_kernel.shape[-2]
    leading = tf.shape(inputs)[:-2]
    flat = tf.reshape(inputs, tf.concat([leading[:-1], [-1, width]], axis=0))
    projected = dense(flat, kernel, bias)
    projected = tf.reshape(projected, tf.concat([leading, [steps, 3 * units]], axis=0))
    state = tf.zeros(tf.concat([leading, [units]], axis=0), inputs.dtype)
    for x in tf.unstack(projected, num=steps, axis=-2):
        h = dense(state, recurrent_kernel, recurrent_bias)
        gates = tf.sigmoid(x[..., : 2 * units] + h[..., : 2 * units])
        candidate = tf.tanh(x[..., 2 * units :] + gates[..., :units] * h[..., 2 * units :])
        state = candidate + gates[..., units:] * (state - candidate)
    return state


def sigmoid_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns each row's cross entropy of a logit and a label 0 or 1, both `[..., rows]`."""
    return tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(labels, logits.dtype), logits)


def softmax_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns each row's cross entropy of logits `[..., rows, classes]` and int labels."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
