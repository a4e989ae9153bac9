"""Local training of each client of a block, and the TFF computation around it.

Algorithm, for each client of the block in turn: start from the global weights and a fresh client
optimizer, visit the client's rows for some epochs in batches, the last of an epoch partial, each
epoch in an order drawn from the client's own seed. The update is the local weights minus the
global ones. The query preprocesses it (clips it) and adds it to the block's sample state. So one
pass over a block does what a server would do with a message from each client, and what leaves the
block is the sum only.

A client without rows, or whose update is not finite, is left out of the sum: it counts as zero
with weight zero in every part of the query.

Paper: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized
Data" (FedAvg).
"""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fl_research.errors import InputError
from fl_research.learning import aggregation
from fl_research.learning.client_update_config import ClientUpdateConfig

# ------------------------------------------------------------------ plain TensorFlow functions


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """What a client trains and how: the model, the client optimizer and the settings."""

    model: tff.learning.models.FunctionalModel
    optimizer: tff.learning.optimizers.Optimizer
    config: ClientUpdateConfig


def _visiting_order(config: ClientUpdateConfig, count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Returns rows epoch by epoch, int64 `[local_epochs * count]`; one epoch if not shuffled."""
    if not config.shuffle:
        return tf.range(count)
    shape = tf.stack([tf.constant(config.local_epochs, tf.int64), count])
    keys = tf.random.stateless_uniform(shape, seed=seed, alg="philox")
    # Sorting random keys: TensorFlow's random_index_shuffle is biased for clients of few rows.
    order = tf.argsort(keys, axis=1)
    return tf.cast(tf.reshape(order, [-1]), tf.int64)


def train_client(
    training: LocalTraining,
    weights: tff.learning.models.ModelWeights,
    block: Mapping[str, Any],
    client: tf.Tensor,
) -> tuple[Any, tf.Tensor, tf.Tensor]:
    """Trains one client of a block.

    Args:
      training: What to train and how; the optimizer's state starts afresh.
      weights: The global weights, as tensors.
      block: The block, as tensors.
      client: int32 scalar, which client of the block.

    Returns:
      The update (local minus global, structure of the trainable weights), the float32 sum of the
      loss over the examples trained on, and their int64 number, repeats counted.
    """
    model, optimizer, config = training.model, training.optimizer, training.config
    start, stop = block["row_splits"][client], block["row_splits"][client + 1]
    count = stop - start
    order = start + _visiting_order(config, count, block["seeds"][client])
    batches = -(-count // config.batch_size)
    steps = batches * config.local_epochs
    if config.local_steps is not None:
        steps = tf.minimum(steps, tf.constant(config.local_steps, tf.int64))

    def step(
        number: tf.Tensor, trainable: Any, state: Any, loss_sum: tf.Tensor
    ) -> tuple[tf.Tensor, Any, Any, tf.Tensor]:
        epoch, batch = number // batches, number % batches
        first = batch * config.batch_size
        size = tf.minimum(count - first, config.batch_size)
        rows = tf.slice(order, [first + (epoch * count if config.shuffle else 0)], [size])
        x = tf.nest.map_structure(lambda feature: tf.gather(feature, rows), block["features"])
        y = tf.gather(block["labels"], rows)
        with tf.GradientTape() as tape:
            tape.watch(trainable)
            output = model.predict_on_batch((trainable, weights.non_trainable), x, training=True)
            loss = model.loss(output, y)
        gradients = tape.gradient(loss, trainable)
        state, trainable = optimizer.next(state, trainable, gradients)
        return number + 1, trainable, state, loss_sum + loss * tf.cast(size, loss.dtype)

    specs = tf.nest.map_structure(lambda w: tf.TensorSpec(w.shape, w.dtype), weights.trainable)
    optimizer_state = tf.nest.map_structure(tf.convert_to_tensor, optimizer.initialize(specs))
    _, trained, _, loss_sum = tf.while_loop(
        lambda number, *_: number < steps,
        step,
        (tf.constant(0, tf.int64), weights.trainable, optimizer_state, tf.constant(0.0)),
    )
    update = tf.nest.map_structure(tf.subtract, trained, weights.trainable)
    # Only the last batch of an epoch is smaller, so the batches of a begun epoch are full.
    whole_epochs, rest = steps // tf.maximum(batches, 1), steps % tf.maximum(batches, 1)
    return update, loss_sum, whole_epochs * count + rest * config.batch_size


def _all_finite(structure: Any) -> tf.Tensor:
    """Returns a bool scalar: whether every floating-point value is finite."""
    floating = [t for t in tf.nest.flatten(structure) if t.dtype.is_floating]
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(t)) for t in floating])


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
    """
    one, none = tf.constant(1, tf.int64), tf.constant(0, tf.int64)

    def add_client(client: tf.Tensor, accumulated: Any, metrics: Any) -> tuple[tf.Tensor, Any, Any]:
        update, loss_sum, examples = train_client(training, weights, block, client)
        weight = tf.cast(examples if training.config.weighting == "examples" else 1, tf.float32)
        record = collections.OrderedDict(update=update, weight=weight)
        preprocessed = query.preprocess_record(sample_params, record)
        # Clipping turns a finite update to NaN where its norm overflows; both must be finite.
        finite = _all_finite((update, preprocessed))
        has_rows = examples > 0
        accumulated = tf.cond(
            finite & has_rows,
            lambda: query.accumulate_preprocessed_record(accumulated, preprocessed),
            lambda: accumulated,
        )
        in_loss = finite & tf.math.is_finite(loss_sum)
        one_client = collections.OrderedDict(
            loss_sum=tf.where(in_loss, loss_sum, 0.0),
            examples=tf.where(in_loss, examples, none),
            clients=one,
            clients_not_finite=tf.where(finite, none, one),
            clients_without_rows=tf.where(has_rows, none, one),
        )
        return client + 1, accumulated, tf.nest.map_structure(tf.add, metrics, one_client)

    num_clients = tf.shape(block["row_splits"])[0] - 1
    zero = aggregation.empty_sample_state(query, aggregation.record_template(weights))
    no_metrics = collections.OrderedDict(
        loss_sum=tf.constant(0.0),
        examples=none,
        clients=none,
        clients_not_finite=none,
        clients_without_rows=none,
    )
    _, accumulated, metrics = tf.while_loop(
        lambda client, *_: client < num_clients,
        add_client,
        (tf.constant(0), zero, no_metrics),
    )
    return collections.OrderedDict(accumulated=accumulated, metrics=metrics)


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

    @tff.tensorflow.computation(message_type, client_block_type(training.model))
    def computation(message: Any, block: Any) -> Any:
        return block_update(training, query, message["weights"], message["sample_params"], block)

    return computation
