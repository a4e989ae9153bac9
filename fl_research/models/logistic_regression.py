"""Logistic regression: one logit, linear in the inputs.

All weights start at zero. The problem is convex, so the start decides nothing but the first
steps, and zero gives every row the probability 1/2.
"""

import collections
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow_federated as tff


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of logistic regression: it has none."""


def build(config: Config, *, num_inputs: int, seed: int) -> "tff.learning.models.FunctionalModel":
    """Returns logistic regression as a functional model.

    Args:
      config: The settings.
      num_inputs: Number of input features, at least 1.
      seed: Not used: the weights start at zero.

    Returns:
      A model from `OrderedDict(inputs=float32[rows, num_inputs])` to logits `float32[rows]`; its
      labels are `int32[rows]` and its loss is the mean sigmoid cross entropy.
    """
    # Imported here so that a command line can read `Config` without waiting for TensorFlow.
    import tensorflow as tf

    from fl_research.stackable.layers import sigmoid_cross_entropy
    from fl_research.stackable.model import StackableModel

    del config, seed

    def predict(trainable: Any, x: Any) -> tf.Tensor:
        kernel, bias = trainable
        return tf.linalg.matvec(x["inputs"], kernel) + bias[..., tf.newaxis]

    return StackableModel(
        initial_weights=((np.zeros([num_inputs], np.float32), np.zeros([], np.float32)), ()),
        predict=predict,
        row_loss=sigmoid_cross_entropy,
        input_spec=(
            collections.OrderedDict(inputs=tf.TensorSpec([None, num_inputs], tf.float32)),
            tf.TensorSpec([None], tf.int32),
        ),
    )
