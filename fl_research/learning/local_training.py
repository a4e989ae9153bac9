"""What a client trains and how, and what follows from it for each client of a block."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff

from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.example_privacy import ExamplePrivacy
from fl_research.learning.visiting_order import visiting_order


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """What a client trains and how: the model, the client optimizer and the settings.

    With `example_privacy` a client trains by DP-SGD on Poisson-sampled batches: as many steps as
    without, but the batch size is the expected one, and there is no order of the rows.
    """

    model: tff.learning.models.FunctionalModel
    optimizer: tff.learning.optimizers.Optimizer
    config: ClientUpdateConfig
    example_privacy: ExamplePrivacy | None = None


class Schedule(NamedTuple):
    """Which rows each client of a block trains on, and when.

    Attributes:
      start: `int64[clients]`, the client's first place in an epoch of `order`.
      count: `int64[clients]`, its rows.
      batches: `int64[clients]`, its batches an epoch; the last may be smaller.
      steps: `int64[clients]`, its batches in all.
      examples: `int64[clients]`, the rows in them, repeats counted.
      order: `int64[epochs or 1, rows]`, from `visiting_order`.
    """

    start: tf.Tensor
    count: tf.Tensor
    batches: tf.Tensor
    steps: tf.Tensor
    examples: tf.Tensor
    order: tf.Tensor


OF_A_CLIENT = ("start", "count", "batches", "steps", "examples")
"""The parts of a schedule with one value a client."""


def schedule(config: ClientUpdateConfig, block: Mapping[str, Any]) -> Schedule:
    """Returns what the settings mean for the clients of a block of tensors."""
    splits = block["row_splits"]
    start, count = splits[:-1], splits[1:] - splits[:-1]
    batches = -(-count // config.batch_size)
    steps = batches * config.local_epochs
    if config.local_steps is not None:
        steps = tf.minimum(steps, tf.constant(config.local_steps, tf.int64))
    # Only the last batch of an epoch is smaller, so the batches of a begun epoch are full.
    whole_epochs, rest = steps // tf.maximum(batches, 1), steps % tf.maximum(batches, 1)
    return Schedule(
        start=start,
        count=count,
        batches=batches,
        steps=steps,
        examples=whole_epochs * count + rest * config.batch_size,
        order=visiting_order(
            splits, block["seeds"], epochs=config.local_epochs, shuffle=config.shuffle
        ),
    )


def record_weight(config: ClientUpdateConfig, examples: tf.Tensor) -> tf.Tensor:
    """Returns the float32 weight of clients that trained on so many examples."""
    if config.weighting == "examples":
        return tf.cast(examples, tf.float32)
    return tf.ones_like(examples, tf.float32)


def mean_loss(loss_sum: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
    """Returns the float32 mean loss of clients over the examples they trained on; 0 over none."""
    return loss_sum / tf.cast(tf.maximum(examples, 1), loss_sum.dtype)


def metrics_of(
    loss_sum: tf.Tensor, examples: tf.Tensor, finite: tf.Tensor, has_rows: tf.Tensor
) -> collections.OrderedDict:
    """Returns the training metrics of clients, elementwise; summed over clients elsewhere.

    Args:
      loss_sum: float32, the sum of the loss over the examples trained on.
      examples: int64, their number.
      finite: bool, whether the client's update is.
      has_rows: bool, whether it trained on any.
    """
    in_loss = finite & tf.math.is_finite(loss_sum)
    one = tf.ones_like(examples)
    none = tf.zeros_like(examples)
    return collections.OrderedDict(
        loss_sum=tf.where(in_loss, loss_sum, 0.0),
        examples=tf.where(in_loss, examples, none),
        clients=one,
        clients_not_finite=tf.where(finite, none, one),
        clients_without_rows=tf.where(has_rows, none, one),
    )
