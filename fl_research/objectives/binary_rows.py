"""What the rows of a binary classifier contribute to its evaluation; plain TensorFlow.

The predicted probabilities of either label are counted in equal bins, and what must be exact
(losses, squared errors, correct answers) is kept for each row. The area under the ROC curve of each
client comes from the ranks of the client's own rows (the Mann-Whitney statistic; ties count one
half), by sorting the whole block once.

Paper: Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve".
"""

import collections

import tensorflow as tf


def evaluate_rows(logits: tf.Tensor, labels: tf.Tensor) -> collections.OrderedDict:
    """Returns what each row contributes: loss, squared_error and correct, float64[rows].

    Args:
      logits: float[rows].
      labels: [rows], 0 or 1.
    """
    logits, labels = tf.cast(logits, tf.float64), tf.cast(labels, tf.float64)
    predicted = tf.cast(logits >= 0, tf.float64)
    return collections.OrderedDict(
        loss=tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits),
        squared_error=tf.square(tf.sigmoid(logits) - labels),
        correct=tf.cast(tf.equal(predicted, labels), tf.float64),
    )


def probability_counts(logits: tf.Tensor, labels: tf.Tensor, num_bins: int) -> tf.Tensor:
    """Counts predicted probabilities in equal bins of [0, 1], by label.

    Args:
      logits: float[rows]; NaN is not counted.
      labels: [rows], 0 or 1.
      num_bins: Number of bins; probability 1 is in the last one.

    Returns:
      int64[2, num_bins].
    """
    probability = tf.sigmoid(tf.cast(logits, tf.float64))
    is_number = tf.math.is_finite(probability)
    scaled = tf.where(is_number, probability, 0.0) * num_bins
    bin_index = tf.minimum(tf.cast(scaled, tf.int64), num_bins - 1)
    place = tf.cast(labels, tf.int64) * num_bins + bin_index
    # A negative place is dropped by the segment sum.
    place = tf.where(is_number, place, -1)
    counts = tf.math.unsorted_segment_sum(tf.ones_like(place), place, 2 * num_bins)
    return tf.reshape(counts, [2, num_bins])


def client_auc(
    logits: tf.Tensor, labels: tf.Tensor, client: tf.Tensor, num_clients: tf.Tensor
) -> tf.Tensor:
    """Returns the exact area under the ROC curve of each client's own rows.

    Args:
      logits: float[rows].
      labels: [rows], 0 or 1.
      client: int64[rows], ascending: the client of each row.
      num_clients: int64 scalar.

    Returns:
      float64[clients]; NaN for a client with one class only, or with a NaN among its logits.
    """
    by_score = tf.argsort(logits, stable=True)
    order = tf.gather(by_score, tf.argsort(tf.gather(client, by_score), stable=True))
    client, logits = tf.gather(client, order), tf.gather(logits, order)
    positive = tf.cast(tf.gather(labels, order), tf.float64)
    # Rows of one client with one score form a group; each takes the group's middle rank.
    # Not `!=`: in the graph that TFF traces it compares the Python objects, not the values.
    is_new = tf.not_equal(client[1:], client[:-1]) | tf.not_equal(logits[1:], logits[:-1])
    group = tf.cumsum(tf.concat([tf.zeros_like(order[:1]), tf.cast(is_new, tf.int32)], axis=0))
    place = tf.cast(tf.range(tf.size(order)), tf.float64)
    rank = tf.gather(tf.math.segment_mean(place, group), group)

    def total(values: tf.Tensor) -> tf.Tensor:
        return tf.math.unsorted_segment_sum(values, client, num_clients)

    rows, positives = total(tf.ones_like(rank)), total(positive)
    first = tf.cumsum(rows, exclusive=True)
    rank_sum = total(rank * positive) - first * positives
    wins = rank_sum - positives * (positives - 1) / 2
    nan = tf.constant(float("nan"), tf.float64)
    has_nan = total(tf.cast(tf.math.is_nan(logits), tf.float64)) > 0
    pairs = tf.where(has_nan, nan, positives * (rows - positives))
    return tf.where(pairs > 0, wins / pairs, nan)
