"""Trains many clients of a block at once, with the weights of all stacked along a first axis.

One step of gradient descent for all clients is a handful of operations, where a loop over clients
pays the cost of starting each operation once a client. Clients are sorted by their number of steps,
most first, so that those still at work are always the first of the stack; whoever is done is taken
off it, and hardly any arithmetic is spent on the finished. The last batch of an epoch is filled up
with rows of weight zero.

It takes a `StackableModel`, an optimizer that treats each number on its own, and a query whose
records add up; `execution` checks all three.
"""

import collections
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fl_research.learning import aggregation, stacked_norm  # noqa: F401  registers on import
from fl_research.learning.local_training import (
    OF_A_CLIENT,
    LocalTraining,
    Schedule,
    mean_loss,
    metrics_of,
    record_weight,
    schedule,
)

# TensorFlow computes the end of an array that fills no whole vector in another way, with another
# last bit. With batches of whole vectors a client's update does not depend by a bit on who else is
# stacked (under optimizers of exact operations, unlike Adagrad's inverse root), so those who are
# done stay in the stack until a whole vector of them is.
_VECTOR_FLOATS = 8


class _Stack(NamedTuple):
    """What changes while a stack trains: local weights, optimizer state, sum of the loss."""

    trainable: Any
    state: Any
    loss_sum: tf.Tensor


class _Batch(NamedTuple):
    """One batch of each client: `[clients, batch_size, ...]`, weight zero where there is no row."""

    x: Any
    y: Any
    sample_weight: tf.Tensor


def block_update(
    training: LocalTraining,
    query: tfp.DPQuery,
    weights: tff.learning.models.ModelWeights,
    sample_params: Any,
    block: Mapping[str, Any],
    *,
    clients_at_once: int,
) -> collections.OrderedDict:
    """Trains the clients of a block in stacks and accumulates the updates; see `client_update`.

    Args:
      training: What a client trains and how.
      query: Its records add up.
      weights: The global weights, as tensors.
      sample_params: What the query sends to the clients.
      block: The block, as tensors.
      clients_at_once: Largest stack, at least 1; bounds the memory.
    """
    plan = schedule(training.config, block)
    by_steps = tf.argsort(plan.steps, direction="DESCENDING", stable=True)

    def add_stack(first: tf.Tensor, accumulated: Any, metrics: Any) -> tuple[tf.Tensor, Any, Any]:
        members = by_steps[first : first + clients_at_once]
        of_members = plan._replace(
            **{name: tf.gather(getattr(plan, name), members) for name in OF_A_CLIENT}
        )
        # Back in the order of the block, so that the sums are those of a loop over the clients, and
        # filled up with clients that do not count, for whole vectors.
        size = tf.size(members)
        missing = -size % _VECTOR_FLOATS
        in_order = tf.pad(tf.argsort(members), [[0, missing]])
        is_member = tf.range(size + missing) < size
        seeds = tf.gather(block["seeds"], members)
        update, loss_sum, examples, seeds = tf.nest.map_structure(
            lambda leaf: tf.gather(leaf, in_order),
            (*_train_stack(training, weights, block, of_members), of_members.examples, seeds),
        )
        counts = is_member & (examples > 0)
        record = collections.OrderedDict(
            update=update,
            weight=record_weight(training.config, examples),
            seed=seeds,
            mean_loss=mean_loss(loss_sum, examples),
        )
        accumulated, finite = _accumulate(query, sample_params, accumulated, record, counts)
        of_stack = metrics_of(loss_sum, examples, finite, counts)
        segment = tf.where(is_member, 0, -1)
        metrics = tf.nest.map_structure(
            lambda total, leaf: total + _sum_in_order(leaf, segment), metrics, of_stack
        )
        return first + clients_at_once, accumulated, metrics

    num_clients = tf.size(plan.count)
    nobody = metrics_of(tf.zeros([0]), tf.zeros([0], tf.int64), *[tf.zeros([0], tf.bool)] * 2)
    _, accumulated, metrics = tf.while_loop(
        lambda first, *_: first < num_clients,
        add_stack,
        (
            tf.constant(0),
            aggregation.empty_sample_state(query, aggregation.record_template(weights)),
            tf.nest.map_structure(tf.reduce_sum, nobody),
        ),
    )
    return collections.OrderedDict(accumulated=accumulated, metrics=metrics)


def _train_stack(
    training: LocalTraining, weights: Any, block: Mapping[str, Any], plan: Schedule
) -> tuple[Any, tf.Tensor]:
    """Trains the clients of a schedule, which are sorted by steps; returns updates and losses."""
    size = tf.size(plan.steps)
    held = _whole_vectors(size, training)
    plan = plan._replace(**{name: _fill_up(getattr(plan, name), held) for name in OF_A_CLIENT})
    state, is_stacked = _optimizer_state(training.optimizer, weights.trainable, held)

    def first_of(stack: _Stack, number: tf.Tensor) -> _Stack:
        """The first clients of a stack, so many; what the clients share stays."""
        state = tf.nest.map_structure(
            lambda leaf, stacked: leaf[:number] if stacked else leaf, stack.state, is_stacked
        )
        rest = tf.nest.map_structure(lambda leaf: leaf[:number], stack._replace(state=()))
        return rest._replace(state=state)

    def train_until_next_is_done(
        number: tf.Tensor, active: tf.Tensor, stack: _Stack, done: Any
    ) -> tuple[tf.Tensor, tf.Tensor, _Stack, Any]:
        until = plan.steps[active - 1]
        held = _whole_vectors(active, training)
        active_plan = plan._replace(**{name: getattr(plan, name)[:held] for name in OF_A_CLIENT})

        def step(number: tf.Tensor, stack: _Stack) -> tuple[tf.Tensor, _Stack]:
            batch = _batch(training, block, active_plan, number)
            return number + 1, _descend(training, weights.non_trainable, stack, batch)

        number, stack = tf.while_loop(
            lambda number, _: number < until,
            step,
            (number, stack),
            shape_invariants=(number.shape, _any_first_dimension(stack, is_stacked)),
        )
        remaining = tf.reduce_sum(tf.cast(plan.steps[:active] > until, tf.int32))
        finished = (stack.trainable, stack.loss_sum)
        done = tf.nest.map_structure(
            lambda leaf, before: tf.concat([leaf[remaining:active], before], axis=0), finished, done
        )
        return number, remaining, first_of(stack, _whole_vectors(remaining, training)), done

    stack = _Stack(_repeated(weights.trainable, held), state, tf.zeros([held]))
    nothing = tf.nest.map_structure(lambda leaf: leaf[:0], (stack.trainable, stack.loss_sum))
    any_size = tf.nest.map_structure(
        lambda leaf: tf.TensorShape([None, *leaf.shape[1:]]), (stack.trainable, stack.loss_sum)
    )
    *_, (trained, loss_sum) = tf.while_loop(
        lambda number, active, *_: active > 0,
        train_until_next_is_done,
        (tf.constant(0, tf.int64), size, stack, nothing),
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape([]),
            _any_first_dimension(stack, is_stacked),
            any_size,
        ),
    )
    return tf.nest.map_structure(lambda new, old: new - old, trained, weights.trainable), loss_sum


def _batch(
    training: LocalTraining, block: Mapping[str, Any], plan: Schedule, number: tf.Tensor
) -> _Batch:
    """Gathers batch `number` of each client of a schedule."""
    batches = tf.maximum(plan.batches, 1)
    epoch, batch = number // batches, number % batches
    first = batch * training.config.batch_size
    offsets = tf.range(training.config.batch_size, dtype=tf.int64)
    left = tf.minimum(plan.count - first, training.config.batch_size)[:, tf.newaxis]
    valid = offsets < left
    # Filled up with the batch's own last row: zero times someone else's NaN would still be NaN.
    place = (plan.start + first)[:, tf.newaxis] + tf.minimum(offsets, left - 1)
    epochs, rows_of_block = tf.unstack(tf.shape(plan.order, tf.int64))
    # Only a finished client, whose step is thrown away, is out of range.
    place = tf.clip_by_value(place, 0, rows_of_block - 1)
    epoch = tf.minimum(epoch, epochs - 1)
    if training.config.shuffle and training.config.local_epochs > 1:
        place += (epoch * rows_of_block)[:, tf.newaxis]
    rows = tf.gather(tf.reshape(plan.order, [-1]), place)
    return _Batch(
        x=tf.nest.map_structure(lambda feature: tf.gather(feature, rows), block["features"]),
        y=tf.gather(block["labels"], rows),
        sample_weight=tf.cast(valid, tf.float32),
    )


def _whole_vectors(clients: tf.Tensor, training: LocalTraining) -> tf.Tensor:
    """Returns the number of clients, filled up until their batches are whole vectors."""
    unit = _VECTOR_FLOATS // math.gcd(training.config.batch_size, _VECTOR_FLOATS)
    return -(-clients // unit) * unit


def _descend(training: LocalTraining, non_trainable: Any, stack: _Stack, batch: _Batch) -> _Stack:
    """One step of the client optimizer for every client of a stack."""
    model = training.model
    shared = tf.nest.map_structure(lambda w: tf.convert_to_tensor(w)[tf.newaxis], non_trainable)
    with tf.GradientTape() as tape:
        tape.watch(stack.trainable)
        output = model.predict_on_batch((stack.trainable, shared), batch.x, training=True)
        losses = model.loss(output, batch.y, batch.sample_weight)
        total = tf.reduce_sum(losses)
    gradients = tape.gradient(total, stack.trainable)
    state, trainable = training.optimizer.next(stack.state, stack.trainable, gradients)
    rows = tf.reduce_sum(batch.sample_weight, axis=1)
    return _Stack(trainable, state, stack.loss_sum + losses * rows)


def _accumulate(
    query: tfp.DPQuery, sample_params: Any, accumulated: Any, records: Any, counts: tf.Tensor
) -> tuple[Any, tf.Tensor]:
    """Adds the records of those clients that count to the sample state; says who is finite."""
    preprocessed = tf.vectorized_map(
        lambda record: query.preprocess_record(sample_params, record), records
    )
    sends_numbers = _finite_clients(preprocessed)
    finite = sends_numbers & _finite_clients(records["update"])
    segment = tf.where(sends_numbers & counts, 0, -1)
    summed = tf.nest.map_structure(lambda leaf: _sum_in_order(leaf, segment), preprocessed)
    return query.accumulate_preprocessed_record(accumulated, summed), finite


def _sum_in_order(of_clients: tf.Tensor, segment: tf.Tensor) -> tf.Tensor:
    """Sums over the clients whose segment is 0, one after the other; the others change no bit."""
    return tf.math.unsorted_segment_sum(of_clients, segment, 1)[0]


def _finite_clients(structure: Any) -> tf.Tensor:
    """Returns `bool[clients]`: of whom all values, and each tensor's sum, are finite."""
    floating = [t for t in tf.nest.flatten(structure) if t.dtype.is_floating]
    finite = [
        tf.math.is_finite(tf.reduce_sum(t, axis=list(range(1, t.shape.rank)))) for t in floating
    ]
    return tf.reduce_all(tf.stack(finite), axis=0)


def _optimizer_state(
    optimizer: tff.learning.optimizers.Optimizer, trainable: Any, size: Any
) -> tuple[Any, Any]:
    """Returns a fresh state for a stack, and which of its leaves have the clients' axis."""

    def of_stack(clients: int) -> Any:
        """The state of a stack of so many."""
        specs = tf.nest.map_structure(
            lambda w: tf.TensorSpec([clients, *w.shape], w.dtype), trainable
        )
        return tf.nest.map_structure(tf.convert_to_tensor, optimizer.initialize(specs))

    one, two = of_stack(1), of_stack(2)
    is_stacked = tf.nest.map_structure(lambda a, b: a.shape != b.shape, one, two)
    state = tf.nest.map_structure(
        lambda leaf, stacked: tf.repeat(leaf, size, axis=0) if stacked else leaf, one, is_stacked
    )
    return state, is_stacked


def _repeated(weights: Any, size: Any) -> Any:
    """Returns the weights once for each client of a stack."""
    return tf.nest.map_structure(
        lambda w: tf.repeat(tf.convert_to_tensor(w)[tf.newaxis], size, axis=0), weights
    )


def _fill_up(of_members: tf.Tensor, size: Any) -> tf.Tensor:
    """Pads a tensor of the members of a stack with zeros up to a size."""
    return tf.pad(of_members, [[0, size - tf.size(of_members)]])


def _any_first_dimension(stack: _Stack, is_stacked: Any) -> _Stack:
    """Returns the shapes of a stack that may lose clients in a loop."""
    any_size = lambda leaf: tf.TensorShape([None, *leaf.shape[1:]])  # noqa: E731
    return _Stack(
        tf.nest.map_structure(any_size, stack.trainable),
        tf.nest.map_structure(
            lambda leaf, stacked: any_size(leaf) if stacked else leaf.shape,
            stack.state,
            is_stacked,
        ),
        any_size(stack.loss_sum),
    )
