"""Optimizers by name: the table is complete, each trains, wrong settings are refused."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fl_research.errors import InputError
from fl_research.learning import optimizers
from fl_research.learning.optimizers import OptimizerConfig, build_optimizer
from tests.learning import small_cohorts


def test_table_is_what_tff_has() -> None:
    """Every builder of this TFF has a name, and sgd's alone takes a momentum."""
    found = {
        name: builder
        for name, builder in inspect.getmembers(tff.learning.optimizers, inspect.isfunction)
        if name.startswith("build_")
    }
    assert set(optimizers._BUILDERS.values()) == set(found)
    with_momentum = [n for n, b in found.items() if "momentum" in inspect.signature(b).parameters]
    assert with_momentum == [optimizers._BUILDERS["sgd"]]
    assert optimizers.names() == (
        *("adafactor", "adagrad", "adam", "adamw", "rmsprop", "sgd", "yogi"),
    )


@pytest.mark.parametrize("name", optimizers.names())
def test_each_trains_at_clients_and_server(name: str, tff_runtime: None) -> None:
    """Two rounds move the weights as the same optimizer does step by step, to 0.5 % of the move.

    Not closer, because the adaptive ones divide by the size of the gradient: where a gradient is
    zero but for rounding, the rounding decides the step.
    """
    data = small_cohorts.clients((7,))
    model = small_cohorts.model("mlp")
    process = small_cohorts.process(
        model,
        small_cohorts.query("none", population=1),
        client_optimizer=small_cohorts.optimizer(name, 0.02),
        server_optimizer=small_cohorts.optimizer(name, 0.05),
        batch_size=3,
        shuffle=False,
    )
    state = process.initialize()
    for _ in range(2):
        state = process.next(state, small_cohorts.blocks(data, num_blocks=1)).state

    optimizer = small_cohorts.optimizer(name, 0.02)
    server = small_cohorts.optimizer(name, 0.05)
    weights = tuple(tf.constant(w) for w in model.initial_weights[0])
    specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, weights)
    server_state = server.initialize(specs)
    for _ in range(2):
        local, local_state = weights, optimizer.initialize(specs)
        for rows in (slice(0, 3), slice(3, 6), slice(6, 7)):
            x = {"inputs": tf.constant(data.features["inputs"][rows])}
            with tf.GradientTape() as tape:
                tape.watch(local)
                output = model.predict_on_batch((local, ()), x, training=True)
                loss = model.loss(output, tf.constant(data.labels[rows]))
            local_state, local = optimizer.next(local_state, local, tape.gradient(loss, local))
        gradient = tf.nest.map_structure(tf.subtract, weights, local)
        server_state, weights = server.next(server_state, weights, gradient)

    after, expected, before = (
        np.concatenate([leaf.ravel() for leaf in small_cohorts.leaves(structure)])
        for structure in (state.global_model_weights, weights, model.initial_weights)
    )
    move = np.linalg.norm(expected - before)
    assert move > 1e-3
    assert np.linalg.norm(after - expected) < 5e-3 * move


def test_settings_reach_tff() -> None:
    config = OptimizerConfig(name="sgd", learning_rate=0.25, momentum=0.75)
    hparams = build_optimizer(config)
    state = hparams.initialize(tf.TensorSpec([2], tf.float32))
    assert (state["learning_rate"], state["momentum"]) == (0.25, 0.75)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "lamb", "learning_rate": 0.1}, "^optimizer='lamb' is unknown.*adam.*sgd"),
        ({"learning_rate": 0.0}, "^learning_rate=0.0"),
        ({"learning_rate": -1.0}, "^learning_rate=-1.0"),
        ({"learning_rate": float("nan")}, "^learning_rate=nan"),
        ({"learning_rate": float("inf")}, "^learning_rate=inf"),
        ({"learning_rate": 0.1, "momentum": 1.0}, "^momentum=1.0"),
        ({"learning_rate": 0.1, "momentum": -0.1}, "^momentum=-0.1"),
        ({"name": "adam", "learning_rate": 0.1, "momentum": 0.9}, "^momentum=0.9.*adam.*sgd"),
        ({"learning_rate": 0.1, "momentum": float("nan")}, "^momentum=nan"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        OptimizerConfig(**settings)
