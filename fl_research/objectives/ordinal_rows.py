"""What the outputs of an ordinal model say of each row; plain TensorFlow.

Outputs `o_1, ..., o_{K-1}` become log-odds `t_k` of "level k or higher" that fall with k whatever
the outputs are: their mean is the mean of the outputs, and from one to the next they fall by
`softplus(o_k - o_{k+1})`. Every falling sequence of log-odds comes from exactly one of outputs, so
nothing is lost, and no constraint is needed in training. The probability of level k is then

    P(k) = sigmoid(t_k) - sigmoid(t_{k+1}) = sigmoid(t_k) sigmoid(-t_{k+1}) sigmoid(o_k - o_{k+1})

where the last form, without `t_0` and `t_K` at the ends, has a logarithm that neither overflows nor
cancels.

Paper: McCullagh 1980, "Regression Models for Ordinal Data".
"""

import tensorflow as tf


def cumulative_log_odds(outputs: tf.Tensor) -> tf.Tensor:
    """Returns the log-odds of "level k or higher" for k = 1, ..., K-1, falling along the last axis.

    Args:
      outputs: `[..., rows, K-1]`.
    """
    falls = tf.nn.softplus(outputs[..., :-1] - outputs[..., 1:])
    below = tf.concat([tf.zeros_like(outputs[..., :1]), -tf.cumsum(falls, axis=-1)], axis=-1)
    middle = tf.reduce_mean(outputs, axis=-1, keepdims=True)
    return below - tf.reduce_mean(below, axis=-1, keepdims=True) + middle


def log_probabilities(outputs: tf.Tensor) -> tf.Tensor:
    """Returns the log-probability of each level, `[..., rows, K]`, finite for finite outputs.

    Args:
      outputs: `[..., rows, K-1]`.
    """
    log_odds = cumulative_log_odds(outputs)
    certain = tf.zeros_like(outputs[..., :1])
    reached = tf.concat([certain, tf.math.log_sigmoid(log_odds)], axis=-1)
    not_passed = tf.concat([tf.math.log_sigmoid(-log_odds), certain], axis=-1)
    between = tf.math.log_sigmoid(outputs[..., :-1] - outputs[..., 1:])
    return reached + not_passed + tf.concat([certain, between, certain], axis=-1)


def row_loss(outputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns minus the log-probability of each row's level, `[..., rows]`, in nats.

    Args:
      outputs: `[..., rows, K-1]`.
      labels: `[..., rows]`, levels from 0 to K-1.
    """
    log_probability = log_probabilities(outputs)
    chosen = tf.one_hot(labels, outputs.shape[-1] + 1, dtype=outputs.dtype)
    return -tf.reduce_sum(chosen * log_probability, axis=-1)


def median_level(outputs: tf.Tensor) -> tf.Tensor:
    """Returns the highest level that is reached with probability 1/2 or more, int32[..., rows]."""
    return tf.reduce_sum(tf.cast(cumulative_log_odds(outputs) >= 0, tf.int32), axis=-1)


def confusion(true: tf.Tensor, predicted: tf.Tensor, num_levels: int) -> tf.Tensor:
    """Returns how many rows of each true level (first axis) are predicted as which, int64[K, K]."""
    place = tf.cast(true, tf.int64) * num_levels + tf.cast(predicted, tf.int64)
    counts = tf.math.unsorted_segment_sum(tf.ones_like(place), place, num_levels**2)
    return tf.reshape(counts, [num_levels, num_levels])
