"""Local training and the block around it, as plain TensorFlow functions."""

import collections
import itertools
from typing import Any

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fl_research.errors import InputError
from fl_research.learning import client_update
from fl_research.learning.client_update import LocalTraining
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.visiting_order import visiting_order
from tests.learning import small_cohorts

LEARNING_RATE = 0.3


def _training(model: str = "logistic_regression", **config: Any) -> LocalTraining:
    """Local training with plain SGD."""
    return LocalTraining(
        model=small_cohorts.model(model),
        optimizer=small_cohorts.optimizer("sgd", LEARNING_RATE),
        config=ClientUpdateConfig(**config),
    )


def _block_update(
    training: LocalTraining, query: tfp.DPQuery, block: Any, params: Any, weights: Any = None
) -> Any:
    """Runs `block_update` as a graph, which is how TFF runs it."""
    weights = weights or tff.learning.models.ModelWeights(*training.model.initial_weights)
    weights = tf.nest.map_structure(tf.constant, weights)
    block = tf.nest.map_structure(tf.constant, block)
    run = tf.function(
        lambda w, b: client_update.block_update(training, query, w, params, b), autograph=False
    )
    return tf.nest.map_structure(lambda t: t.numpy(), run(weights, block))


def _sum(training: LocalTraining, block: Any) -> Any:
    """The plain sum of the records of a block, and its metrics."""
    total = _block_update(training, small_cohorts.UpdateAndWeightSum(), block, ())
    return total["accumulated"], total["metrics"]


def _reference(inputs: np.ndarray, labels: np.ndarray, steps: list) -> tuple:
    """Logistic regression by hand in float64: update, loss sum and examples."""
    kernel, bias, loss_sum, examples = np.zeros(inputs.shape[1]), 0.0, 0.0, 0
    for rows in steps:
        x, y = inputs[rows].astype(np.float64), labels[rows]
        logits = x @ kernel + bias
        loss_sum += np.sum(np.logaddexp(0, logits) - y * logits)
        error = 1 / (1 + np.exp(-logits)) - y
        kernel = kernel - LEARNING_RATE * x.T @ error / len(y)
        bias = bias - LEARNING_RATE * error.mean()
        examples += len(y)
    return kernel, bias, loss_sum, examples


@pytest.mark.parametrize(
    ("config", "steps"),
    [
        ({"batch_size": 10}, [(0, 7)]),
        ({"batch_size": 3}, [(0, 3), (3, 6), (6, 7)]),
        ({"batch_size": 3, "local_epochs": 2}, [(0, 3), (3, 6), (6, 7)] * 2),
        (
            {"batch_size": 3, "local_epochs": 2, "local_steps": 5},
            [(0, 3), (3, 6), (6, 7), (0, 3), (3, 6)],
        ),
        ({"batch_size": 7, "local_epochs": 3, "local_steps": 2}, [(0, 7)] * 2),
    ],
)
def test_update_equals_gradient_descent_by_hand(config: dict, steps: list) -> None:
    """Weights, loss and examples agree with float64 arithmetic to 1e-5 relative."""
    data = small_cohorts.clients((2, 7))
    block = small_cohorts.blocks(data, num_blocks=1, chosen=[1])[0]
    record, metrics = _sum(_training(shuffle=False, **config), block)
    kernel, bias, loss_sum, examples = _reference(
        block["features"]["inputs"], block["labels"], [slice(*step) for step in steps]
    )
    np.testing.assert_allclose(record["update"][0][:, 0], kernel, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(record["update"][1][0], bias, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(metrics["loss_sum"], loss_sum, rtol=1e-5)
    assert metrics["examples"] == examples
    assert record["weight"] == 1.0
    weighted, _ = _sum(_training(shuffle=False, weighting="examples", **config), block)
    assert weighted["weight"] == examples


def test_shuffled_epochs_train_in_their_drawn_orders() -> None:
    """Two epochs of batches of 3 follow the orders drawn from the seed, to 1e-5 relative."""
    data, training = small_cohorts.clients((2, 7)), _training(batch_size=3, local_epochs=2)
    block = small_cohorts.blocks(data, num_blocks=1, chosen=[1])[0]
    first, second = visiting_order(
        tf.constant([0, 7], tf.int64), tf.constant(block["seeds"]), epochs=2, shuffle=True
    ).numpy()
    assert sorted(first) == sorted(second) == list(range(7)) and (first != second).any()
    steps = [epoch[rows] for epoch in (first, second) for rows in np.split(np.arange(7), [3, 6])]
    kernel, bias, loss_sum, examples = _reference(
        block["features"]["inputs"], block["labels"], steps
    )
    record, metrics = _sum(training, block)
    np.testing.assert_allclose(record["update"][0][:, 0], kernel, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(record["update"][1][0], bias, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(metrics["loss_sum"], loss_sum, rtol=1e-5)
    assert metrics["examples"] == examples == 14


def test_block_is_the_sum_of_its_clients() -> None:
    """Agrees to 1e-5 relative with the clients one at a time: no state leaks between them."""
    data, training = small_cohorts.clients(), _training("mlp", batch_size=4, local_epochs=2)
    whole, metrics = _sum(training, small_cohorts.blocks(data, num_blocks=1)[0])
    alone = [
        _sum(training, block) for block in small_cohorts.blocks(data, num_blocks=data.num_clients)
    ]
    summed = tf.nest.map_structure(lambda *leaves: np.sum(leaves, axis=0), *alone)
    for a, b in zip(
        small_cohorts.leaves((whole, metrics)), small_cohorts.leaves(summed), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert metrics["clients"] == 10 and metrics["clients_without_rows"] == 1
    assert metrics["examples"] == 2 * sum(small_cohorts.SIZES)
    assert whole["weight"] == 9.0


def test_block_without_clients_gives_zero() -> None:
    data = small_cohorts.clients()
    block = small_cohorts.blocks(data, num_blocks=1, chosen=[])[0]
    record, metrics = _sum(_training("mlp"), block)
    assert all((leaf == 0).all() for leaf in small_cohorts.leaves((record, metrics)))


def test_update_whose_norm_overflows_is_left_out() -> None:
    """Finite values above 1.8e19 have an infinite float32 norm; bare clipping makes them NaN."""
    data = small_cohorts.clients()
    data.features["inputs"][data.row_splits[4] : data.row_splits[5]] = 1e22
    query = small_cohorts.BareClip(l2_norm_clip=0.5, stddev=0.0)
    params = query.derive_sample_params(query.initial_global_state())
    training = _training(batch_size=100)
    others = [client for client in range(data.num_clients) if client != 4]
    with_it = _block_update(training, query, small_cohorts.blocks(data, num_blocks=1)[0], params)
    without = _block_update(
        training, query, small_cohorts.blocks(data, num_blocks=1, chosen=others)[0], params
    )
    small_cohorts.assert_states_equal(with_it["accumulated"], without["accumulated"])
    assert with_it["metrics"]["clients_not_finite"] == 1
    plain, _ = _sum(training, small_cohorts.blocks(data, num_blocks=1, chosen=[4])[0])
    assert np.isfinite(plain["update"][0]).all() and np.abs(plain["update"][0]).max() > 1e20


def test_non_trainable_weights_are_used_and_stay() -> None:
    """A model with a frozen scale: its gradient sees the scale, the record does not hold it."""

    @tf.function
    def predict(weights: Any, x: Any, training: bool) -> tf.Tensor:
        del training
        (kernel,), (scale,) = weights
        return scale * tf.linalg.matvec(x["inputs"], kernel)

    inputs, labels = small_cohorts.model("logistic_regression").input_spec
    model = tff.learning.models.FunctionalModel(
        initial_weights=((np.zeros(4, np.float32),), (np.float32(2.0),)),
        predict_on_batch_fn=predict,
        loss_fn=lambda output, label, sample_weight=None: tf.reduce_mean(
            tf.square(output - tf.cast(label, tf.float32))
        ),
        input_spec=(inputs, labels),
    )
    training = LocalTraining(
        model=model,
        optimizer=small_cohorts.optimizer("sgd", LEARNING_RATE),
        config=ClientUpdateConfig(batch_size=100),
    )
    block = small_cohorts.blocks(small_cohorts.clients((6,)), num_blocks=1)[0]
    record, _ = _sum(training, block)
    assert len(record["update"]) == 1
    by_hand = LEARNING_RATE * 2 * 2.0 * block["features"]["inputs"].T @ block["labels"] / 6
    np.testing.assert_allclose(record["update"][0], by_hand, rtol=1e-5)


def test_epochs_visit_every_row_once_in_orders_of_their_own() -> None:
    """Orders are permutations, differ by epoch and by seed, and repeat for the same seed.

    Over 6,000 seeds the orders of three rows are uniform in either epoch, and independent between
    the epochs, by chi-square tests; three tests at 1e-7 give a false alarm in 3 of 10 million.
    """
    splits = np.arange(6001) * 3

    def orders(seeds: np.ndarray) -> np.ndarray:
        order = visiting_order(tf.constant(splits), tf.constant(seeds), epochs=2, shuffle=True)
        return (order.numpy().reshape(2, 6000, 3) - splits[:-1, np.newaxis]).swapaxes(0, 1)

    seeds = np.stack([np.full(6000, -(2**62) + 12345), np.arange(6000)], axis=1)
    drawn = orders(seeds)
    np.testing.assert_array_equal(drawn, orders(seeds))
    np.testing.assert_array_equal(orders(seeds[::-1]), drawn[::-1])
    permutations = {order: i for i, order in enumerate(itertools.permutations(range(3)))}
    which = np.array([[permutations[tuple(epoch)] for epoch in client] for client in drawn])
    table = np.zeros([6, 6])
    np.add.at(table, (which[:, 0], which[:, 1]), 1)
    for epoch in range(2):
        assert scipy.stats.chisquare(table.sum(axis=epoch)).pvalue > 1e-7
    assert scipy.stats.chi2_contingency(table)[1] > 1e-7


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"local_epochs": 0}, "local_epochs=0"),
        ({"batch_size": -1}, "batch_size=-1"),
        ({"local_steps": 0}, "local_steps=0"),
        ({"weighting": "rows"}, "weighting='rows'.*uniform, examples"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ClientUpdateConfig(**settings)


def test_model_without_named_features_is_refused() -> None:
    fitting = small_cohorts.model("logistic_regression")
    inputs, labels = fitting.input_spec
    for spec in (
        (inputs["inputs"], labels),
        (collections.OrderedDict(inputs=tf.TensorSpec([8, 4], tf.float32)), labels),
    ):
        model = tff.learning.models.FunctionalModel(
            initial_weights=fitting.initial_weights,
            predict_on_batch_fn=tf.function(lambda weights, x, training: x),
            loss_fn=lambda output, label, sample_weight=None: tf.constant(0.0),
            input_spec=spec,
        )
        with pytest.raises(InputError, match="input_spec=.* features by name"):
            client_update.client_block_type(model)
