"""A client's own last layer: only that layer moves, it gains where there is something to gain."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fl_research.errors import InputError
from fl_research.learning.personalization import HeadTrainer, HeadTraining
from tests.learning import small_cohorts


def _rows(rows: int, seed: int = 0, flip: bool = False) -> tuple[dict, np.ndarray]:
    """Rows whose label follows the first input, or its opposite."""
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=[rows, small_cohorts.NUM_INPUTS]).astype(np.float32)
    signal = -inputs[:, 0] if flip else inputs[:, 0]
    labels = (3 * signal + generator.logistic(size=rows) > 0).astype(np.int32)
    return {"inputs": inputs}, labels


def _trainer(name: str, **settings: float) -> tuple[object, object, HeadTrainer]:
    model = small_cohorts.model(name)
    weights = tff.learning.models.ModelWeights(*model.initial_weights)
    return model, weights, HeadTrainer(model, weights, HeadTraining(**settings), seed=1)


def _loss(model: object, trainable: tuple, rows: tuple) -> float:
    output = model.predict_on_batch(
        tf.nest.map_structure(tf.constant, (tuple(trainable), ())), {"inputs": rows[0]["inputs"]}
    )
    return float(model.loss(output, rows[1]))


def test_only_the_last_layer_moves_and_it_gains() -> None:
    model, weights, trainer = _trainer("mlp")
    head = trainer.train(*_rows(200), client=0)
    for own, shared in zip(head.trainable[:-2], weights.trainable[:-2], strict=True):
        np.testing.assert_array_equal(own, shared)
    assert head.steps > 0
    others = _rows(2000, seed=1)
    before, after = (_loss(model, w, others) for w in (weights.trainable, head.trainable))
    assert after < 0.8 * before


def test_clients_of_opposite_laws_get_opposite_heads() -> None:
    """Logistic regression is its last layer; the signs of the first weight differ."""
    _, _, trainer = _trainer("logistic_regression")
    one, other = (trainer.train(*_rows(300, flip=flip), client=0) for flip in (False, True))
    assert one.trainable[0][0, 0] > 0.3 and other.trainable[0][0, 0] < -0.3


def test_steps_are_those_of_tffs_adam_and_the_best_is_kept() -> None:
    """Repeated outside of the graph, with the rows held out as documented."""
    from fl_research import randomness

    model, weights, trainer = _trainer("logistic_regression", steps=30, learning_rate=0.3)
    features, labels = _rows(40)
    head = trainer.train(features, labels, client=7)
    order = randomness.generator(1, "personal_head", 7).permutation(40)
    held, kept = np.sort(order[:10]), np.sort(order[10:])
    optimizer = tff.learning.optimizers.build_adam(learning_rate=0.3)
    current = tuple(tf.constant(w) for w in weights.trainable)
    state = optimizer.initialize(tf.nest.map_structure(tf.TensorSpec.from_tensor, current))

    def loss(trainable: tuple, at: np.ndarray) -> tf.Tensor:
        output = model.predict_on_batch((trainable, ()), {"inputs": features["inputs"][at]})
        return model.loss(output, labels[at])

    seen = [(float(loss(current, held)), current)]
    for _ in range(30):
        with tf.GradientTape() as tape:
            tape.watch(current)
            value = loss(current, kept)
        state, current = optimizer.next(state, current, tape.gradient(value, current))
        seen.append((float(loss(current, held)), current))
    best = int(np.argmin([value for value, _ in seen]))
    assert head.steps == best
    for own, expected in zip(head.trainable, seen[best][1], strict=True):
        np.testing.assert_allclose(own, expected, atol=1e-5)


@pytest.mark.parametrize("rows", [0, 1, 19])
def test_few_rows_keep_the_global_layer(rows: int) -> None:
    _, weights, trainer = _trainer("mlp")
    head = trainer.train(*_rows(rows), client=0)
    assert head.steps == 0
    for own, shared in zip(head.trainable, weights.trainable, strict=True):
        np.testing.assert_array_equal(own, shared)


def test_what_does_not_help_is_not_kept() -> None:
    """Labels that say nothing, steps far too long: the global layer stays."""
    *_, trainer = _trainer("logistic_regression", learning_rate=50.0)
    features, _ = _rows(60)
    labels = np.random.default_rng(5).integers(2, size=60).astype(np.int32)
    assert trainer.train(features, labels, client=0).steps == 0


def test_wrong_settings() -> None:
    for settings, message in (
        ({"steps": 0}, "steps=0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"held_out": 1.0}, "held_out=1.0 is no share"),
        ({"held_out": float("nan")}, "held_out=nan is no share"),
        ({"fewest_rows": 1}, "fewest_rows=1"),
    ):
        with pytest.raises(InputError, match=message):
            HeadTraining(**settings)
