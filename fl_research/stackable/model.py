"""Functional models that compute many clients' own weights and batches in one call.

A model written rank-polymorphically, with the last axes as usual and any axes in front of them,
takes the stacked weights of many clients at once: `tf.matmul` on `[clients, rows, in]` and
`[clients, in, out]` is one operation where a loop over clients needs as many as there are clients.
`fl_research.stackable.layers` has layers of this kind.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import tensorflow as tf
import tensorflow_federated as tff


class StackableModel(tff.learning.models.FunctionalModel):
    """A functional model whose weights, inputs and labels may have leading axes of clients.

    `predict_on_batch` takes weights `[clients..., *shape]` and inputs `[clients..., rows, ...]`,
    and `loss` gives one mean `[clients...]` from outputs `[clients..., rows, ...]`. Without leading
    axes it is an ordinary functional model.

    Attributes:
      mixes_rows: Whether the loss of one row depends on other rows of its batch, so that a row
        alone does not tell its part in the gradient.
    """

    mixes_rows: ClassVar[bool] = False

    def __init__(
        self,
        *,
        initial_weights: Any,
        predict: Callable[[Any, Any], tf.Tensor],
        row_loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        input_spec: Any,
    ) -> None:
        """Initializes the model.

        Args:
          initial_weights: `(trainable, non_trainable)`, NumPy arrays without leading axes.
          predict: `(trainable, x) -> output`, leading axes allowed.
          row_loss: `(output, label) -> float32[clients..., rows]`, the loss of each row.
          input_spec: `(x, y)` as TFF's functional models have it, without leading axes.
        """

        @tf.function
        def predict_on_batch(model_weights: Any, x: Any, training: bool) -> tf.Tensor:
            del training
            return predict(model_weights[0], x)

        def loss(output: tf.Tensor, label: tf.Tensor, sample_weight: Any = None) -> tf.Tensor:
            return mean_loss(row_loss(output, label), sample_weight)

        super().__init__(
            initial_weights=initial_weights,
            predict_on_batch_fn=predict_on_batch,
            loss_fn=loss,
            input_spec=input_spec,
        )


def mean_loss(row_losses: tf.Tensor, sample_weight: tf.Tensor | None) -> tf.Tensor:
    """Returns the mean over the rows, the last axis.

    Args:
      row_losses: `float32[..., rows]`.
      sample_weight: `float32[..., rows]`, at least 0, or None for equal weights. Rows of weight 0
        do not count at all; where all have weight 0 the mean is 0.
    """
    if sample_weight is None:
        return tf.reduce_mean(row_losses, axis=-1)
    return tf.math.divide_no_nan(
        tf.reduce_sum(row_losses * sample_weight, axis=-1), tf.reduce_sum(sample_weight, axis=-1)
    )
