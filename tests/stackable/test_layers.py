"""Layers against NumPy in float64, without axes of clients, with one and with two."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from fl_research.stackable import layers

ROWS, WIDTH, UNITS, STEPS, VOCABULARY = 5, 3, 4, 6, 7
LEADING = [(), (3,), (2, 3)]


def _dense(inputs: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.array([row @ kernel + bias for row in inputs])


def _embedding_mean(ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    return np.array([np.mean([table[i] for i in row], axis=0) for row in ids])


def _gru_last_state(
    inputs: np.ndarray,
    kernel: np.ndarray,
    recurrent_kernel: np.ndarray,
    bias: np.ndarray,
    recurrent_bias: np.ndarray,
) -> np.ndarray:
    """Row by row and gate by gate, as the formula says."""
    w_r, w_z, w_n = np.split(kernel, 3, axis=1)
    u_r, u_z, u_n = np.split(recurrent_kernel, 3, axis=1)
    b_r, b_z, b_n = np.split(bias, 3)
    c_r, c_z, c_n = np.split(recurrent_bias, 3)
    states = []
    for row in inputs:
        h = np.zeros(len(u_r))
        for x in row:
            r = scipy.special.expit(x @ w_r + b_r + h @ u_r + c_r)
            z = scipy.special.expit(x @ w_z + b_z + h @ u_z + c_z)
            n = np.tanh(x @ w_n + b_n + r * (h @ u_n + c_n))
            h = (1 - z) * n + z * h
        states.append(h)
    return np.array(states)


def _sigmoid_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    probability = scipy.special.expit(logits)
    return -labels * np.log(probability) - (1 - labels) * np.log1p(-probability)


def _softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.array(
        [-np.log(scipy.special.softmax(row)[y]) for row, y in zip(logits, labels, strict=True)]
    )


# Layer -> its twin, and the shapes of its inputs; a whole number stands for ids below it.
LAYERS: dict[str, tuple[Callable, Callable, list[Any]]] = {
    "dense": (layers.dense, _dense, [(ROWS, WIDTH), (WIDTH, UNITS), (UNITS,)]),
    "embedding_mean": (
        layers.embedding_mean,
        _embedding_mean,
        [((ROWS, STEPS), VOCABULARY), (VOCABULARY, UNITS)],
    ),
    "gru_last_state": (
        layers.gru_last_state,
        _gru_last_state,
        [(ROWS, STEPS, WIDTH), (WIDTH, 3 * UNITS), (UNITS, 3 * UNITS), (3 * UNITS,), (3 * UNITS,)],
    ),
    "sigmoid_cross_entropy": (
        layers.sigmoid_cross_entropy,
        _sigmoid_cross_entropy,
        [(ROWS,), ((ROWS,), 2)],
    ),
    "softmax_cross_entropy": (
        layers.softmax_cross_entropy,
        _softmax_cross_entropy,
        [(ROWS, UNITS), ((ROWS,), UNITS)],
    ),
}
pytestmark = pytest.mark.parametrize("name", LAYERS)


def _draw(name: str, leading: tuple[int, ...]) -> list[np.ndarray]:
    """Seeded arguments of a layer with leading axes."""
    generator = np.random.default_rng(len(leading))
    arguments = []
    for shape in LAYERS[name][2]:
        if isinstance(shape[0], tuple):
            arguments.append(generator.integers(0, shape[1], (*leading, *shape[0]), np.int32))
        else:
            arguments.append(generator.normal(size=(*leading, *shape)).astype(np.float32))
    return arguments


def _each_alone(arguments: list[np.ndarray], num_axes: int) -> list[list[np.ndarray]]:
    """The arguments of one client after the other."""
    flat = [a.reshape([-1, *a.shape[num_axes:]]) for a in arguments]
    return [list(client) for client in zip(*flat, strict=True)]


def _value_and_gradients(name: str, arguments: list[np.ndarray]) -> tuple[np.ndarray, list]:
    """The layer's value, and the gradients of a curved function of it, summed."""
    tensors = [tf.constant(a) for a in arguments]
    watched = [t for t in tensors if t.dtype.is_floating]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        value = LAYERS[name][0](*tensors)
        total = tf.reduce_sum(tf.sin(value))
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(total, watched)]
    return value.numpy(), [g.numpy() for g in gradients]


@pytest.mark.parametrize("leading", LEADING)
def test_layer_computes_its_formula(name: str, leading: tuple[int, ...]) -> None:
    """Each client's part equals NumPy in float64 to 1e-5."""
    layer, twin, _ = LAYERS[name]
    arguments = _draw(name, leading)
    found = layer(*(tf.constant(a) for a in arguments))
    assert found.dtype == tf.float32
    assert found.shape[: len(leading) + 1] == [*leading, ROWS]
    in_float64 = [a.astype(np.float64) if a.dtype == np.float32 else a for a in arguments]
    expected = np.array([twin(*client) for client in _each_alone(in_float64, len(leading))])
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("leading", LEADING[1:])
def test_stacked_gradients_are_those_of_each_client(name: str, leading: tuple[int, ...]) -> None:
    """To 1e-6, relative or absolute."""
    arguments = _draw(name, leading)
    _, stacked = _value_and_gradients(name, arguments)
    alone = [_value_and_gradients(name, c)[1] for c in _each_alone(arguments, len(leading))]
    for found, *expected in zip(stacked, *alone, strict=True):
        assert np.abs(found).max() > 0.01
        np.testing.assert_allclose(found, np.reshape(expected, found.shape), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("leading", LEADING)
def test_sizes_that_are_known_only_when_it_runs(name: str, leading: tuple[int, ...]) -> None:
    """In a graph, numbers of clients and of rows may be open, and there may be no rows."""
    layer, axes = LAYERS[name][0], len(leading)
    arguments = [tf.constant(a) for a in _draw(name, leading)]
    # No other size is that of the rows.
    has_rows = [a.shape[axes] == ROWS for a in arguments]
    specs = [
        tf.TensorSpec([None] * (axes + rows) + a.shape[axes + rows :], a.dtype)
        for a, rows in zip(arguments, has_rows, strict=True)
    ]
    run = tf.function(layer, input_signature=specs)
    np.testing.assert_allclose(run(*arguments), layer(*arguments), rtol=1e-6, atol=1e-6)
    no_rows = [
        tf.gather(a, tf.range(0), axis=axes) if rows else a
        for a, rows in zip(arguments, has_rows, strict=True)
    ]
    assert run(*no_rows).shape[: axes + 1] == [*leading, 0]
