"""Gated recurrent unit over the steps of a series, then the outputs that the objective asks for.

The steps are read from the oldest to the newest; the last state goes through one dense layer. The
kernel starts from Glorot's uniform distribution, the recurrent kernel orthogonal for each gate,
biases at zero.

Papers: Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder"; Saxe et al.
2014, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks", for
the orthogonal start.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research import randomness
from fl_research.argument_checks import require_at_least
from fl_research.data.clients import RowTypes
from fl_research.errors import InputError
from fl_research.objectives.objective import Objective

if TYPE_CHECKING:
    import tensorflow_federated as tff


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the GRU.

    Attributes:
      units: Size of the state, 1 or more.
    """

    units: int = 16

    def __post_init__(self) -> None:
        require_at_least("units", self.units, 1)


def build(
    config: Config, *, row_types: RowTypes, objective: Objective, seed: int
) -> "tff.learning.models.FunctionalModel":
    """Returns the GRU as a functional model.

    Args:
      config: The settings.
      row_types: The features; it reads the float32 feature `inputs`, [steps, channels].
      objective: What the outputs mean, and the loss.
      seed: Seed of the initial weights; the same seed gives the same weights.

    Raises:
      InputError: The data has no feature `inputs`, or its rows are not steps of channels.
    """
    # Imported here so that a command line can read `Config` without waiting for TensorFlow.
    from fl_research.stackable import inputs
    from fl_research.stackable.head import apply_head, initial_head
    from fl_research.stackable.layers import gru_last_state
    from fl_research.stackable.model import StackableModel

    row_shape = inputs.require_feature("gru", row_types, inputs.INPUTS)
    if len(row_shape) != 2:
        raise InputError(
            f"model=gru needs steps in time, and a row of this data has the shape {row_shape}; "
            "choose mlp"
        )
    generator = randomness.generator(seed, "model_init")
    units, width = config.units, row_shape[1]
    limit = np.sqrt(6.0 / (width + units))
    recurrent = [_orthogonal(generator, units) for _ in range(3)]
    weights = (
        generator.uniform(-limit, limit, [width, 3 * units]).astype(np.float32),
        np.concatenate(recurrent, axis=1).astype(np.float32),
        np.zeros([3 * units], np.float32),
        np.zeros([3 * units], np.float32),
        *initial_head(generator, units, objective),
    )

    def predict(trainable: Any, x: Any) -> Any:
        *recurrence, kernel, bias = trainable
        state = gru_last_state(x[inputs.INPUTS], *recurrence)
        return apply_head(state, kernel, bias, objective)

    return StackableModel(
        initial_weights=(weights, ()),
        predict=predict,
        row_loss=objective.row_loss,
        input_spec=inputs.input_spec(row_types, objective),
    )


def _orthogonal(generator: np.random.Generator, size: int) -> np.ndarray:
    """A random orthogonal matrix, uniform over all of them."""
    q, r = np.linalg.qr(generator.standard_normal([size, size]))
    return q * np.sign(np.diag(r))
