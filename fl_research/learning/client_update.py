"""Local training of the clients of a block, and the TFF computation around it.

Algorithm, for each client of the block: start from the global weights and a fresh client
optimizer, visit the client's rows for some epochs in batches, the last of an epoch partial, each
epoch in an order drawn from the client's own seed. The update is the local weights minus the
global ones. The query preprocesses it (clips it) and adds it to the block's sample state. So one
pass over a block does what a server would do with a message from each client, and what leaves the
block is the sum only.

A client without rows, or whose update is not finite, is left out of the sum: it counts as zero
with weight zero in every part of the query. (Nor is an update finite here whose values' sum
overflows, which takes values of 1e38.)

`client_loop` and `stacked_clients` are two ways to compute this; `execution` chooses.

Paper: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized
Data" (FedAvg).
"""

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fl_research.errors import InputError
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.execution import block_update_function
from fl_research.learning.local_training import LocalTraining

__all__ = [
    "ClientUpdateConfig",
    "LocalTraining",
    "block_update",
    "build_block_update",
    "check_block",
    "client_block_type",
]

# ------------------------------------------------------------------ plain TensorFlow functions


def block_update(
    training: LocalTraining,
    query: tfp.DPQuery,
    weights: tff.learning.models.ModelWeights,
    sample_params: Any,
    block: Mapping[str, Any],
) -> collections.OrderedDict:
    """Trains every client of a block and accumulates their updates in the query.

    Args:
      training: What a client trains and how.
      query: Takes records `OrderedDict(update, weight)`.
      weights: The global weights, as tensors.
      sample_params: What `query.derive_sample_params` gave for this round.
      block: The block, as tensors; it may have no clients.

    Returns:
      `OrderedDict(accumulated, metrics)`: the query's sample state, and sums over the block:
      `loss_sum` float32 and `examples` int64 over the clients that count, `clients` int64 of all,
      `clients_not_finite` and `clients_without_rows` int64 of those left out.

    Raises:
      InputError: The settings ask for an execution that model, optimizer or query do not allow.
    """
    run = block_update_function(training, query)
    return run(training, query, weights, sample_params, block)


# --------------------------------------------------------------------------------- TFF wrapping


def client_block_type(model: tff.learning.models.FunctionalModel) -> tff.StructType:
    """Returns the type of a block of clients whose rows fit the model.

    Raises:
      InputError: If the model's input is not a mapping of named features with a row dimension.
    """
    x, y = model.input_spec
    specs = [*tf.nest.flatten(x), *tf.nest.flatten(y)]
    if not isinstance(x, Mapping) or any(s.shape.rank in (None, 0) or s.shape[0] for s in specs):
        raise InputError(
            f"input_spec={model.input_spec} of the model is not a pair of features by name and "
            "labels, each with a first dimension of any size; build the model with such a one"
        )
    features = collections.OrderedDict((name, x[name]) for name in x)
    return tff.types.to_type(
        collections.OrderedDict(
            features=tff.types.tensorflow_to_type(features),
            labels=tff.types.tensorflow_to_type(y),
            row_splits=tff.TensorType(np.int64, [None]),
            seeds=tff.TensorType(np.int64, [None, 2]),
        )
    )


def check_block(model: tff.learning.models.FunctionalModel, block: Mapping[str, Any]) -> None:
    """Checks that a block of arrays is what the model takes.

    Raises:
      InputError: If its type is another; the message gives both types.
    """
    expected = client_block_type(model)
    found = tff.types.to_type(
        tf.nest.map_structure(
            lambda a: tff.TensorType(np.asarray(a).dtype.type, np.shape(a)), block
        )
    )
    if not expected.is_assignable_from(found):
        raise InputError(
            f"block={found} does not fit the model, which takes {expected}; build the model for "
            "this data's features"
        )


def build_block_update(
    training: LocalTraining, query: tfp.DPQuery, message_type: tff.Type
) -> tff.Computation:
    """Returns `(<<weights=W, sample_params=P>, ClientBlock> -> <accumulated=A, metrics=M>)`."""

    # Chosen here: TFF traces into a graph, where nothing can be tried out.
    run = block_update_function(training, query)

    @tff.tensorflow.computation(message_type, client_block_type(training.model))
    def computation(message: Any, block: Any) -> Any:
        return run(training, query, message["weights"], message["sample_params"], block)

    return computation
