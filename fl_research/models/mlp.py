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

    from fl_research.stackable.layers import dense, sigmoid_cross_entropy
    from fl_research.stackable.model import StackableModel

    def predict(trainable: Any, x: Any) -> tf.Tensor:
        *hidden, last = zip(trainable[::2], trainable[1::2], strict=True)
        activation = x["inputs"]
        for kernel, bias in hidden:
            activation = tf.nn.relu(dense(activation, kernel, bias))
        return tf.squeeze(dense(activation, *last), axis=-1)

    return StackableModel(
        initial_weights=(_initial_weights((num_inputs, *config.hidden_sizes), seed), ()),
        predict=predict,
        row_loss=sigmoid_cross_entropy,
        input_spec=(
            collections.OrderedDict(inputs=tf.TensorSpec([None, num_inputs], tf.float32)),
            tf.TensorSpec([None], tf.int32),
        ),
    )
