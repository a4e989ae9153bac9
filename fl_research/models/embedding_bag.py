"""Embedding bag: embeddings of a text's hashed ids, summed; then dense layers, then the outputs.

The bag is the sum of the embeddings over the root of their number. Embeddings start normal with
variance 1 / width, so that a bag of independent ids has length 1 whatever the text's length. With
hidden layers (ReLU) these start from He's normal distribution, the last layer from Glorot's
uniform one; biases start at zero.

Papers: Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification"; Iyyer et al. 2015,
"Deep Unordered Composition Rivals Syntactic Methods for Text Classification".
"""

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research import randomness
from fl_research.argument_checks import require_at_least
from fl_research.data.clients import RowTypes
from fl_research.data.hashed_text import HashedText
from fl_research.objectives.objective import Objective

if TYPE_CHECKING:
    import tensorflow_federated as tff


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the embedding bag.

    Attributes:
      buckets: Ids that features are hashed into, 2 or more: that of the text's encoding.
      width: Numbers of an embedding, 1 or more.
      hidden_sizes: Units of each hidden layer, from the bag up; none: the outputs are linear in it.
    """

    buckets: int = HashedText.buckets
    width: int = 64
    hidden_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_at_least("buckets", self.buckets, 2)
        require_at_least("width", self.width, 1)
        for size in self.hidden_sizes:
            require_at_least("hidden_sizes", size, 1)


def build(
    config: Config, *, row_types: RowTypes, objective: Objective, seed: int
) -> "tff.learning.models.FunctionalModel":
    """Returns the embedding bag as a functional model.

    Args:
      config: The settings.
      row_types: The features; it reads the int32 feature `ids` of `data.hashed_text`.
      objective: What the outputs mean, and the loss.
      seed: Seed of the initial weights; the same seed gives the same weights.

    Raises:
      InputError: The data has no feature `ids`.
    """
    # Imported here so that a command line can read `Config` without waiting for TensorFlow.
    import tensorflow as tf

    from fl_research.stackable import inputs
    from fl_research.stackable.head import apply_head, initial_head
    from fl_research.stackable.id_bags import bag_of_ids
    from fl_research.stackable.layers import dense
    from fl_research.stackable.model import StackableModel

    inputs.require_feature("embedding_bag", row_types, inputs.IDS)
    generator = randomness.generator(seed, "model_init")
    table = generator.normal(0.0, config.width**-0.5, [config.buckets, config.width])
    weights = [table.astype(np.float32)]
    sizes = (config.width, *config.hidden_sizes)
    for fan_in, fan_out in itertools.pairwise(sizes):
        kernel = generator.normal(0.0, np.sqrt(2.0 / fan_in), [fan_in, fan_out])
        weights += [kernel.astype(np.float32), np.zeros([fan_out], np.float32)]

    def predict(trainable: Any, x: Any) -> tf.Tensor:
        table, *layers = trainable
        *hidden, last = zip(layers[::2], layers[1::2], strict=True)
        activation = bag_of_ids(x[inputs.IDS], table)
        for kernel, bias in hidden:
            activation = tf.nn.relu(dense(activation, kernel, bias))
        return apply_head(activation, *last, objective)

    return StackableModel(
        initial_weights=((*weights, *initial_head(generator, sizes[-1], objective)), ()),
        predict=predict,
        row_loss=objective.row_loss,
        input_spec=inputs.input_spec(row_types, objective),
    )
