"""The models of series: linear autoregression reaches least squares, the GRU learns an order."""

import numpy as np
import pytest
import tensorflow as tf

from fl_research.errors import InputError
from fl_research.models import gru, linear_regression
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.objectives.regression import Regression

STEPS, WIDTH, HORIZON = 4, 2, 3
ROW_TYPES = {
    "inputs": ((STEPS, WIDTH), np.dtype(np.float32)),
    "scale": ((), np.dtype(np.float32)),
}


def _rows(rows: int) -> dict[str, tf.Tensor]:
    """Random steps."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=[rows, STEPS, WIDTH]).astype(np.float32)
    return {"inputs": tf.constant(inputs), "scale": tf.ones([rows])}


def test_linear_regression_descends_to_least_squares() -> None:
    """Gradient descent on its loss ends where NumPy's closed form is."""
    x = _rows(60)
    flat = np.asarray(x["inputs"]).reshape(60, -1)
    design = np.column_stack([flat, np.ones(60)])
    targets = np.random.default_rng(1).normal(size=[60, HORIZON]).astype(np.float32)
    model = linear_regression.build(
        linear_regression.Config(),
        row_types=ROW_TYPES,
        objective=Regression(horizon=HORIZON, loss="squared", clip=(-9.0, 9.0)),
        seed=0,
    )
    kernel, bias = (tf.Variable(w) for w in model.initial_weights[0])
    assert kernel.shape == (STEPS * WIDTH, HORIZON)
    assert not kernel.numpy().any()
    for _ in range(300):
        with tf.GradientTape() as tape:
            outputs = model.predict_on_batch(((kernel, bias), ()), x, training=True)
            loss = model.loss(outputs, tf.constant(targets))
        for variable, gradient in zip(
            (kernel, bias), tape.gradient(loss, (kernel, bias)), strict=True
        ):
            variable.assign_sub(0.5 * gradient)
    expected = np.linalg.lstsq(design, targets, rcond=None)[0]
    np.testing.assert_allclose(kernel, expected[:-1], atol=1e-4)
    np.testing.assert_allclose(bias, expected[-1], atol=1e-4)


def test_the_gru_reads_its_steps_in_order() -> None:
    """Another order gives another forecast, which no sum over steps could do."""
    model = gru.build(
        gru.Config(units=5),
        row_types=ROW_TYPES,
        objective=Regression(horizon=HORIZON, loss="squared"),
        seed=3,
    )
    kernel, recurrent, *_ = model.initial_weights[0]
    assert kernel.shape == (WIDTH, 15)
    assert recurrent.shape == (5, 15)
    for gate in np.split(recurrent, 3, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(5), atol=1e-5)
    x = _rows(7)
    forecast = model.predict_on_batch(model.initial_weights, x, training=False)
    assert forecast.shape == (7, HORIZON)
    backwards = {**x, "inputs": tf.reverse(x["inputs"], [1])}
    other = model.predict_on_batch(model.initial_weights, backwards, training=False)
    assert np.abs(other - forecast).max() > 1e-3


def test_data_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="linear_regression forecasts numbers"):
        linear_regression.build(
            linear_regression.Config(),
            row_types=ROW_TYPES,
            objective=BinaryClassification(),
            seed=0,
        )
    with pytest.raises(InputError, match="gru needs steps in time"):
        gru.build(
            gru.Config(),
            row_types={"inputs": ((8,), np.dtype(np.float32))},
            objective=BinaryClassification(),
            seed=0,
        )
    with pytest.raises(InputError, match="units=0"):
        gru.Config(units=0)
