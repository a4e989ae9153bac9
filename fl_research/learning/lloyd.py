"""Lloyd's step as a server optimizer: mean sums and mean counts of k-means into new centres.

For the weights of `models.k_means`, whose mean update has for each centre the mean over rows of
(x - centre) among the rows nearest to it, and the scaled share of these rows:

    centre += learning_rate * sum / share   if at least SMALLEST_SHARE of the rows are nearest

A centre with fewer rows than that keeps its place: with noise a share can be zero or negative, and
dividing by it would throw the centre away. New centres are brought back to [-1, 1], between which
all encoded values lie. The weights `counts` and `inertia` become the shares and the mean squared
distance that the round measured. With learning rate 1, all clients and no noise this is Lloyd's
iteration on all rows together.

Papers: Lloyd 1982, "Least squares quantization in PCM"; Sculley 2010, "Web-scale k-means
clustering" (steps shorter than 1 for sampled rows).
"""

from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from fl_research.argument_checks import require_positive
from fl_research.errors import InputError
from fl_research.models.k_means import COUNT_SCALE, INERTIA_SCALE

SMALLEST_SHARE = 0.001
_PARTS = 3


class Lloyd(tff.learning.optimizers.Optimizer):
    """The optimizer; it has no state."""

    def __init__(self, learning_rate: float) -> None:
        """Creates the optimizer.

        Args:
          learning_rate: In (0, 1]: how far a centre goes to the mean of its rows.

        Raises:
          InputError: It is out of range.
        """
        require_positive("learning_rate", learning_rate)
        if learning_rate > 1:
            raise InputError(
                f"learning_rate={learning_rate!r} goes past the mean of a segment's rows; give "
                "lloyd one in (0, 1], such as --server_learning_rate=1"
            )
        self._learning_rate = learning_rate

    def initialize(self, specs: Any) -> Any:
        """Returns the empty state; checks that the weights are those of k-means."""
        shapes = [tuple(spec.shape) for spec in tf.nest.flatten(specs)]
        ranks = [len(shape) for shape in shapes]
        if len(shapes) != _PARTS or ranks[0] - ranks[1] != 1 or ranks[1] - ranks[2] != 1:
            raise InputError(
                "server_optimizer='lloyd' moves the centres of --model=k_means, and this model has "
                f"weights of shapes {shapes}; take another server optimizer, such as sgd"
            )
        return ()

    def next(self, state: Any, weights: Any, gradients: Any) -> tuple[Any, Any]:
        """Takes one step; returns the empty state and the new weights."""
        centres, _, _ = tf.nest.flatten(weights)
        # The composer turns the sign of the mean update to make it a gradient.
        sums, counts, inertia = (-gradient for gradient in tf.nest.flatten(gradients))
        shares = (counts / COUNT_SCALE)[..., tf.newaxis]
        enough = shares >= SMALLEST_SHARE
        move = sums / tf.where(enough, shares, 1.0)
        moved = tf.where(enough, centres + self._learning_rate * move, centres)
        new = [tf.clip_by_value(moved, -1.0, 1.0), counts / COUNT_SCALE, inertia / INERTIA_SCALE]
        return state, tf.nest.pack_sequence_as(weights, new)
