"""DP-SGD on the rows of a client: gradients one by one, clipping, and the block around them."""

import collections
import fractions
import itertools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fl_research.errors import InputError
from fl_research.learning import client_loop, client_update, example_privacy, execution
from fl_research.learning.client_update_config import ClientUpdateConfig, steps_and_rate
from fl_research.learning.example_privacy import ExamplePrivacy
from fl_research.learning.local_training import schedule
from tests.learning import small_cohorts
from tests.learning.private_clients import (
    HUGE,
    LEARNING_RATE,
    MODELS,
    ROWS,
    block,
    gradients_one_by_one,
    norm,
    private,
    runner,
    training,
)

SUM = small_cohorts.UpdateAndWeightSum()

# --------------------------------------------------------------------- gradients and clipping


@pytest.mark.parametrize(
    ("name", "optimizer"), [("logistic regression", "sgd"), ("mlp", "adam"), ("plain mlp", "sgd")]
)
def test_without_noise_and_clipping_it_is_full_batch_training(name: str, optimizer: str) -> None:
    """Three steps with q = 1 equal the plain loop's to 1e-5 relative, 1e-6 absolute."""
    rate = {"sgd": LEARNING_RATE, "adam": 0.02}[optimizer]
    clients = block((9, 0, 20, 1))
    private_run, plain_run = (
        runner(
            training(
                MODELS[name](),
                privacy,
                small_cohorts.optimizer(optimizer, rate),
                batch_size=20,
                local_epochs=3,
                execution="loop",
            )
        )(clients)
        for privacy in (private(HUGE), None)
    )
    small_cohorts.assert_states_close(private_run, plain_run, rtol=1e-5, atol=1e-6)
    assert private_run[1]["examples"] == 90 and private_run[1]["clients_without_rows"] == 1


@pytest.mark.parametrize("name", MODELS)
def test_each_row_is_clipped_on_its_own(name: str) -> None:
    """One step equals the rows' gradients one by one, clipped in NumPy, to 1e-5 of its norm."""
    model, rows = MODELS[name](), block()
    gradients = gradients_one_by_one(model, rows)
    norms = [norm(g) for g in gradients]
    clip_norm = float(np.median(norms)) * 0.9
    scales = [min(1.0, clip_norm / n) for n in norms]
    assert 0 < sum(s < 1 for s in scales) < ROWS
    by_hand = [
        -LEARNING_RATE / ROWS * sum(s * g for s, g in zip(scales, tensor, strict=True))
        for tensor in zip(*gradients, strict=True)
    ]
    record, _ = runner(training(model, private(clip_norm), batch_size=ROWS))(rows)
    found = small_cohorts.leaves(record["update"])
    assert norm([a - b for a, b in zip(found, by_hand, strict=True)]) < 1e-5 * norm(by_hand)


def test_it_is_the_step_of_tensorflow_privacys_optimizer() -> None:
    """With q = 1 and no noise, to 1e-5 of the update's norm."""
    model, rows = small_cohorts.model("mlp"), block()
    clip_norm = float(np.median([norm(g) for g in gradients_one_by_one(model, rows)]))
    variables = tf.nest.map_structure(tf.Variable, model.initial_weights[0])

    def losses() -> tf.Tensor:
        """The loss of each row."""
        logits = model.predict_on_batch((variables, ()), rows["features"], True)
        labels = tf.cast(rows["labels"], tf.float32)
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)

    peer = tfp.VectorizedDPKerasSGDOptimizer(
        l2_norm_clip=clip_norm, noise_multiplier=0.0, learning_rate=LEARNING_RATE
    )
    peer.minimize(losses, list(variables))
    expected = [v.numpy() - w for v, w in zip(variables, model.initial_weights[0], strict=True)]
    record, _ = runner(training(model, private(clip_norm), batch_size=ROWS))(rows)
    found = small_cohorts.leaves(record["update"])
    assert norm([a - b for a, b in zip(found, expected, strict=True)]) < 1e-5 * norm(expected)


ODD_ROWS = {
    "usual": 1.0,
    "huge": 1e25,  # its square is infinite in float32
    "largest": 3e38,
    "tiny": 1e-30,
    "zero": 0.0,
    "nan": np.nan,
    "infinite": np.inf,
}


@pytest.mark.parametrize("clip_norm", [1e-6, 0.5, 1e3])
@pytest.mark.parametrize("odd", ODD_ROWS)
def test_one_row_moves_the_sum_by_the_clip_norm_at_most(odd: str, clip_norm: float) -> None:
    """To 1e-9 relative in float64; a huge row by all of the clip norm, in its own direction."""
    specs = [tf.TensorSpec([None, *shape], tf.float32) for shape in ((4, 3), (5,), ())]
    run = tf.function(
        lambda *g: example_privacy.clipped_sum(g, clip_norm),
        autograph=False,
        input_signature=specs,
    )
    for others in (0, 1, 6):
        generator = np.random.default_rng(others)
        rows = [generator.normal(size=[others + 1, *s.shape[1:]]) for s in specs]
        signs = [np.sign(tensor[-1]) for tensor in rows]
        if np.isfinite(ODD_ROWS[odd]):
            for tensor, sign in zip(rows, signs, strict=True):
                tensor[-1] = sign * ODD_ROWS[odd]
        else:
            rows[1][-1, 2] = ODD_ROWS[odd]
        rows = [tensor.astype(np.float32) for tensor in rows]
        with_it, without = run(*rows), run(*[tensor[:-1] for tensor in rows])
        moved = [a.numpy() - b.numpy() for a, b in zip(with_it, without, strict=True)]
        assert norm(moved) <= clip_norm * (1 + 1e-9)
        if odd in ("huge", "largest"):
            whole = [sign * clip_norm / np.sqrt(12 + 5 + 1) for sign in signs]
            assert norm([a - b for a, b in zip(moved, whole, strict=True)]) < 1e-9 * clip_norm
        if odd in ("zero", "nan", "infinite"):
            assert norm(moved) == 0.0


@pytest.mark.parametrize("name", MODELS)
def test_one_row_moves_its_clients_update_by_a_bounded_step(name: str) -> None:
    """Replacing a row moves a step of q = 1 by 2 clip norms / n at most, to 1e-5 relative."""
    clip_norm = 0.25
    run = runner(training(MODELS[name](), private(clip_norm), batch_size=ROWS))
    for rows, value in itertools.product((1, ROWS), (np.nan, np.inf, 1e25, 3e38, 1.0)):
        original = block((rows,))
        changed = tf.nest.map_structure(np.copy, original)
        changed["features"]["inputs"][-1] = value
        (before, _), (after, metrics) = run(original), run(changed)
        leaves = zip(
            small_cohorts.leaves(before["update"]),
            small_cohorts.leaves(after["update"]),
            strict=True,
        )
        bound = LEARNING_RATE * 2 * clip_norm / rows * (1 + 1e-5)
        assert norm([a - b for a, b in leaves]) <= bound
        assert metrics["clients_not_finite"] == 0 and after["weight"] == 1.0


def test_gradients_in_pieces_add_up_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """To 1e-6: pieces of two rows, the last of one; the draws are the same."""
    used = training(small_cohorts.model("mlp"), private(0.1, 1.0), batch_size=ROWS)
    at_once = runner(used)(block())
    numbers = sum(w.size for w in used.model.initial_weights[0])
    monkeypatch.setattr(client_loop, "_PIECE_BYTES", 4 * 2 * numbers)
    small_cohorts.assert_states_close(runner(used)(block()), at_once, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------------------- the block around it


@pytest.mark.parametrize("name", ["mlp", pytest.param("plain mlp", marks=pytest.mark.slow)])
def test_ragged_block_in_tff(name: str, tff_runtime: None) -> None:
    """The TFF computation gives the sum of the clients alone to 1e-5, and twice the same bits."""
    used = training(
        MODELS[name](), private(0.5, 0.7), batch_size=4, local_epochs=2, weighting="examples"
    )
    weights = tff.learning.models.ModelWeights(*used.model.initial_weights)
    message = collections.OrderedDict(weights=weights, sample_params=())
    types = tf.nest.map_structure(lambda w: tff.TensorType(w.dtype.type, w.shape), message)
    computation = client_update.build_block_update(used, SUM, tff.types.to_type(types))
    found = computation(message, block(small_cohorts.SIZES))
    small_cohorts.assert_states_equal(found, computation(message, block(small_cohorts.SIZES)))
    run, data = runner(used), small_cohorts.clients()
    alone = [run(one) for one in small_cohorts.blocks(data, num_blocks=data.num_clients)]
    summed = tf.nest.map_structure(lambda *leaves: np.sum(leaves, axis=0), *alone)
    metrics = found["metrics"]
    small_cohorts.assert_states_close((found["accumulated"], metrics), summed, rtol=1e-5, atol=1e-5)
    assert metrics["clients"] == 10 and metrics["clients_without_rows"] == 1
    # The weight is the planned number of rows, which tells nothing of the draws.
    assert found["accumulated"]["weight"] == 2 * sum(small_cohorts.SIZES) != metrics["examples"]


def test_key_and_round_decide_the_bits() -> None:
    model, clients = small_cohorts.model("mlp"), block((30, 7))
    run = runner(training(model, private(0.5, 0.7), batch_size=4))
    result = run(clients)
    small_cohorts.assert_states_equal(result, run(clients))
    others = (
        runner(training(model, private(0.5, 0.7, key=(11, -11)), batch_size=4))(clients),
        run(block((30, 7), round_number=2)),
    )
    for other, _ in others:
        for a, b in zip(
            small_cohorts.leaves(other["update"]),
            small_cohorts.leaves(result[0]["update"]),
            strict=True,
        ):
            assert (a != b).mean() > 0.99


def test_private_training_goes_through_the_loop() -> None:
    for asked, model in itertools.product(("auto", "loop"), MODELS.values()):
        assert execution.resolve(training(model(), private(), execution=asked), SUM) == "loop"
    refused = training(small_cohorts.model("mlp"), private(), execution="stacked")
    with pytest.raises(InputError, match="execution='stacked'.*each example.*'auto' or 'loop'"):
        client_update.build_block_update(refused, SUM, tff.TensorType(np.float32))
    ways = {name: execution.example_gradients_function(make()) for name, make in MODELS.items()}
    stacked = [name for name, way in ways.items() if way is example_privacy.stacked_gradients]
    # The mixing model can be stacked by its type, but would let a row into others' gradients.
    assert stacked == ["logistic regression", "mlp"]


def test_plain_training_refuses_to_ignore_the_privacy() -> None:
    used = training(small_cohorts.model("mlp"), private())
    weights = tff.learning.models.ModelWeights(*used.model.initial_weights)
    weights, clients = tf.nest.map_structure(tf.constant, (weights, block()))
    with pytest.raises(InputError, match="example_privacy=.*would be ignored"):
        client_loop.block_update(used, SUM, weights, (), clients)


def test_steps_and_rate_are_those_of_the_schedule() -> None:
    """For 0 to 40 rows and 60 settings; the rates also as exact fractions, rounded once."""
    sizes = range(41)
    splits = np.concatenate([[0], np.cumsum(sizes)])
    clients = {"row_splits": tf.constant(splits), "seeds": tf.zeros([41, 2], tf.int64)}
    counts = tf.constant(sizes, tf.int64)
    for batch_size, epochs, cap in itertools.product(
        (1, 3, 7, 32, 100), (1, 2, 5), (None, 1, 4, 50)
    ):
        config = ClientUpdateConfig(
            batch_size=batch_size, local_epochs=epochs, local_steps=cap, shuffle=False
        )
        steps, rates = zip(*(steps_and_rate(config, rows) for rows in sizes), strict=True)
        np.testing.assert_array_equal(schedule(config, clients).steps, steps)
        expected = example_privacy.expected_batch_size(batch_size, counts)
        np.testing.assert_array_equal((expected / tf.cast(counts, tf.float64))[1:], rates[1:])
        exact = [min(1.0, float(fractions.Fraction(batch_size, n))) for n in sizes[1:]]
        assert list(rates) == [0.0, *exact]
    with pytest.raises(InputError, match="rows=-1"):
        steps_and_rate(ClientUpdateConfig(), -1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"clip_norm": 0.0}, "clip_norm=0.0"),
        ({"clip_norm": np.inf}, "clip_norm=inf"),
        ({"noise_multiplier": -1.0}, "noise_multiplier=-1.0"),
        ({"noise_key": (1,)}, "noise_key="),
        ({"noise_key": (2**63, 987)}, "noise_key="),
        ({"noise_key": 987}, "noise_key="),
    ],
)
def test_wrong_settings_are_refused_and_keys_stay_hidden(settings: dict, words: str) -> None:
    right: dict[str, Any] = {"clip_norm": 1.0, "noise_multiplier": 1.0, "noise_key": (987, 654)}
    assert "987" not in repr(ExamplePrivacy(**right)) and "654" not in repr(ExamplePrivacy(**right))
    with pytest.raises(InputError, match=words) as refusal:
        ExamplePrivacy(**(right | settings))
    assert "987" not in str(refusal.value)
