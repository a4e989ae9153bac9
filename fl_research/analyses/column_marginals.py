"""The marginal distribution of each column of a table, as a federated sum over clients.

Each block counts the rows with each value of a category, and for a number the rows that are nearest
to each of 256 evenly spaced points from -1 to 1 (the range of every input, by the schema's bounds);
the counts are added at the server. Nothing else leaves a block.
"""

import collections
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fl_research.data.blocks import cut_into_blocks
from fl_research.data.clients import Clients
from fl_research.data.input_columns import InputColumn

NUM_POINTS = 256


class Marginal:
    """The distribution of one column's inputs.

    Args:
      column: The column.
      counts: Rows with each value and, last, without any; for a number rows nearest to each point.
        At least one row.
    """

    def __init__(self, column: InputColumn, counts: np.ndarray) -> None:
        self.column = column
        self.counts = counts
        if column.values is None:
            self._inputs = np.linspace(-1, 1, NUM_POINTS)[:, np.newaxis]
        else:
            width = len(column.values)
            self._inputs = np.eye(width + 1, width)

    def draw(self, rows: int, generator: np.random.Generator) -> np.ndarray:
        """Returns inputs of independent draws, float32[rows, inputs of the column].

        A number is one of the points, at most 1/255 away from one that was counted.
        """
        shares = self.counts / self.counts.sum()
        return self._inputs[generator.choice(len(shares), rows, p=shares)].astype(np.float32)


def column_counts(
    inputs: tf.Tensor, columns: Sequence[InputColumn]
) -> collections.OrderedDict[str, tf.Tensor]:
    """Returns the counts of each column, int64, by its name, as `Marginal` has them.

    Args:
      inputs: float32[rows, inputs].
      columns: Which inputs belong together.
    """
    result = collections.OrderedDict()
    rows = tf.shape(inputs, out_type=tf.int64)[0]
    for column in columns:
        if column.values is None:
            place = tf.round((inputs[:, column.start] + 1) * ((NUM_POINTS - 1) / 2))
            place = tf.cast(tf.clip_by_value(place, 0, NUM_POINTS - 1), tf.int32)
            ones = tf.ones_like(place, tf.int64)
            result[column.name] = tf.math.unsorted_segment_sum(ones, place, NUM_POINTS)
        else:
            # As integers: a sum of ones in float32 stops at 2**24.
            ones = tf.cast(inputs[:, column.start : column.stop] > 0.5, tf.int64)
            counts = tf.reduce_sum(ones, axis=0)
            none = rows - tf.reduce_sum(counts, keepdims=True)
            result[column.name] = tf.concat([counts, none], axis=0)
    return result


def build_marginals(columns: Sequence[InputColumn], num_inputs: int) -> tff.Computation:
    """Returns `({float32[?, num_inputs]}@CLIENTS -> <int64[...], ...>@SERVER)`, summed counts.

    Args:
      columns: Which inputs belong together.
      num_inputs: Inputs of a row.
    """
    rows_type = tff.TensorType(np.float32, [None, num_inputs])

    @tff.tensorflow.computation(rows_type)
    def of_block(inputs: tf.Tensor) -> list[tf.Tensor]:
        return list(column_counts(inputs, columns).values())

    @tff.federated_computation(tff.FederatedType(rows_type, tff.CLIENTS))
    def of_all(inputs: tff.Value) -> tff.Value:
        return tff.federated_sum(tff.federated_map(of_block, inputs))

    return of_all


def marginals(
    clients: Clients, columns: Sequence[InputColumn], *, num_blocks: int
) -> dict[str, Marginal]:
    """Returns the marginal of each column over all rows of the clients, by its name.

    Args:
      clients: With the feature `inputs`.
      columns: Which inputs belong together.
      num_blocks: Blocks that clients are cut into.
    """
    blocks = cut_into_blocks(
        clients, np.arange(clients.num_clients), num_blocks=num_blocks, seed=0, round_number=0
    )
    inputs = [np.asarray(block["features"]["inputs"]) for block in blocks]
    counts = build_marginals(columns, inputs[0].shape[1])(inputs)
    return {
        column.name: Marginal(column, np.asarray(of_column))
        for column, of_column in zip(columns, counts, strict=True)
    }
