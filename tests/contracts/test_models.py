"""The contract of a model family; every file in fl_research/models is put through it."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fl_research.learning.client_update import client_block_type
from fl_research.models import registry
from fl_research.stackable.model import StackableModel
from tests.contracts.model_cases import build, case_of, rows_for

pytestmark = pytest.mark.parametrize("name", registry.names())


def _away_from_start(model: tff.learning.models.FunctionalModel, seed: int) -> list[np.ndarray]:
    """Trainable weights, flat, moved a little so that none is exactly zero."""
    generator = np.random.default_rng(seed)
    return [
        (np.asarray(w) + 0.1 * generator.normal(size=np.shape(w))).astype(np.float32)
        for w in tf.nest.flatten(model.initial_weights[0])
    ]


def _loss(model: tff.learning.models.FunctionalModel, flat: list, batch: Any) -> tf.Tensor:
    """The loss at trainable weights given as a flat list."""
    trainable, non_trainable = model.initial_weights
    weights = tf.nest.pack_sequence_as(trainable, [tf.convert_to_tensor(w) for w in flat])
    x, y = batch
    return model.loss(model.predict_on_batch((weights, non_trainable), x, training=True), y)


def test_input_spec_fits_a_block_of_clients(name: str) -> None:
    x, y = build(name).input_spec
    features, labels = rows_for(name, 3)
    assert {n: spec.shape[1:] for n, spec in x.items()} == {
        n: values.shape[1:] for n, values in features.items()
    }
    assert all(x[n].dtype == features[n].dtype and x[n].shape[0] is None for n in x)
    assert y.shape[1:] == labels.shape[1:] and y.dtype == labels.dtype
    assert client_block_type(build(name))["labels"].dtype == labels.dtype.as_numpy_dtype


def test_initial_weights_are_float32_and_follow_from_the_seed(name: str) -> None:
    one, again, other = (
        tf.nest.flatten(build(name, seed=seed).initial_weights) for seed in (1, 1, 2)
    )
    assert isinstance(build(name).initial_weights[0], tuple)
    for a, b in zip(one, again, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)
    is_zero = not any(w.any() for w in one)
    differs = any((a != b).any() for a, b in zip(one, other, strict=True))
    assert is_zero or differs, "weights must start at zero or follow from the seed"


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_outputs_are_finite_and_one_a_row(name: str, rows: int) -> None:
    model = build(name)
    for training in (False, True):
        outputs = model.predict_on_batch(model.initial_weights, rows_for(name, rows)[0], training)
        for values in tf.nest.flatten(outputs):
            assert values.shape[0] == rows and np.isfinite(values).all()


def test_loss_is_the_mean_of_the_objectives_rows(name: str) -> None:
    """Of the objective's own row losses, to 1e-6; families with another loss are in SPECIAL."""
    model, (x, y) = build(name), rows_for(name, 8)
    outputs = model.predict_on_batch(model.initial_weights, x, training=True)
    rows = case_of(name).objective.row_loss(outputs, y)
    assert rows.shape == [8]
    assert float(model.loss(outputs, y)) == pytest.approx(float(tf.reduce_mean(rows)), rel=1e-6)


def test_gradient_equals_finite_differences(name: str) -> None:
    """Along five directions, central differences of step 1e-2 agree to 1e-3 absolute, 1 % relative.

    Float32 losses leave about 1e-5 of rounding in the difference, curvature and kinks the rest.
    """
    if case_of(name).other_gradient:
        pytest.skip(case_of(name).other_gradient)
    model, batch = build(name), rows_for(name, 20)
    flat = _away_from_start(model, seed=5)
    variables = [tf.constant(w) for w in flat]
    with tf.GradientTape() as tape:
        tape.watch(variables)
        loss = _loss(model, variables, batch)
    gradients = [np.asarray(g, np.float64) for g in tape.gradient(loss, variables)]
    assert all(np.isfinite(g).all() for g in gradients)
    generator = np.random.default_rng(6)
    for _ in range(5):
        direction = [generator.normal(size=w.shape) for w in flat]
        norm = np.sqrt(sum(np.sum(d**2) for d in direction))
        losses = []
        for step in (1e-2, -1e-2):
            moved = [w + step * d / norm for w, d in zip(flat, direction, strict=True)]
            losses.append(float(_loss(model, [np.asarray(w, np.float32) for w in moved], batch)))
        slope = sum(np.sum(g * d) for g, d in zip(gradients, direction, strict=True)) / norm
        assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(slope, rel=1e-2, abs=1e-3)


def _gradient(
    model: tff.learning.models.FunctionalModel, flat: list, batch: Any, sample_weight: Any = None
) -> list[np.ndarray]:
    """The gradient of the loss, summed over a stack, at trainable weights given as a flat list."""
    trainable, non_trainable = model.initial_weights
    variables = [tf.convert_to_tensor(w) for w in flat]
    x, y = batch
    with tf.GradientTape() as tape:
        tape.watch(variables)
        weights = tf.nest.pack_sequence_as(trainable, variables)
        output = model.predict_on_batch((weights, non_trainable), x, training=True)
        loss = tf.reduce_sum(model.loss(output, y, sample_weight))
    return [np.asarray(g) for g in tape.gradient(loss, variables)]


def test_stacked_gradient_is_that_of_each_client(name: str) -> None:
    """Three clients with weights and rows of their own, 7, 3 and 0 of them; to 1e-5.

    What a stack fills up with has weight zero and changes nothing. A family that is no
    `StackableModel` is trained client by client, where none of this happens.
    """
    model = build(name)
    if not isinstance(model, StackableModel):
        pytest.skip("the family cannot be stacked")
    rows, (x, y) = (7, 3, 0), rows_for(name, 21)
    x, y = tf.nest.map_structure(lambda t: tf.reshape(t, [3, 7, *t.shape[1:]]), (x, y))
    weights = [_away_from_start(model, seed=client) for client in range(3)]
    mask = np.array([np.arange(7) < n for n in rows], np.float32)
    stacked = _gradient(model, [np.stack(w) for w in zip(*weights, strict=True)], (x, y), mask)
    for client, count in enumerate(rows):
        if not count:
            assert not any(g[client].any() for g in stacked)
            continue
        own = {n: values[client, :count] for n, values in x.items()}
        alone = _gradient(model, weights[client], (own, y[client, :count]))
        assert any(g.any() for g in alone)
        for found, expected in zip(stacked, alone, strict=True):
            np.testing.assert_allclose(found[client], expected, rtol=1e-5, atol=1e-6)
