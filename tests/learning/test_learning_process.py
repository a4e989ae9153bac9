"""Rounds as TFF runs them: cuts into blocks, clients that do not count, types, events.

The comparison with TFF's own federated averaging is in test_stock_fed_avg.py.
"""

import collections
import functools

import dp_accounting
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fl_research.errors import InputError
from fl_research.learning.client_update import check_block
from fl_research.learning.learning_process import release_event
from tests.learning import small_cohorts

pytestmark = pytest.mark.usefixtures("tff_runtime")

MECHANISMS = {
    "uniform": {"mechanism": "none"},
    "weighted": {"mechanism": "none", "weighting": "examples"},
    "gaussian": {"mechanism": "gaussian", "clip_norm": 0.3, "noise_multiplier": 0.5},
    "adaptive": {"mechanism": "adaptive_gaussian", "clip_norm": 0.3, "noise_multiplier": 0.5},
}


@functools.cache
def _process(case: str) -> tff.learning.templates.LearningProcess:
    """An MLP trained with client and server momentum under one mechanism; built once."""
    settings = MECHANISMS[case]
    return small_cohorts.process(
        small_cohorts.model("mlp"),
        small_cohorts.query(population=len(small_cohorts.SIZES), **settings),
        client_optimizer=small_cohorts.optimizer("sgd", 0.2, momentum=0.5),
        server_optimizer=small_cohorts.optimizer("adam", 0.05),
        local_epochs=2,
        batch_size=4,
        weighting=settings.get("weighting", "uniform"),
    )


@pytest.mark.parametrize("case", MECHANISMS)
def test_cut_into_blocks_does_not_change_the_round(case: str) -> None:
    """1, 2 and 7 blocks and one client a block give one state, up to float32 addition order.

    The clients shuffle, have partial batches, and one has no rows; noise is keyed. Sums of up to
    ten values are added in another order, so states agree to 1e-5 relative and 1e-6 absolute
    (Adam divides by the root of the square, which takes away the scale).
    """
    data, process = small_cohorts.clients(), _process(case)
    start = process.initialize()
    outputs = {}
    for num_blocks in (1, 2, 7, data.num_clients):
        state = start
        # In round 1 a sum of the adaptive case comes out near zero, and Adam shows its rounding.
        for round_number in (3, 4):
            output = process.next(
                state,
                small_cohorts.blocks(data, num_blocks=num_blocks, round_number=round_number),
            )
            state = output.state
        outputs[num_blocks] = output
    moved = small_cohorts.leaves(outputs[1].state.global_model_weights)
    for before, after in zip(small_cohorts.leaves(start.global_model_weights), moved, strict=True):
        assert np.abs(after - before).max() > 1e-3
    for output in outputs.values():
        small_cohorts.assert_states_close(output.state, outputs[1].state, rtol=1e-5, atol=1e-6)
        train, expected = output.metrics["train"], outputs[1].metrics["train"]
        small_cohorts.assert_states_close(train, expected, rtol=1e-5, atol=0)


def test_same_round_again_gives_the_same_bits() -> None:
    data, process = small_cohorts.clients(), _process("adaptive")
    start = process.initialize()
    cohort = small_cohorts.blocks(data, num_blocks=2)
    first = process.next(start, cohort).state
    small_cohorts.assert_states_equal(first, process.next(start, cohort).state)
    other = process.next(start, small_cohorts.blocks(data, num_blocks=2, round_number=2)).state
    assert any(
        (a != b).any()
        for a, b in zip(small_cohorts.leaves(first), small_cohorts.leaves(other), strict=True)
    ), "the shuffling must differ from round to round"


@pytest.mark.parametrize("case", MECHANISMS)
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_client_without_finite_update_counts_as_absent(case: str, poison: float) -> None:
    """A client with a NaN or infinite feature changes no bit of the state."""
    data, process, bad = small_cohorts.clients(), _process(case), 4
    data.features["inputs"][data.row_splits[bad] + 1, 2] = poison
    others = [client for client in range(data.num_clients) if client != bad]
    start = process.initialize()
    output = process.next(start, small_cohorts.blocks(data, num_blocks=1))
    expected = process.next(start, small_cohorts.blocks(data, num_blocks=1, chosen=others))
    small_cohorts.assert_states_equal(output.state, expected.state)
    train = dict(output.metrics["train"])
    assert train.pop("clients_not_finite") == 1 and train.pop("clients") == data.num_clients
    expected_train = dict(expected.metrics["train"])
    assert expected_train.pop("clients_not_finite") == 0 and expected_train.pop("clients") == 9
    assert train == expected_train
    assert train["clients_without_rows"] == 1
    assert train["examples"] == 2 * (sum(small_cohorts.SIZES) - small_cohorts.SIZES[bad])


@pytest.mark.parametrize("case", MECHANISMS)
def test_empty_cohort_moves_by_noise_alone(case: str) -> None:
    """The mean of nobody is zero; where there is noise, it is released all the same."""
    data, process = small_cohorts.clients(), _process(case)
    start = process.initialize()
    nobody = process.next(start, small_cohorts.blocks(data, num_blocks=2, chosen=[]))
    no_rows = process.next(start, small_cohorts.blocks(data, num_blocks=2, chosen=[3]))
    small_cohorts.assert_states_equal(nobody.state, no_rows.state)
    assert nobody.metrics["train"]["clients"] == 0 and no_rows.metrics["train"]["clients"] == 1
    moved = any(
        (a != b).any()
        for a, b in zip(
            small_cohorts.leaves(start.global_model_weights),
            small_cohorts.leaves(nobody.state.global_model_weights),
            strict=True,
        )
    )
    assert moved == (case in ("gaussian", "adaptive"))


@pytest.mark.parametrize("mechanism", ["gaussian", "adaptive_gaussian"])
def test_one_client_moves_the_sum_by_at_most_the_clip(mechanism: str) -> None:
    """A client whose update has norm over 1e6 moves the sum by the clip norm, to 1e-4."""
    clip_norm, data = 0.5, small_cohorts.clients()
    start, stop = data.row_splits[2], data.row_splits[3]
    data.features["inputs"][start:stop] = 2e7
    population = data.num_clients
    settings = {"batch_size": 100, "shuffle": False}
    logistic = small_cohorts.model("logistic_regression")
    others = [client for client in range(population) if client != 2]

    def move(process: tff.learning.templates.LearningProcess, chosen: list[int]) -> np.ndarray:
        start = process.initialize()
        cohort = small_cohorts.blocks(data, num_blocks=2, chosen=chosen)
        state = process.next(start, cohort).state
        return np.concatenate(
            [leaf.ravel() for leaf in small_cohorts.leaves(state.global_model_weights.trainable)]
        )

    plain = small_cohorts.process(
        logistic, small_cohorts.query("none", population=population), **settings
    )
    assert np.linalg.norm(move(plain, [2])) > 1e6
    clipped = small_cohorts.process(
        logistic,
        small_cohorts.query(
            mechanism, population=population, clip_norm=clip_norm, noise_multiplier=0.0
        ),
        **settings,
    )
    difference = population * (move(clipped, [2, *others]) - move(clipped, others))
    np.testing.assert_allclose(np.linalg.norm(difference), clip_norm, rtol=1e-4)


def test_events_and_query_metrics_are_those_of_the_round_that_ran() -> None:
    data = small_cohorts.clients()
    cohort = small_cohorts.blocks(data, num_blocks=2)
    events = {}
    for case in MECHANISMS:
        state = _process(case).initialize()
        output = _process(case).next(state, cohort)
        events[case] = release_event(output.metrics)
    assert events["uniform"] == events["weighted"] == dp_accounting.NonPrivateDpEvent()
    gaussian = events["gaussian"]
    assert isinstance(gaussian, dp_accounting.GaussianDpEvent)
    assert type(gaussian.noise_multiplier) is float
    assert gaussian.noise_multiplier == pytest.approx(0.5, rel=1e-6)
    adaptive = _process("adaptive")
    first = adaptive.next(adaptive.initialize(), cohort)
    second = adaptive.next(first.state, cohort)
    clips = [output.metrics["release"]["metrics"] for output in (first, second)]
    assert [list(clip) for clip in clips] == [list(clips[0])] * 2
    assert small_cohorts.leaves(clips[0])[0] == pytest.approx(0.3), "the clip before the round"
    assert small_cohorts.leaves(clips[1])[0] != small_cohorts.leaves(clips[0])[0]
    assert "dp_accounting" in type(events["adaptive"]).__module__


def test_it_is_a_learning_process() -> None:
    process = _process("gaussian")
    assert isinstance(process, tff.learning.templates.LearningProcess)
    state = process.initialize()
    assert isinstance(state, tff.learning.templates.LearningAlgorithmState)
    weights = process.get_model_weights(state)
    assert isinstance(weights, tff.learning.models.ModelWeights)
    doubled = tf.nest.map_structure(lambda w: 2 * np.asarray(w), weights)
    changed = process.set_model_weights(state, doubled)
    small_cohorts.assert_states_equal(process.get_model_weights(changed), doubled)
    small_cohorts.assert_states_equal(changed._replace(global_model_weights=weights), state)


def test_the_aggregation_can_be_merged() -> None:
    """TFF splits the round into work, accumulate, merge and update: it may run spread out."""
    form = tff.backends.mapreduce.get_map_reduce_form_for_computation(_process("adaptive").next)
    total = form.work.type_signature.result[0]
    assert "accumulated" in str(total) and "metrics" in str(total)
    merge = form.merge.type_signature
    assert merge.parameter[0].is_equivalent_to(merge.result)


def test_type_of_the_round() -> None:
    signature = _process("gaussian").next.type_signature
    assert signature.parameter[1].compact_representation() == (
        "{<features=<inputs=float32[?,4]>,labels=int32[?],row_splits=int64[?],seeds=int64[?,2]>}"
        "@CLIENTS"
    )
    assert signature.result.metrics.member["train"].compact_representation() == (
        "<loss_sum=float32,examples=int64,clients=int64,clients_not_finite=int64,"
        "clients_without_rows=int64>"
    )


def test_block_of_another_type_is_refused_with_both_types() -> None:
    process = _process("gaussian")
    block = small_cohorts.blocks(small_cohorts.clients(), num_blocks=1)[0]
    wider, renamed = collections.OrderedDict(block), collections.OrderedDict(block)
    wider["features"] = collections.OrderedDict(inputs=np.zeros([59, 5], np.float32))
    with pytest.raises(TypeError, match=r"\(59, 5\).*\(None, 4\)"):
        process.next(process.initialize(), [wider])
    renamed["features"] = collections.OrderedDict(usage=block["features"]["inputs"])
    # TFF itself takes features by place and would not notice other names; check_block does.
    model = small_cohorts.model("mlp")
    check_block(model, block)
    with pytest.raises(InputError, match=r"float32\[59,5\].*float32\[\?,4\]"):
        check_block(model, wider)
    with pytest.raises(InputError, match=r"<usage=.*<inputs="):
        check_block(model, renamed)


def test_query_with_another_result_is_refused_with_both_types() -> None:
    """A query that returns update and weight together, which no server step can take."""
    with pytest.raises(
        TypeError, match=r"update=.*weight=float32.*trainable weights <float32\[4,1\]"
    ):
        small_cohorts.process(
            small_cohorts.model("logistic_regression"), small_cohorts.UpdateAndWeightSum()
        )
