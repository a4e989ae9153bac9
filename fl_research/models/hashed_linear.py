"""Linear model of hashed text: each id has a weight for each output.

The outputs are the sum of the weights of a text's ids over the root of their number, plus a bias.
All weights start at zero; the problem is convex for the usual objectives. For classification it is
softmax (or logistic) regression on hashed n-grams, strong where texts are short and few.

Paper: Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning".
"""

import dataclasses
from typing import TYPE_CHECKING, Any

from fl_research.argument_checks import require_at_least
from fl_research.data.clients import RowTypes
from fl_research.data.hashed_text import HashedText
from fl_research.objectives.objective import Objective

if TYPE_CHECKING:
    import tensorflow_federated as tff


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the linear model of hashed text.

    Attributes:
      buckets: Ids that features are hashed into, 2 or more: that of the text's encoding.
    """

    buckets: int = HashedText.buckets

    def __post_init__(self) -> None:
        require_at_least("buckets", self.buckets, 2)


def build(
    config: Config, *, row_types: RowTypes, objective: Objective, seed: int
) -> "tff.learning.models.FunctionalModel":
    """Returns the linear model as a functional model.

    Args:
      config: The settings.
      row_types: The features; it reads the int32 feature `ids` of `data.hashed_text`.
      objective: What the outputs mean, and the loss.
      seed: Not used: the weights start at zero.

    Raises:
      InputError: The data has no feature `ids`.
    """
    # Imported here so that a command line can read `Config` without waiting for TensorFlow.
    import tensorflow as tf

    from fl_research.stackable import inputs
    from fl_research.stackable.head import initial_head
    from fl_research.stackable.id_bags import bag_of_ids
    from fl_research.stackable.model import StackableModel

    del seed
    inputs.require_feature("hashed_linear", row_types, inputs.IDS)

    def predict(trainable: Any, x: Any) -> tf.Tensor:
        table, bias = trainable
        outputs = bag_of_ids(x[inputs.IDS], table) + tf.expand_dims(bias, -2)
        return tf.squeeze(outputs, axis=-1) if objective.num_outputs is None else outputs

    return StackableModel(
        initial_weights=(initial_head(None, config.buckets, objective), ()),
        predict=predict,
        row_loss=objective.row_loss,
        input_spec=inputs.input_spec(row_types, objective),
    )
