"""Multi-layer perceptron: dense layers with ReLU, then the outputs that the objective asks for.

The hidden layers start from He's normal distribution, variance 2 / fan-in, which keeps the scale
of the activations through ReLU layers; the last layer from Glorot's uniform distribution; biases
start at zero.

Papers: He et al. 2015, "Delving Deep into Rectifiers"; Glorot and Bengio 2010, "Understanding
the difficulty of training deep feedforward neural networks".
"""

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research import randomness
from fl_research.data.clients import RowTypes
from fl_research.errors import InputError
from fl_research.objectives.objective import Objective

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


def build(
    config: Config, *, row_types: RowTypes, objective: Objective, seed: int
) -> "tff.learning.models.FunctionalModel":
    """Returns the MLP as a functional model.

    Args:
      config: The settings.
      row_types: The features; it reads the float32 feature `inputs`.
      objective: What the outputs mean, and the loss.
      seed: Seed of the initial weights; the same seed gives the same weights.

    Raises:
      InputError: The data has no feature `inputs`.
    """
    # Imported here so that a command line can read `Config` without waiting for TensorFlow.
    import tensorflow as tf

    from fl_research.stackable import inputs
    from fl_research.stackable.head import apply_head, initial_head
    from fl_research.stackable.layers import dense
    from fl_research.stackable.model import StackableModel

    row_shape = inputs.require_feature("mlp", row_types, inputs.INPUTS)
    generator = randomness.generator(seed, "model_init")
    sizes = (int(np.prod(row_shape)), *config.hidden_sizes)
    weights: list[np.ndarray] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        kernel = generator.normal(0.0, np.sqrt(2.0 / fan_in), [fan_in, fan_out])
        weights += [kernel.astype(np.float32), np.zeros([fan_out], np.float32)]

    def predict(trainable: Any, x: Any) -> tf.Tensor:
        *hidden, last = zip(trainable[::2], trainable[1::2], strict=True)
        activation = inputs.flat_inputs(x, row_shape)
        for kernel, bias in hidden:
            activation = tf.nn.relu(dense(activation, kernel, bias))
        return apply_head(activation, *last, objective)

    return StackableModel(
        initial_weights=((*weights, *initial_head(generator, sizes[-1], objective)), ()),
        predict=predict,
        row_loss=objective.row_loss,
        input_spec=inputs.input_spec(row_types, objective),
    )
