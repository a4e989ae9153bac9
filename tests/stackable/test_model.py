"""The loss of a stackable model: means over rows that count, for each client of a stack."""

import collections
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fl_research.stackable import layers
from fl_research.stackable.model import StackableModel, mean_loss

CLIENTS, ROWS, WIDTH, CLASSES = 3, 5, 2, 4


def _model() -> StackableModel:
    """Linear, with a class for each output, from two features of different ranks."""

    def predict(trainable: Any, x: Any) -> tf.Tensor:
        kernel, bias, scale = trainable
        offset = scale[..., tf.newaxis] * x["offset"]
        return layers.dense(x["inputs"], kernel, bias) + offset[..., tf.newaxis]

    generator = np.random.default_rng(0)
    weights = (
        generator.normal(size=[WIDTH, CLASSES]).astype(np.float32),
        generator.normal(size=[CLASSES]).astype(np.float32),
        np.float32(0.5),
    )
    inputs = collections.OrderedDict(
        inputs=tf.TensorSpec([None, WIDTH], tf.float32), offset=tf.TensorSpec([None], tf.float32)
    )
    return StackableModel(
        initial_weights=(weights, ()),
        predict=predict,
        row_loss=layers.softmax_cross_entropy,
        input_spec=(inputs, tf.TensorSpec([None], tf.int32)),
    )


def _batch(*leading: int) -> tuple[Any, tf.Tensor]:
    """Seeded rows."""
    generator = np.random.default_rng(1)
    draw = lambda *shape: tf.constant(generator.normal(size=shape), tf.float32)  # noqa: E731
    labels = tf.constant(generator.integers(0, CLASSES, [*leading, ROWS]), tf.int32)
    return {"inputs": draw(*leading, ROWS, WIDTH), "offset": draw(*leading, ROWS)}, labels


def _stacked_weights() -> tuple[tf.Tensor, ...]:
    """The initial weights of several clients, each moved in its own way."""
    generator = np.random.default_rng(2)
    return tuple(
        tf.constant(w + generator.normal(size=[CLIENTS, *np.shape(w)]), tf.float32)
        for w in _model().initial_weights[0]
    )


def test_it_is_a_functional_model() -> None:
    """Without leading axes: one loss, the mean of the rows' losses."""
    model, (x, y) = _model(), _batch()
    assert isinstance(model, tff.learning.models.FunctionalModel)
    weights = tf.nest.map_structure(tf.constant, model.initial_weights)
    output = model.predict_on_batch(weights, x, training=True)
    assert output.shape == [ROWS, CLASSES]
    row_losses = layers.softmax_cross_entropy(output, y).numpy()
    assert model.loss(output, y).shape == []
    assert float(model.loss(output, y)) == pytest.approx(row_losses.mean(), rel=1e-6)


def test_stack_has_one_loss_a_client() -> None:
    """To 1e-6 the loss of each client's own weights and rows, weighted and not."""
    model, (x, y), weights = _model(), _batch(CLIENTS), _stacked_weights()
    sample_weight = tf.constant(np.random.default_rng(3).uniform(0, 2, y.shape), tf.float32)
    output = model.predict_on_batch((weights, ()), x, training=True)
    assert output.shape == [CLIENTS, ROWS, CLASSES]
    for weight in (None, sample_weight):
        losses = model.loss(output, y, weight)
        assert losses.shape == [CLIENTS]
        for client in range(CLIENTS):
            own = lambda t, client=client: t[client]  # noqa: E731
            own_output = model.predict_on_batch(
                (tf.nest.map_structure(own, weights), ()), tf.nest.map_structure(own, x), True
            )
            expected = model.loss(own_output, y[client], None if weight is None else own(weight))
            np.testing.assert_allclose(losses[client], expected, rtol=1e-6)


def test_weights_of_zero_and_one_choose_the_rows() -> None:
    """The weighted mean over a stack is the mean of the chosen rows; scale has no effect."""
    losses = tf.constant(np.random.default_rng(4).normal(size=[2, 6]), tf.float32)
    chosen = np.array([[1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1]], np.float32)
    expected = [losses.numpy()[0, [0, 2, 3]].mean(), losses.numpy()[1, 5]]
    for scale in (1.0, 7.5):
        np.testing.assert_allclose(mean_loss(losses, scale * chosen), expected, rtol=1e-6)
    np.testing.assert_allclose(mean_loss(losses, None), losses.numpy().mean(axis=1), rtol=1e-6)


def test_client_whose_rows_all_have_weight_zero() -> None:
    """Its loss is 0 and so is its gradient, never NaN; the other client's stay as they are."""
    losses = tf.constant([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    weight = tf.constant([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(losses)
        means = mean_loss(losses, weight)
        total = tf.reduce_sum(means)
    np.testing.assert_array_equal(means, [0.0, 4.5])
    np.testing.assert_array_equal(tape.gradient(total, losses), [[0, 0, 0], [0.5, 0.5, 0]])


def test_weight_zero_does_not_hide_a_row_that_is_not_finite() -> None:
    """Zero times NaN is NaN: who fills up a batch must do it with finite rows of the same client.

    The stacked execution repeats a row of the batch itself for that reason.
    """
    for bad in (np.nan, np.inf):
        losses = tf.constant([[1.0, bad], [2.0, 3.0]])
        means = mean_loss(losses, tf.constant([[1.0, 0.0], [1.0, 1.0]])).numpy()
        assert np.isnan(means[0]) and means[1] == 2.5


def test_gradient_of_a_stack_is_that_of_each_client() -> None:
    """Several features, a scalar weight and masked rows: equal to 1e-6."""
    model, (x, y), weights = _model(), _batch(CLIENTS), _stacked_weights()
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], np.float32)

    def gradient(weights: Any, x: Any, y: Any, sample_weight: Any) -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            tape.watch(weights)
            output = model.predict_on_batch((weights, ()), x, training=True)
            loss = tf.reduce_sum(model.loss(output, y, sample_weight))
        return [g.numpy() for g in tape.gradient(loss, weights)]

    stacked = gradient(weights, x, y, tf.constant(mask))
    for client in range(CLIENTS):
        rows = slice(int(mask[client].sum()))
        own_weights = tuple(w[client] for w in weights)
        own_x = {name: feature[client, rows] for name, feature in x.items()}
        if not mask[client].any():
            assert not any(g[client].any() for g in stacked)
            continue
        alone = gradient(own_weights, own_x, y[client, rows], None)
        for found, expected in zip(stacked, alone, strict=True):
            np.testing.assert_allclose(found[client], expected, rtol=1e-6, atol=1e-6)
