"""A model whose outputs are linear in the feature `inputs`, all weights zero at the start."""

from typing import Any

import numpy as np
import tensorflow as tf

from fl_research.data.clients import RowTypes
from fl_research.objectives.objective import Objective
from fl_research.stackable import inputs
from fl_research.stackable.head import apply_head, initial_head
from fl_research.stackable.model import StackableModel


def linear_model(name: str, row_types: RowTypes, objective: Objective) -> StackableModel:
    """Returns the model.

    Args:
      name: That of the family, for messages.
      row_types: The features; it reads the float32 feature `inputs`, all axes of a row as one.
      objective: What the outputs mean, and the loss.

    Raises:
      InputError: The data has no feature `inputs`.
    """
    row_shape = inputs.require_feature(name, row_types, inputs.INPUTS)

    def predict(trainable: Any, x: Any) -> tf.Tensor:
        kernel, bias = trainable
        return apply_head(inputs.flat_inputs(x, row_shape), kernel, bias, objective)

    return StackableModel(
        initial_weights=(initial_head(None, int(np.prod(row_shape)), objective), ()),
        predict=predict,
        row_loss=objective.row_loss,
        input_spec=inputs.input_spec(row_types, objective),
    )
