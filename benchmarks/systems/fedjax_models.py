"""The workloads' losses in JAX: from weights by canonical name and a batch to its mean loss.

Each formula is the one of several that JAX compiled to the fastest code on two cores. In cnn the
convolutions are one matrix product over shifted copies of the image, which XLA runs in half the
time of its own convolution on a processor, and the max pool is a maximum over a reshaped array,
whose gradient is cheap, unlike that of `reduce_window`. In gru the loop over the steps is
`jax.lax.scan`; unrolled it takes longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

Weights = Mapping[str, jax.Array]
Batch = Mapping[str, jax.Array]


def _softmax_loss(logits: jax.Array, batch: Batch) -> jax.Array:
    """Returns the mean softmax cross entropy."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
    return losses.mean()


def _output(hidden: jax.Array, weights: Weights) -> jax.Array:
    """Returns the logits of the last dense layer."""
    return hidden @ weights["output_kernel"] + weights["output_bias"]


def mlp_loss(weights: Weights, batch: Batch) -> jax.Array:
    """Loss of the workloads mlp and skewed."""
    hidden = jax.nn.relu(batch["inputs"] @ weights["hidden_kernel"] + weights["hidden_bias"])
    return _softmax_loss(_output(hidden, weights), batch)


def text_loss(weights: Weights, batch: Batch) -> jax.Array:
    """Loss of the workload text."""
    hidden = weights["embedding"][batch["tokens"]].mean(axis=1)
    return _softmax_loss(_output(hidden, weights), batch)


def gru_loss(weights: Weights, batch: Batch) -> jax.Array:
    """Loss of the workload gru."""
    from_inputs = batch["inputs"] @ weights["input_kernel"] + weights["input_bias"]

    def step(state: jax.Array, from_input: jax.Array) -> tuple[jax.Array, None]:
        """Takes a step of the GRU for all rows of the batch."""
        from_state = state @ weights["recurrent_kernel"] + weights["recurrent_bias"]
        input_r, input_z, input_n = jnp.split(from_input, 3, axis=1)
        state_r, state_z, state_n = jnp.split(from_state, 3, axis=1)
        reset = jax.nn.sigmoid(input_r + state_r)
        keep = jax.nn.sigmoid(input_z + state_z)
        candidate = jnp.tanh(input_n + reset * state_n)
        return (1 - keep) * candidate + keep * state, None

    rows, units = from_inputs.shape[0], weights["recurrent_kernel"].shape[0]
    start = jnp.zeros((rows, units), from_inputs.dtype)
    state, _ = jax.lax.scan(step, start, from_inputs.swapaxes(0, 1))
    return _softmax_loss(_output(state, weights), batch)


def _convolved(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves images [rows, height, width, in] without padding, as one matrix product."""
    high, wide, _, channels = kernel.shape
    height, width = images.shape[1] - high + 1, images.shape[2] - wide + 1
    shifted = [
        images[:, row : row + height, column : column + width]
        for row in range(high)
        for column in range(wide)
    ]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, channels)


def _max_pooled(images: jax.Array) -> jax.Array:
    """Takes the maximum of each square of 2 by 2 points."""
    rows, height, width, channels = images.shape
    squares = images.reshape(rows, height // 2, 2, width // 2, 2, channels)
    return squares.max(axis=(2, 4))


def cnn_loss(weights: Weights, batch: Batch) -> jax.Array:
    """Loss of the workload cnn."""
    first = _convolved(batch["inputs"], weights["conv1_kernel"]) + weights["conv1_bias"]
    pooled = _max_pooled(jax.nn.relu(first))
    second = _convolved(pooled, weights["conv2_kernel"]) + weights["conv2_bias"]
    flat = jax.nn.relu(second).reshape(len(second), -1)
    hidden = jax.nn.relu(flat @ weights["hidden_kernel"] + weights["hidden_bias"])
    return _softmax_loss(_output(hidden, weights), batch)


def telco_loss(weights: Weights, batch: Batch) -> jax.Array:
    """Loss of the workload telco."""
    logits = _output(batch["inputs"], weights)[:, 0]
    return optax.sigmoid_binary_cross_entropy(logits, batch["labels"].astype(jnp.float32)).mean()


LOSSES: Mapping[str, Callable[[Weights, Batch], jax.Array]] = {
    "mlp": mlp_loss,
    "skewed": mlp_loss,
    "text": text_loss,
    "gru": gru_loss,
    "cnn": cnn_loss,
    "telco": telco_loss,
}
