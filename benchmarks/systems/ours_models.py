"""The benchmark's models for this project, as functional models with features by name.

The trainable weights of each are a tuple, in the order of the workload's `initial_weights`. All but
the convolutional network are stackable, so that many clients can be trained at once.
"""

import collections
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from benchmarks.workloads import Workload
from fl_research.stackable.layers import (
    dense,
    embedding_mean,
    gru_last_state,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)
from fl_research.stackable.model import StackableModel, mean_loss

Weights = tuple[tf.Tensor, ...]


def build_model(workload: Workload) -> tff.learning.models.FunctionalModel:
    """Returns the model of a workload, at the workload's initial weights."""
    initial_weights = (tuple(workload.initial_weights.values()), ())
    specs = collections.OrderedDict(
        (name, tf.TensorSpec([None, *values.shape[1:]], values.dtype))
        for name, values in workload.features.items()
    )
    input_spec = (specs, tf.TensorSpec([None], tf.int32))
    if workload.name == "cnn":
        return _cnn_model(initial_weights, input_spec)
    outputs = _OUTPUTS[workload.name]

    def predict(trainable: Weights, x: Any) -> tf.Tensor:
        (features,) = x.values()
        return outputs(trainable, features)

    return StackableModel(
        initial_weights=initial_weights,
        predict=predict,
        row_loss=sigmoid_cross_entropy if workload.name == "telco" else softmax_cross_entropy,
        input_spec=input_spec,
    )


def _cnn_model(initial_weights: Any, input_spec: Any) -> tff.learning.models.FunctionalModel:
    """The convolutional network, for one client at a time."""

    @tf.function
    def predict(model_weights: Any, x: Any, training: bool) -> tf.Tensor:
        del training
        return _cnn(model_weights[0], x["inputs"])

    def loss(output: tf.Tensor, label: tf.Tensor, sample_weight: Any = None) -> tf.Tensor:
        return mean_loss(softmax_cross_entropy(output, label), sample_weight)

    return tff.learning.models.FunctionalModel(
        initial_weights=initial_weights,
        predict_on_batch_fn=predict,
        loss_fn=loss,
        input_spec=input_spec,
    )


def _mlp(weights: Weights, inputs: tf.Tensor) -> tf.Tensor:
    """One hidden layer with relu."""
    hidden = tf.nn.relu(dense(inputs, *weights[:2]))
    return dense(hidden, *weights[2:])


def _text(weights: Weights, tokens: tf.Tensor) -> tf.Tensor:
    """Mean of the embeddings of a text's tokens, then one dense layer."""
    table, *output = weights
    return dense(embedding_mean(tokens, table), *output)


def _gru(weights: Weights, inputs: tf.Tensor) -> tf.Tensor:
    """A GRU whose last state goes through one dense layer."""
    kernel, bias, recurrent_kernel, recurrent_bias, *output = weights
    state = gru_last_state(inputs, kernel, recurrent_kernel, bias, recurrent_bias)
    return dense(state, *output)


def _cnn(weights: Weights, images: tf.Tensor) -> tf.Tensor:
    """Two convolutions with a pool between them, then two dense layers."""
    kernel1, bias1, kernel2, bias2, hidden_kernel, hidden_bias, *output = weights
    first = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(images, kernel1, 1, "VALID"), bias1))
    pooled = tf.nn.max_pool2d(first, 2, 2, "VALID")
    second = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(pooled, kernel2, 1, "VALID"), bias2))
    flat = tf.reshape(second, [-1, hidden_kernel.shape[0]])
    return dense(tf.nn.relu(dense(flat, hidden_kernel, hidden_bias)), *output)


def _logistic_regression(weights: Weights, inputs: tf.Tensor) -> tf.Tensor:
    """One logit."""
    return tf.squeeze(dense(inputs, *weights), axis=-1)


_OUTPUTS: dict[str, Callable[[Weights, tf.Tensor], tf.Tensor]] = {
    "mlp": _mlp,
    "text": _text,
    "gru": _gru,
    "telco": _logistic_regression,
    "skewed": _mlp,
}
