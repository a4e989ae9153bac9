"""Linear regression: each output is linear in the inputs; on lags it is a linear autoregression.

All weights start at zero, so that the first forecast is nothing. The loss is the objective's:
squared error gives least squares, pinball loss linear quantile regression. Both are convex.
"""

import dataclasses
from typing import TYPE_CHECKING

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
    from fl_research.stackable.linear import linear_model

    del config, seed
    if not isinstance(objective, Regression):
        raise InputError(
            "model=linear_regression forecasts numbers, which this task has not; choose "
            "logistic_regression"
        )
    return linear_model("linear_regression", row_types, objective)
