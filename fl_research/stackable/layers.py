"""Layers that take leading axes of clients: the last axes are as usual, any may stand in front.

See `fl_research.stackable.model` for why.
"""

from collections.abc import Callable

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
    return tf.matmul(inputs, kernel) + tf.expand_dims(bias, -2)


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
    static; a loop in the graph would be slower.

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
    steps, width = inputs.shape[-2:]
    # Time before rows: what one step needs is then one piece of memory.
    inputs = tf.experimental.numpy.swapaxes(inputs, -3, -2)
    shape = tf.shape(inputs)
    flat = tf.reshape(inputs, tf.concat([shape[:-3], [steps * shape[-2], width]], axis=0))
    # A column of ones takes the bias into the product; stretched over all rows it costs twice that.
    flat = tf.concat([flat, tf.ones_like(flat[..., :1])], axis=-1)
    of_reset, of_update, of_new = tf.split(recurrent_bias, 3, axis=-1)
    gates_bias = bias + tf.concat([of_reset, of_update, tf.zeros_like(of_new)], axis=-1)
    kernel = tf.concat([kernel, tf.expand_dims(gates_bias, -2)], axis=-2)
    projected = [tf.matmul(flat, of_gate) for of_gate in tf.split(kernel, 3, axis=-1)]
    by_step = tf.concat([shape[:-1], [recurrent_kernel.shape[-2]]], axis=0)
    return _recurrence(
        *(tf.reshape(of_gate, by_step) for of_gate in projected),
        recurrent_kernel,
        tf.expand_dims(of_new, -2),
    )


@tf.custom_gradient
def _recurrence(
    x_reset: tf.Tensor, x_update: tf.Tensor, x_new: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor
) -> tuple[tf.Tensor, Callable[..., tuple[tf.Tensor, ...]]]:
    """Returns a GRU's last state from its inputs `[..., steps, rows, units]`, and the gradient.

    TensorFlow's gradient would take a small product for the recurrent kernel at each step, where
    one over all steps does, and several times the operations.
    """
    steps = x_reset.shape[-3]
    inputs = zip(
        *(tf.unstack(x, num=steps, axis=-3) for x in (x_reset, x_update, x_new)), strict=True
    )
    state = tf.zeros_like(x_new[..., 0, :, :])
    passed = []
    for reset_input, update_input, new_input in inputs:
        before = state
        to_reset, to_update, to_new = tf.split(tf.matmul(before, kernel), 3, axis=-1)
        reset = tf.sigmoid(reset_input + to_reset)
        update = tf.sigmoid(update_input + to_update)
        to_new += bias
        new = tf.tanh(new_input + reset * to_new)
        change = before - new
        state = new + update * change
        passed.append((before, reset, update, to_new, new, change))

    def gradient(of_state: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns the gradient by each argument."""
        of_inputs, of_products = [], []
        for _, reset, update, to_new, new, change in reversed(passed):
            kept = of_state * update
            of_new = tf.raw_ops.TanhGrad(y=new, dy=of_state - kept)
            of_reset = tf.raw_ops.SigmoidGrad(y=reset, dy=of_new * to_new)
            of_update = tf.raw_ops.SigmoidGrad(y=update, dy=of_state * change)
            of_product = tf.concat([of_reset, of_update, of_new * reset], axis=-1)
            of_state = kept + tf.matmul(of_product, kernel, transpose_b=True)
            of_inputs.append((of_reset, of_update, of_new))
            of_products.append(of_product)
        states = tf.concat([step[0] for step in passed], axis=-2)
        products = tf.concat(of_products[::-1], axis=-2)
        of_bias = tf.reduce_sum(products[..., 2 * kernel.shape[-2] :], axis=-2, keepdims=True)
        return (
            *(tf.stack(of_input[::-1], axis=-3) for of_input in zip(*of_inputs, strict=True)),
            tf.matmul(states, products, transpose_a=True),
            of_bias,
        )

    return state, gradient


def sigmoid_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns each row's cross entropy of a logit and a label 0 or 1, both `[..., rows]`."""
    return tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(labels, logits.dtype), logits)


def softmax_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns each row's cross entropy of logits `[..., rows, classes]` and int labels."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
