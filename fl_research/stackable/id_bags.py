"""The sum of the embeddings of a row's ids over the root of their number, leading axes allowed.

Ids are 1 and up, in any order; 0 is no id. The root (not the number itself) keeps the length of
the sum alike for short and long rows where embeddings are independent.
"""

import tensorflow as tf


def bag_of_ids(ids: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Returns each row's `sum(table[id - 1] over ids) / sqrt(number of ids)`.

    Args:
      ids: int32 `[..., rows, length]`, 0 (nothing) to the table's size.
      table: `[..., size, width]`.

    Returns:
      `[..., rows, width]`; zeros for a row without ids.
    """
    is_id = tf.cast(ids > 0, table.dtype)
    number = tf.reduce_sum(is_id, axis=-1, keepdims=True)
    weight = is_id * tf.math.rsqrt(tf.maximum(number, 1.0))
    vectors = tf.gather(table, tf.maximum(ids - 1, 0), axis=-2, batch_dims=table.shape.rank - 2)
    # One small product a row leaves the padding out without a pass of its own over the vectors.
    return tf.squeeze(tf.matmul(weight[..., tf.newaxis, :], vectors), axis=-2)
