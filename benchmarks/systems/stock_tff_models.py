"""The benchmark's models for stock TFF: functional models of TensorFlow's own operations.

The trainable weights of each are a tuple, in the order of the workload's `initial_weights`.
"""

import collections
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from benchmarks.workloads import Workload

Weights = tuple[tf.Tensor, ...]


def build_model(workload: Workload) -> tff.learning.models.FunctionalModel:
    """Returns the model of a workload, at the workload's initial weights."""
    outputs = _OUTPUTS[workload.name]

    @tf.function
    def predict(model_weights: Any, x: Any, training: bool) -> tf.Tensor:
        del training
        (features,) = x.values()
        return outputs(model_weights[0], features)

    specs = collections.OrderedDict(
        (name, tf.TensorSpec([None, *values.shape[1:]], values.dtype))
        for name, values in workload.features.items()
    )
    return tff.learning.models.FunctionalModel(
        initial_weights=(tuple(workload.initial_weights.values()), ()),
        predict_on_batch_fn=predict,
        loss_fn=_sigmoid_loss if workload.name == "telco" else _softmax_loss,
        input_spec=(specs, tf.TensorSpec([None], tf.int32)),
    )


def _softmax_loss(output: tf.Tensor, label: tf.Tensor, sample_weight: Any = None) -> tf.Tensor:
    """Mean softmax cross entropy of logits `[rows, classes]`."""
    del sample_weight
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label, logits=output)
    )


def _sigmoid_loss(output: tf.Tensor, label: tf.Tensor, sample_weight: Any = None) -> tf.Tensor:
    """Mean sigmoid cross entropy of one logit a row, `[rows, 1]`."""
    del sample_weight
    labels = tf.cast(label, output.dtype)[:, tf.newaxis]
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=output))


def _mlp(weights: Weights, inputs: tf.Tensor) -> tf.Tensor:
    """One hidden layer with relu."""
    hidden_kernel, hidden_bias, output_kernel, output_bias = weights
    hidden = tf.nn.relu(tf.nn.bias_add(inputs @ hidden_kernel, hidden_bias))
    return tf.nn.bias_add(hidden @ output_kernel, output_bias)


def _text(weights: Weights, tokens: tf.Tensor) -> tf.Tensor:
    """Mean of the embeddings of a text's tokens, then one dense layer."""
    embedding, output_kernel, output_bias = weights
    mean = tf.reduce_mean(tf.nn.embedding_lookup(embedding, tokens), axis=1)
    return tf.nn.bias_add(mean @ output_kernel, output_bias)


def _gru(weights: Weights, inputs: tf.Tensor) -> tf.Tensor:
    """A GRU whose last state goes through one dense layer.

    TFF cannot convert a GRU of Keras. Unrolled over the steps it is faster than `tf.while_loop`.
    """
    input_kernel, input_bias, recurrent_kernel, recurrent_bias, output_kernel, output_bias = weights
    projected = tf.nn.bias_add(tf.tensordot(inputs, input_kernel, axes=1), input_bias)
    state = tf.zeros([tf.shape(inputs)[0], recurrent_kernel.shape[0]])
    for step in tf.unstack(projected, axis=1):
        from_state = tf.nn.bias_add(state @ recurrent_kernel, recurrent_bias)
        reset_input, update_input, new_input = tf.split(step, 3, axis=1)
        reset_state, update_state, new_state = tf.split(from_state, 3, axis=1)
        reset = tf.sigmoid(reset_input + reset_state)
        update = tf.sigmoid(update_input + update_state)
        new = tf.tanh(new_input + reset * new_state)
        state = new + update * (state - new)
    return tf.nn.bias_add(state @ output_kernel, output_bias)


def _cnn(weights: Weights, images: tf.Tensor) -> tf.Tensor:
    """Two convolutions with a pool between them, then two dense layers."""
    kernel1, bias1, kernel2, bias2, hidden_kernel, hidden_bias, output_kernel, output_bias = weights
    first = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(images, kernel1, 1, "VALID"), bias1))
    pooled = tf.nn.max_pool2d(first, 2, 2, "VALID")
    second = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(pooled, kernel2, 1, "VALID"), bias2))
    flat = tf.reshape(second, [-1, hidden_kernel.shape[0]])
    hidden = tf.nn.relu(tf.nn.bias_add(flat @ hidden_kernel, hidden_bias))
    return tf.nn.bias_add(hidden @ output_kernel, output_bias)


def _logistic_regression(weights: Weights, inputs: tf.Tensor) -> tf.Tensor:
    """One logit."""
    output_kernel, output_bias = weights
    return tf.nn.bias_add(inputs @ output_kernel, output_bias)


_OUTPUTS: dict[str, Callable[[Weights, tf.Tensor], tf.Tensor]] = {
    "mlp": _mlp,
    "text": _text,
    "gru": _gru,
    "cnn": _cnn,
    "telco": _logistic_regression,
    "skewed": _mlp,
}
