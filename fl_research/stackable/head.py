"""The last layer of a model: as many outputs as the objective asks for.

With `objective.shared_score` the outputs are one score plus a bias for each, else each output has
weights of its own. With `objective.num_outputs=None` the axis of outputs is left out.
"""

import numpy as np
import tensorflow as tf

from fl_research.objectives.objective import Objective


def initial_head(
    generator: np.random.Generator | None, width: int, objective: Objective
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (kernel float32[width, scores], bias float32[outputs]).

    Args:
      generator: Draws Glorot's uniform distribution (Glorot and Bengio 2010); None: zeros.
      width: Numbers that the layer takes, at least 1.
      objective: Says how many outputs there are.
    """
    outputs = objective.num_outputs or 1
    scores = 1 if objective.shared_score else outputs
    bias = np.zeros([outputs], np.float32)
    if generator is None:
        return np.zeros([width, scores], np.float32), bias
    limit = np.sqrt(6.0 / (width + scores))
    return generator.uniform(-limit, limit, [width, scores]).astype(np.float32), bias


def apply_head(
    activation: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, objective: Objective
) -> tf.Tensor:
    """Returns the outputs `[..., rows, outputs]`, or `[..., rows]` for one without an axis.

    Args:
      activation: `[..., rows, width]`.
      kernel: `[..., width, scores]`.
      bias: `[..., outputs]`.
      objective: As for `initial_head`.
    """
    outputs = tf.matmul(activation, kernel) + tf.expand_dims(bias, -2)
    return tf.squeeze(outputs, axis=-1) if objective.num_outputs is None else outputs
