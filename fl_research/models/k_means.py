"""k-means: centres that a client moves by the sums and counts of its rows, as one gradient step.

    weights         centres [restarts, segments, features], counts [restarts, segments],
                    inertia [restarts]
    outputs         squared distances to the centres of the best restart, [rows, segments]

The loss is built so that one full-batch step of gradient descent with learning rate 1 changes the
weights by a client's sufficient statistics, each a mean over its n rows, for every restart:

    centres[j]  by  1/n * sum of (x - centres[j]) over the rows nearest to centre j
    counts[j]   by  COUNT_SCALE   * share of rows nearest to centre j
    inertia     by  INERTIA_SCALE * mean squared distance to the nearest centre

So the statistics are an ordinary update: any query clips, sums and noises them, and the server
optimizer `lloyd` turns their mean into new centres, into the counts as shares, and into the inertia
that the centres had before the step. Restarts are k-means from several public starts at once. The
best is that of least inertia, and so it is chosen from what was released, at no further cost.

Relative scales. One row at distance r from its centre has an update of norm
sqrt(r^2 + COUNT_SCALE^2 + INERTIA_SCALE^2 r^4) per restart, which is clipped as a whole: that
bounds the sensitivity whatever the scales are. Sums are taken relative to the centre, so noise on a
count changes a new centre by a share of its move only, which goes to zero as the centres settle;
counts and inertia may therefore be scaled down against the sums, and have more noise.

Papers: Lloyd 1982, "Least squares quantization in PCM"; Blum, Dwork, McSherry and Nissim 2005,
"Practical privacy: the SuLQ framework"; Su et al. 2016, "Differentially Private K-Means
Clustering".
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.argument_checks import require_at_least
from fl_research.data.clients import RowTypes
from fl_research.errors import InputError
from fl_research.objectives.clustering import Clustering
from fl_research.objectives.objective import Objective
from fl_research.objectives.public_centres import public_centres

if TYPE_CHECKING:
    import tensorflow_federated as tff

COUNT_SCALE = 0.5
INERTIA_SCALE = 0.25


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of k-means; the number of segments is the objective's.

    Attributes:
      restarts: From how many public starts, at least 1. With noise each costs: the norm of an
        update grows with their square root.
    """

    restarts: int = 8

    def __post_init__(self) -> None:
        require_at_least("restarts", self.restarts, 1)


def build(
    config: Config, *, row_types: RowTypes, objective: Objective, seed: int
) -> "tff.learning.models.FunctionalModel":
    """Returns k-means as a functional model.

    Args:
      config: The settings.
      row_types: The features; it reads the float32 feature `inputs`.
      objective: A `Clustering`; its public columns give the centres at the start.
      seed: Of these centres.

    Raises:
      InputError: The objective is another, or the data has no feature `inputs`.
    """
    from fl_research.stackable import inputs
    from fl_research.stackable.model import StackableModel

    if not isinstance(objective, Clustering):
        raise InputError(
            f"model=k_means finds segments, and the objective is {type(objective).__name__}; "
            "choose another model, or the task segments"
        )
    inputs.require_feature("k_means", row_types, inputs.INPUTS)
    centres = public_centres(
        objective.columns, segments=objective.segments, restarts=config.restarts, seed=seed
    )
    counts = np.zeros(centres.shape[:2], np.float32)
    return StackableModel(
        initial_weights=((centres, counts, np.zeros(centres.shape[:1], np.float32)), ()),
        predict=predict,
        row_loss=objective.row_loss,
        input_spec=inputs.input_spec(row_types, objective),
    )


def predict(trainable: Any, x: Any) -> Any:
    """Returns squared distances to the centres of the best restart; see the module for gradients.

    Args:
      trainable: `(centres, counts, inertia)`, leading axes of clients allowed.
      x: `inputs`, float32 `[..., rows, features]`.

    Returns:
      float32 `[..., rows, segments]`.
    """
    import tensorflow as tf

    centres, counts, inertia = trainable
    rows = x["inputs"]
    restarts, segments, width = centres.shape[-3:]
    leading = tf.shape(centres)[:-3]
    flat = tf.reshape(centres, tf.concat([leading, [restarts * segments, width]], axis=0))
    # Half of the squared distance, without the part that no centre changes.
    half = tf.reduce_sum(tf.square(flat), axis=-1)[..., tf.newaxis, :] / 2 - tf.matmul(
        rows, flat, transpose_b=True
    )
    by_restart = tf.concat([tf.shape(rows)[:-1], [restarts, segments]], axis=0)
    half = tf.reshape(half, by_restart)
    own = tf.reduce_sum(tf.square(rows), axis=-1)[..., tf.newaxis, tf.newaxis]
    squared = tf.stop_gradient(tf.maximum(own + 2 * half, 0.0))
    nearest = tf.one_hot(tf.argmin(squared, axis=-1), segments)
    # Its gradient is minus the statistics of the row; its value is taken off again.
    statistics = (
        tf.reduce_sum(nearest * half, axis=[-2, -1])
        - COUNT_SCALE * tf.reduce_sum(nearest * counts[..., tf.newaxis, :, :], axis=[-2, -1])
        - INERTIA_SCALE
        * tf.reduce_sum(tf.reduce_min(squared, axis=-1) * inertia[..., tf.newaxis, :], axis=-1)
    )
    best = tf.one_hot(tf.argmin(inertia, axis=-1), restarts)[..., tf.newaxis, :, tf.newaxis]
    # Not a product with 0 and 1: a distance that overflowed would turn all others to NaN.
    distances = tf.reduce_sum(tf.where(best > 0, squared, 0.0), axis=-2)
    return distances + (statistics - tf.stop_gradient(statistics))[..., tf.newaxis]
