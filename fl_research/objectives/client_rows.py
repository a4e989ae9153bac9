"""Which rows of a block belong to which client, for metrics of each client."""

from __future__ import annotations

import tensorflow as tf


class ClientRows:
    """The rows of a block's clients.

    Attributes:
      examples: int64[clients], how many rows each client has.
      client: int64[rows], ascending: the client of each row.
      number: int64 scalar, how many clients there are.
    """

    def __init__(self, row_splits: tf.Tensor) -> None:
        """Takes `int64[clients + 1]`, as blocks have them."""
        self.examples = row_splits[1:] - row_splits[:-1]
        self.number = tf.size(self.examples, tf.int64)
        self.client = tf.repeat(tf.range(self.number), self.examples)

    def total(self, values: tf.Tensor) -> tf.Tensor:
        """Returns the sum over each client's rows of values `[rows, ...]`."""
        return tf.math.unsorted_segment_sum(values, self.client, self.number)

    def mean(self, values: tf.Tensor) -> tf.Tensor:
        """Returns the mean over each client's rows of float64[rows]; NaN for one without rows."""
        # 0 / 0 is NaN, as it should be.
        return self.total(values) / tf.cast(self.examples, tf.float64)
