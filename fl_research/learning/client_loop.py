"""Trains the clients of a block one after the other, each in a loop over its batches.

It takes every functional model and every optimizer, and it is the faster way for large models:
there the arithmetic of one client fills a core. It is also the way for training that is private
for each example (`example_privacy`).
"""

import collections
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fl_research.errors import InputError
from fl_research.learning import aggregation, example_privacy
from fl_research.learning.local_training import (
    LocalTraining,
    Schedule,
    mean_loss,
    metrics_of,
    record_weight,
    schedule,
)

# Gradients of single examples that are held at once, in float32; more would leave the cache.
_PIECE_BYTES = 8 * 1024 * 1024

TrainClient = Callable[..., tuple[Any, tf.Tensor, tf.Tensor]]
"""A function with the arguments and results of `train_client`."""


def train_client(
    training: LocalTraining,
    weights: tff.learning.models.ModelWeights,
    block: Mapping[str, Any],
    plan: Schedule,
    client: tf.Tensor,
) -> tuple[Any, tf.Tensor, tf.Tensor]:
    """Trains one client of a block.

    Args:
      training: What to train and how; the optimizer's state starts afresh.
      weights: The global weights, as tensors.
      block: The block, as tensors.
      plan: The block's schedule.
      client: int32 scalar, which client of the block.

    Returns:
      The update (local minus global, structure of the trainable weights), the float32 sum of the
      loss over the examples trained on, and the int64 number of these.

    Raises:
      InputError: The settings ask for private examples.
    """
    if training.example_privacy is not None:
        raise InputError(
            f"example_privacy={training.example_privacy!r} would be ignored by plain training; "
            "take the function that execution.block_update_function returns"
        )
    model, batch_size = training.model, training.config.batch_size
    start, count = plan.start[client], plan.count[client]
    batches = plan.batches[client]

    def gradient(number: tf.Tensor, trainable: Any) -> tuple[Any, tuple[tf.Tensor]]:
        epoch, batch = number // batches, number % batches
        first = batch * batch_size
        size = tf.minimum(count - first, batch_size)
        row_of_order = epoch if training.config.shuffle else 0
        rows = tf.slice(plan.order, [row_of_order, start + first], [1, size])[0]
        x, y = _rows_of(block, rows)
        with tf.GradientTape() as tape:
            tape.watch(trainable)
            output = model.predict_on_batch((trainable, weights.non_trainable), x, training=True)
            loss = model.loss(output, y)
        return tape.gradient(loss, trainable), (loss * tf.cast(size, loss.dtype),)

    update, (loss_sum,) = _descend(
        training, weights, plan.steps[client], gradient, (tf.constant(0.0),)
    )
    return update, loss_sum, plan.examples[client]


def train_client_privately(
    training: LocalTraining,
    weights: tff.learning.models.ModelWeights,
    block: Mapping[str, Any],
    plan: Schedule,
    client: tf.Tensor,
    *,
    privacy: example_privacy.ExamplePrivacy,
    example_gradients: example_privacy.ExampleGradients,
) -> tuple[Any, tf.Tensor, tf.Tensor]:
    """Trains one client of a block by DP-SGD; see `example_privacy` and `train_client`.

    Args:
      training: What to train and how.
      weights: The global weights, as tensors.
      block: The block, as tensors.
      plan: The block's schedule; it gives the rows and the number of steps.
      client: int32 scalar, which client of the block.
      privacy: How each example is protected.
      example_gradients: Gives each example's gradient.
    """
    batch_size = training.config.batch_size
    start, count = plan.start[client], plan.count[client]
    expected_size = example_privacy.expected_batch_size(batch_size, count)
    seed = example_privacy.client_seed(privacy.noise_key, block["seeds"][client])
    at_once = _examples_at_once(weights.trainable)
    no_gradient = tf.nest.map_structure(lambda w: tf.zeros(w.shape, tf.float64), weights.trainable)

    def gradient(number: tf.Tensor, trainable: Any) -> tuple[Any, tuple[tf.Tensor, tf.Tensor]]:
        rows = start + example_privacy.taken_rows(seed, number, batch_size, count)
        taken = tf.size(rows, tf.int64)

        def add_piece(first: tf.Tensor, total: Any, loss_sum: tf.Tensor) -> tuple:
            x, y = _rows_of(block, rows[first : first + at_once])
            gradients, losses = example_gradients(
                training.model, (trainable, weights.non_trainable), x, y
            )
            piece = example_privacy.clipped_sum(gradients, privacy.clip_norm)
            total = tf.nest.map_structure(tf.add, total, piece)
            return first + at_once, total, loss_sum + tf.reduce_sum(losses)

        _, total, loss_sum = tf.while_loop(
            lambda first, *_: first < taken,
            add_piece,
            (tf.constant(0, tf.int64), no_gradient, tf.constant(0.0)),
        )
        mean = example_privacy.noised_mean(privacy, seed, number, total, expected_size)
        noised = tf.nest.map_structure(lambda g, w: tf.cast(g, w.dtype), mean, trainable)
        return noised, (loss_sum, taken)

    update, (loss_sum, examples) = _descend(
        training,
        weights,
        plan.steps[client],
        gradient,
        (tf.constant(0.0), tf.constant(0, tf.int64)),
    )
    return update, loss_sum, examples


def _descend(
    training: LocalTraining,
    weights: tff.learning.models.ModelWeights,
    steps: tf.Tensor,
    gradient: Callable[[tf.Tensor, Any], tuple[Any, Any]],
    nothing: Any,
) -> tuple[Any, Any]:
    """Runs the client optimizer for some steps.

    Args:
      training: Has the optimizer.
      weights: The global weights.
      steps: int64 scalar.
      gradient: `(number of the step, trainable) -> (gradient, sums over the step)`.
      nothing: The sums of no step.

    Returns:
      The update, and the sums over all steps.
    """

    def step(
        number: tf.Tensor, trainable: Any, state: Any, sums: Any
    ) -> tuple[tf.Tensor, Any, Any, Any]:
        gradients, of_step = gradient(number, trainable)
        state, trainable = training.optimizer.next(state, trainable, gradients)
        return number + 1, trainable, state, tf.nest.map_structure(tf.add, sums, of_step)

    specs = tf.nest.map_structure(lambda w: tf.TensorSpec(w.shape, w.dtype), weights.trainable)
    state = tf.nest.map_structure(tf.convert_to_tensor, training.optimizer.initialize(specs))
    _, trained, _, sums = tf.while_loop(
        lambda number, *_: number < steps,
        step,
        (tf.constant(0, tf.int64), weights.trainable, state, nothing),
    )
    return tf.nest.map_structure(tf.subtract, trained, weights.trainable), sums


def block_update(
    training: LocalTraining,
    query: tfp.DPQuery,
    weights: tff.learning.models.ModelWeights,
    sample_params: Any,
    block: Mapping[str, Any],
    *,
    train: TrainClient = train_client,
) -> collections.OrderedDict:
    """Trains every client of a block and accumulates the updates; see `client_update`.

    Args:
      training: What a client trains and how.
      query: Takes records `OrderedDict(update, weight)`.
      weights: The global weights, as tensors.
      sample_params: What the query sends to the clients.
      block: The block, as tensors.
      train: Trains one client.
    """
    plan = schedule(training.config, block)

    def add_client(client: tf.Tensor, accumulated: Any, metrics: Any) -> tuple[tf.Tensor, Any, Any]:
        update, loss_sum, examples = train(training, weights, block, plan, client)
        # The schedule's number, also where the batches are drawn: their sizes stay secret.
        planned = plan.examples[client]
        record = collections.OrderedDict(
            update=update,
            weight=record_weight(training.config, planned),
            seed=block["seeds"][client],
            mean_loss=mean_loss(loss_sum, examples),
        )
        preprocessed = query.preprocess_record(sample_params, record)
        # Clipping turns a finite update to NaN where its norm overflows; a query whose clients add
        # noise makes something finite of any update.
        sends_numbers = _all_finite(preprocessed)
        finite = sends_numbers & _all_finite(update)
        has_rows = planned > 0
        # Chosen afterwards: with a conditional every operation of the loop would be scheduled.
        counts = sends_numbers & has_rows
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


def _rows_of(block: Mapping[str, Any], rows: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """Returns the features and labels of these rows of a block."""
    x = tf.nest.map_structure(lambda feature: tf.gather(feature, rows), block["features"])
    return x, tf.gather(block["labels"], rows)


def _examples_at_once(trainable: Any) -> int:
    """Returns how many examples' gradients are held at once."""
    numbers = sum(w.shape.num_elements() for w in tf.nest.flatten(trainable))
    return max(1, _PIECE_BYTES // max(1, 4 * numbers))


def _all_finite(structure: Any) -> tf.Tensor:
    """Returns a bool scalar: whether all floating-point values, and their sums, are finite."""
    floating = [t for t in tf.nest.flatten(structure) if t.dtype.is_floating]
    # A sum is one pass over the memory, and NaN or infinity anywhere in it stays.
    return tf.reduce_all(tf.math.is_finite([tf.reduce_sum(t) for t in floating]))
