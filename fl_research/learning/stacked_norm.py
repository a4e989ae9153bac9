"""Teaches TensorFlow's `vectorized_map` the operation that every clip is made of, `L2Loss`.

Clipping to a norm computes it with `tf.nn.l2_loss`, for which TensorFlow has no vectorised form: it
would go round in a loop, once a client. The registry is not part of TensorFlow's public interface.
"""

from typing import Any

import tensorflow as tf
from tensorflow.python.ops.parallel_for.pfor import RegisterPFor, wrap


@RegisterPFor("L2Loss")
def _convert_l2_loss(pfor_input: Any) -> Any:
    """Half the sum of squares of each element of a stack."""
    stacked = pfor_input.stacked_input(0)
    flat = tf.reshape(stacked, [tf.shape(stacked)[0], -1])
    return wrap(tf.reduce_sum(tf.square(flat), axis=1) / 2, True)
