"""Linear regression: each output is linear in the inputs; on lags it is a linear autoregression.

All weights start at zero, so that the first forecast is nothing. The loss is the objective's:
squared error gives least squares, pinball loss linear quantile regression. Both are convex.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.data.clients import RowTypes
from fl_research.errors import InputError
from fl_research.objectives.objective import Objective
from fl_research.objectives.regression import Regression

if TYPE_CHECKING:
    import tensorflow_federated as tff


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of linear regression: it has none."""


def build(
    config: Config, *, row_types: RowTypes, objective: Objective, seed: int
) -> "tff.learning.models.FunctionalModel":
    """Returns linear regression as a functional model.

    Args:
      config: The settings.
      row_types: The features; it reads the float32 feature `inputs`, steps and channels as one.
      objective: A regression.
      seed: Not used: the weights start at zero.

    Raises:
      InputError: The data has no feature `inputs`, or the objective is no regression.
    """
    # Imported here so that a command line can read `Config` without waiting for TensorFlow.
    from fl_research.stackable import inputs
    from fl_research.stackable.head import apply_head, initial_head
    from fl_research.stackable.model import StackableModel

    del config, seed
    if not isinstance(objective, Regression):
        raise InputError(
            "model=linear_regression forecasts numbers, which this task has not; choose "
            "logistic_regression"
        )
    row_shape = inputs.require_feature("linear_regression", row_types, inputs.INPUTS)

    def predict(trainable: Any, x: Any) -> Any:
        kernel, bias = trainable
        return apply_head(inputs.flat_inputs(x, row_shape), kernel, bias, objective)

    return StackableModel(
        initial_weights=(initial_head(None, int(np.prod(row_shape)), objective), ()),
        predict=predict,
        row_loss=objective.row_loss,
        input_spec=inputs.input_spec(row_types, objective),
    )
