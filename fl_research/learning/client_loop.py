"""Trains the clients of a block one after the other, each in a loop over its batches.

It takes every functional model and every optimizer, and it is the faster way for large models:
there the arithmetic of one client fills a core.
"""

import collections
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fl_research.learning import aggregation
from fl_research.learning.local_training import (
    LocalTraining,
    Schedule,
    metrics_of,
    record_weight,
    schedule,
)


def train_client(
    training: LocalTraining,
    weights: tff.learning.models.ModelWeights,
    block: Mapping[str, Any],
    plan: Schedule,
    client: tf.Tensor,
) -> tuple[Any, tf.Tensor]:
    """Trains one client of a block.

    Args:
      training: What to train and how; the optimizer's state starts afresh.
      weights: The global weights, as tensors.
      block: The block, as tensors.
      plan: The block's schedule.
      client: int32 scalar, which client of the block.

    Returns:
      The update (local minus global, structure of the trainable weights), and the float32 sum of
      the loss over the examples trained on.
    """
    model, optimizer, batch_size = training.model, training.optimizer, training.config.batch_size
    start, count = plan.start[client], plan.count[client]
    batches, steps = plan.batches[client], plan.steps[client]

    def step(
        number: tf.Tensor, trainable: Any, state: Any, loss_sum: tf.Tensor
    ) -> tuple[tf.Tensor, Any, Any, tf.Tensor]:
        epoch, batch = number // batches, number % batches
        first = batch * batch_size
        size = tf.minimum(count - first, batch_size)
        row_of_order = epoch if training.config.shuffle else 0
        rows = tf.slice(plan.order, [row_of_order, start + first], [1, size])[0]
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
    return tf.nest.map_structure(tf.subtract, trained, weights.trainable), loss_sum


def block_update(
    training: LocalTraining,
    query: tfp.DPQuery,
    weights: tff.learning.models.ModelWeights,
    sample_params: Any,
    block: Mapping[str, Any],
) -> collections.OrderedDict:
    """Trains every client of a block and accumulates the updates; see `client_update`."""
    plan = schedule(training.config, block)

    def add_client(client: tf.Tensor, accumulated: Any, metrics: Any) -> tuple[tf.Tensor, Any, Any]:
        update, loss_sum = train_client(training, weights, block, plan, client)
        examples = plan.examples[client]
        record = collections.OrderedDict(
            update=update, weight=record_weight(training.config, examples)
        )
        preprocessed = query.preprocess_record(sample_params, record)
        # Clipping turns a finite update to NaN where its norm overflows; both must be finite.
        finite = _all_finite((update, preprocessed))
        has_rows = examples > 0
        # Chosen afterwards: with a conditional every operation of the loop would be scheduled.
        counts = finite & has_rows
        accumulated = tf.nest.map_structure(
            # Not tf.where: stretching one flag over a large tensor costs more than the choice.
            lambda after, before: tf.raw_ops.Select(condition=counts, x=after, y=before),
            query.accumulate_preprocessed_record(accumulated, preprocessed),
            accumulated,
        )
        one_client = metrics_of(loss_sum, examples, finite, has_rows)
        return client + 1, accumulated, tf.nest.map_structure(tf.add, metrics, one_client)

    num_clients = tf.size(plan.count)
    nobody = metrics_of(tf.zeros([0]), tf.zeros([0], tf.int64), *[tf.zeros([0], tf.bool)] * 2)
    _, accumulated, metrics = tf.while_loop(
        lambda client, *_: client < num_clients,
        add_client,
        (
            tf.constant(0),
            aggregation.empty_sample_state(query, aggregation.record_template(weights)),
            tf.nest.map_structure(tf.reduce_sum, nobody),
        ),
    )
    return collections.OrderedDict(accumulated=accumulated, metrics=metrics)


def _all_finite(structure: Any) -> tf.Tensor:
    """Returns a bool scalar: whether all floating-point values, and their sums, are finite."""
    floating = [t for t in tf.nest.flatten(structure) if t.dtype.is_floating]
    # A sum is one pass over the memory, and NaN or infinity anywhere in it stays.
    return tf.reduce_all(tf.math.is_finite([tf.reduce_sum(t) for t in floating]))
