"""The order in which each client of a block visits its rows, for the whole block at once.

Every row gets a key from (its client's seed, epoch, place within the client) and the rows of a
client are sorted by key. No other client has a part in it, so the order does not depend on how the
cohort was cut into blocks. The keys are the stream of SplitMix64 that starts at the client's seed:
integer arithmetic that runs over all rows in a few operations, where a random generator of
TensorFlow would be called once a client. TensorFlow's own `random_index_shuffle` is biased for
clients of few rows.

Source: Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number Generators".
"""

import tensorflow as tf

_KEY_BITS = 40  # of 63: the rest holds the client's place in the block
_GAMMA = 0x9E3779B97F4A7C15


def visiting_order(
    row_splits: tf.Tensor, seeds: tf.Tensor, *, epochs: int, shuffle: bool
) -> tf.Tensor:
    """Returns row numbers of the block, epoch by epoch, each client's rows in its own order.

    Two given rows of a client get equal keys with probability 2**-40 and then keep their order;
    that is all that an order is away from uniform by the key's length.

    Args:
      row_splits: `int64[clients + 1]`.
      seeds: `int64[clients, 2]`.
      epochs: How many orders, at least 1; one is enough without shuffling.
      shuffle: Whether to draw the orders; otherwise rows keep theirs.

    Returns:
      `int64[epochs or 1, rows]`: place p of client k's range `row_splits[k]:row_splits[k + 1]`
      holds the p-th row that the client visits in that epoch.
    """
    rows = tf.range(row_splits[-1])
    if not shuffle:
        return rows[tf.newaxis]
    counts = row_splits[1:] - row_splits[:-1]
    client = tf.repeat(tf.range(tf.size(counts, tf.int64)), counts)
    place = tf.cast(rows - tf.gather(row_splits, client), tf.uint64)
    seeds = tf.bitcast(seeds, tf.uint64)
    numbers = tf.range(1, epochs + 1, dtype=tf.int64)[:, tf.newaxis]
    start = _mixed(_mixed(_mixed(seeds[:, 0]) + seeds[:, 1]) + tf.cast(numbers, tf.uint64))
    keys = _mixed(tf.gather(start, client, axis=1) + place * tf.constant(_GAMMA, tf.uint64))
    keys = tf.cast(tf.bitwise.right_shift(keys, tf.constant(64 - _KEY_BITS, tf.uint64)), tf.int64)
    order = tf.argsort(tf.bitwise.left_shift(client, tf.constant(_KEY_BITS, tf.int64)) + keys)
    return tf.cast(order, tf.int64)


def _mixed(x: tf.Tensor) -> tf.Tensor:
    """Returns SplitMix64's output function of uint64 values."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(shift, tf.uint64)))
        x = x * tf.constant(factor, tf.uint64)
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(31, tf.uint64)))
