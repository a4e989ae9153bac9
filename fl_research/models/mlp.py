"""Multi-layer perceptron: dense layers with ReLU, then one logit.

The hidden layers start from He's normal distribution, variance 2 / fan-in, which keeps the scale
of the activations through ReLU layers; the last layer from Glorot's uniform distribution; biases
start at zero.

Papers: He et al. 2015, "Delving Deep into Rectifiers"; Glorot and Bengio 2010, "Understanding
the difficulty of training deep feedforward neural networks".
"""

import collections
import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research import randomness
from fl_research.errors import InputError

if TYPE_CHECKING:
    import tensorflow_federated as tff


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the MLP.

    Attributes:
      hidden_sizes: Units of each hidden layer, from the input up; at least one layer.
    """

    hidden_sizes: tuple[int, ...] = (64,)

    def __post_init__(self) -> None:
        """Refuses a network without hidden layers or with empty ones."""
        if not self.hidden_sizes or any(size < 1 for size in self.hidden_sizes):
            raise InputError(
                f"hidden_sizes={self.hidden_sizes!r} is not one or more positive layer sizes; give "
                "such sizes, or for no hidden layer choose the model logistic_regression"
            )


def _initial_weights(sizes: tuple[int, ...], seed: int) -> tuple[np.ndarray, ...]:
    """Draws (kernel, bias) of every layer, flat, for layers of `sizes` and one output."""
    generator = randomness.generator(seed, "model_init")
    weights: list[np.ndarray] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        kernel = generator.normal(0.0, np.sqrt(2.0 / fan_in), [fan_in, fan_out])
        weights += [kernel.astype(np.float32), np.zeros([fan_out], np.float32)]
    limit = np.sqrt(6.0 / (sizes[-1] + 1))
    kernel = generator.uniform(-limit, limit, [sizes[-1], 1])
    return (*weights, kernel.astype(np.float32), np.zeros([1], np.float32))


def build(config: Config, *, num_inputs: int, seed: int) -> "tff.learning.models.FunctionalModel":
    """Returns the MLP as a functional model.

    Args:
      config: The settings.
      num_inputs: Number of input features, at least 1.
      seed: Seed of the initial weights; the same seed gives the same weights.

    Returns:
      A model from `OrderedDict(inputs=float32[rows, num_inputs])` to logits `float32[rows]`; its
      labels are `int32[rows]` and its loss is the mean sigmoid cross entropy.
    """
    # Imported here so that a command line can read `Config` without waiting for TensorFlow.
    import tensorflow as tf
    import tensorflow_federated as tff

    @tf.function
    def predict(model_weights: Any, x: Any, training: bool) -> tf.Tensor:
        del training
        weights, _ = model_weights
        *hidden, (kernel, bias) = zip(weights[::2], weights[1::2], strict=True)
        activation = x["inputs"]
        for hidden_kernel, hidden_bias in hidden:
            activation = tf.nn.relu(tf.matmul(activation, hidden_kernel) + hidden_bias)
        return tf.squeeze(tf.matmul(activation, kernel) + bias, axis=-1)

    def loss(output: tf.Tensor, label: tf.Tensor, sample_weight: Any = None) -> tf.Tensor:
        del sample_weight
        labels = tf.cast(label, output.dtype)
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=output))

    return tff.learning.models.FunctionalModel(
        initial_weights=(_initial_weights((num_inputs, *config.hidden_sizes), seed), ()),
        predict_on_batch_fn=predict,
        loss_fn=loss,
        input_spec=(
            collections.OrderedDict(inputs=tf.TensorSpec([None, num_inputs], tf.float32)),
            tf.TensorSpec([None], tf.int32),
        ),
    )
