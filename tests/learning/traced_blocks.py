"""Blocks of the small cohorts as graphs of one execution, and their plain sums."""

import collections
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_privacy as tfp

from fl_research.data.client_data import ClientData
from fl_research.learning import client_loop, learning_process, stacked_clients
from fl_research.learning.client_update import LocalTraining
from fl_research.learning.client_update_config import ClientUpdateConfig
from tests.learning import small_cohorts

OPTIMIZERS = {
    "sgd": {"name": "sgd", "learning_rate": 0.3},
    "momentum": {"name": "sgd", "learning_rate": 0.2, "momentum": 0.5},
    "adagrad": {"name": "adagrad", "learning_rate": 0.1},
    **{
        name: {"name": name, "learning_rate": 0.02} for name in ("adam", "adamw", "rmsprop", "yogi")
    },
}


def training(
    model: Any = "mlp", optimizer: str = "sgd", *, weighting: str = "uniform", **config: Any
) -> LocalTraining:
    """Local training; a model by name, or one that is made already."""
    return LocalTraining(
        model=small_cohorts.model(model) if isinstance(model, str) else model,
        optimizer=small_cohorts.optimizer(**OPTIMIZERS[optimizer]),
        config=ClientUpdateConfig(weighting=weighting, **config),
    )


def start(training: LocalTraining, query: tfp.DPQuery) -> Any:
    """The server's state before the first round."""
    server_optimizer = small_cohorts.optimizer("sgd", 1.0)
    return learning_process.initial_state(training.model, server_optimizer, query)


def message(query: tfp.DPQuery, state: Any) -> Any:
    """What the server sends to the blocks, as tensors."""
    return tf.nest.map_structure(
        tf.convert_to_tensor, learning_process.server_message(query, state)
    )


def block_update(
    training: LocalTraining, query: tfp.DPQuery, execution: str, clients_at_once: int = 100
) -> Callable[[Any, Any], Any]:
    """The update of a block as a graph, traced once for blocks of any size, as TFF does it."""
    run: Callable = client_loop.block_update
    if execution != "loop":
        run = functools.partial(stacked_clients.block_update, clients_at_once=clients_at_once)
    x, y = training.model.input_spec
    block_spec = collections.OrderedDict(
        features=collections.OrderedDict(x),
        labels=y,
        row_splits=tf.TensorSpec([None], tf.int64),
        seeds=tf.TensorSpec([None, 2], tf.int64),
    )
    message_spec = tf.nest.map_structure(
        tf.TensorSpec.from_tensor, message(query, start(training, query))
    )
    return tf.function(
        lambda message, block: run(
            training, query, message["weights"], message["sample_params"], block
        ),
        autograph=False,
        input_signature=[message_spec, block_spec],
    )


def sums(training: LocalTraining, execution: str, clients_at_once: int = 100) -> Callable:
    """Returns `block -> (record, metrics)`: the plain sum of a block's records, as arrays."""
    query = small_cohorts.UpdateAndWeightSum()
    sent = message(query, start(training, query))
    update_of_block = block_update(training, query, execution, clients_at_once)

    def run(block: Any) -> tuple[Any, Any]:
        total = update_of_block(sent, tf.nest.map_structure(tf.constant, block))
        total = tf.nest.map_structure(lambda t: t.numpy(), total)
        return total["accumulated"], total["metrics"]

    return run


def one_block(data: ClientData, chosen: list[int] | None = None) -> Any:
    """The chosen clients in one block."""
    return small_cohorts.blocks(data, num_blocks=1, chosen=chosen)[0]
