"""Logistic regression: outputs linear in the inputs; the objective says what they are.

With binary labels it is logistic regression, with classes multinomial, with ordered levels the
proportional odds model. All weights start at zero: the problem is convex, so the start decides
nothing but the first steps, and zero gives every class the same probability.
"""

import dataclasses
from typing import TYPE_CHECKING

from fl_research.data.clients import RowTypes
from fl_research.objectives.objective import Objective

if TYPE_CHECKING:
    import tensorflow_federated as tff


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of logistic regression: it has none."""


def build(
    config: Config, *, row_types: RowTypes, objective: Objective, seed: int
) -> "tff.learning.models.FunctionalModel":
    """Returns logistic regression as a functional model.

    Args:
      config: The settings.
      row_types: The features; it reads the float32 feature `inputs`.
      objective: What the outputs mean, and the loss.
      seed: Not used: the weights start at zero.

    Raises:
      InputError: The data has no feature `inputs`.
    """
    # Imported here so that a command line can read `Config` without waiting for TensorFlow.
    from fl_research.stackable.linear import linear_model

    del config, seed
    return linear_model("logistic_regression", row_types, objective)
