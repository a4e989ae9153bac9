"""The ways to train a block's clients compute one round: in a loop, and stacked.

The loop is the reference; test_client_update.py has the arithmetic by hand.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_privacy as tfp

from fl_research.learning import aggregation, learning_process
from fl_research.learning.client_update import LocalTraining
from fl_research.learning.visiting_order import visiting_order
from fl_research.models import mlp
from tests.learning import small_cohorts, traced_blocks

POPULATION = len(small_cohorts.SIZES)
WITH_ROWS = [client for client, size in enumerate(small_cohorts.SIZES) if size]

MECHANISMS = {
    "uniform": {"mechanism": "none"},
    "weighted": {"mechanism": "none", "weighting": "examples"},
    "gaussian": {"mechanism": "gaussian", "clip_norm": 0.1, "noise_multiplier": 0.5},
    "adaptive": {"mechanism": "adaptive_gaussian", "clip_norm": 0.1, "noise_multiplier": 0.5},
}
# What adds nothing to a case takes the first value. 4 batches end inside the second epoch of some
# clients, and inside the first of others.
LEVELS = {
    "optimizer": tuple(traced_blocks.OPTIMIZERS),
    "batch_size": (1, 3, 8, 100),
    "mechanism": tuple(MECHANISMS),
    "clients_at_once": (100, 3, 1),
    "local_epochs": (2, 1),
    "local_steps": (None, 4),
    "model": ("mlp", "logistic_regression"),
    "num_blocks": (1, 3),
}

Case = dict[str, Any]


def _pairs(case: Case) -> set:
    """Every pair of settings that a case tries together."""
    return set(itertools.combinations(case.items(), 2))


def _covering_cases() -> list[Case]:
    """Each optimizer with each batch size, the rest chosen so that every pair is tried."""
    names, left = list(LEVELS), set()
    for (a, values), (b, others) in itertools.combinations(LEVELS.items(), 2):
        left |= {((a, value), (b, other)) for value in values for other in others}

    def gain(case: Case) -> int:
        """What a case adds; pairs of settings with many values have the fewest chances."""
        new = _pairs(case) & left
        return sum(len(LEVELS[a]) * len(LEVELS[b]) for (a, _), (b, _) in new)

    cases = []
    for chosen in itertools.product(*(LEVELS[name] for name in names[:2])):
        rest = itertools.product(*(LEVELS[name] for name in names[2:]))
        candidates = [dict(zip(names, (*chosen, *values), strict=True)) for values in rest]
        cases.append(max(candidates, key=gain))
        left -= _pairs(cases[-1])
    assert not left, f"never tried together: {left}"
    return cases


def _id(case: Case) -> str:
    return "-".join(str(value) for value in case.values())


def _after_two_rounds(
    training: LocalTraining, query: tfp.DPQuery, num_blocks: int, block_update: Callable
) -> Any:
    """The state after two rounds with all clients and SGD at the server; metrics of both.

    One more block has no clients.
    """
    data, state, all_metrics = small_cohorts.clients(), traced_blocks.start(training, query), []
    for round_number in (1, 2):
        blocks = small_cohorts.blocks(data, num_blocks=num_blocks, round_number=round_number)
        blocks += small_cohorts.blocks(data, num_blocks=1, chosen=[])
        message = traced_blocks.message(query, state)
        totals = [block_update(message, tf.nest.map_structure(tf.constant, b)) for b in blocks]
        total = functools.reduce(functools.partial(aggregation.merge_totals, query), totals)
        server_optimizer = small_cohorts.optimizer("sgd", 1.0)
        state, metrics = learning_process.server_update(server_optimizer, query, state, total)
        all_metrics.append(tf.nest.map_structure(lambda t: t.numpy(), metrics["train"]))
    return state, all_metrics


def _assert_metrics_agree(one: Any, other: Any) -> None:
    """The loss to 1e-5 relative, every count exactly."""
    assert list(one) == list(other)
    for name, value in one.items():
        if name == "loss_sum":
            np.testing.assert_allclose(value, other[name], rtol=1e-5)
        else:
            assert value == other[name], name


def _assert_same_two_rounds(case: Case, execution: str) -> None:
    """Compares an execution with the loop: states to 1e-6, relative or absolute.

    Sums over the rows of a batch are taken in another order, which leaves a unit or two in the
    last place of float32 (1.2e-7 of values about 1; that is also the most that was seen).
    """
    case = dict(case)
    mechanism = MECHANISMS[case.pop("mechanism")]
    clients_at_once, num_blocks = case.pop("clients_at_once"), case.pop("num_blocks")
    query = small_cohorts.query(population=POPULATION, **mechanism)
    training = traced_blocks.training(**case, weighting=mechanism.get("weighting", "uniform"))
    expected, expected_metrics = _after_two_rounds(
        training, query, num_blocks, traced_blocks.block_update(training, query, "loop")
    )
    state, metrics = _after_two_rounds(
        training,
        query,
        num_blocks,
        traced_blocks.block_update(training, query, execution, clients_at_once),
    )
    small_cohorts.assert_states_close(state, expected, rtol=1e-6, atol=1e-6)
    for one, other in zip(metrics, expected_metrics, strict=True):
        _assert_metrics_agree(one, other)
    before, after = (
        np.concatenate([leaf.ravel() for leaf in small_cohorts.leaves(s.global_model_weights)])
        for s in (traced_blocks.start(training, query), state)
    )
    assert np.linalg.norm(after - before) > 0.01, "two rounds must move the model"


CASES = _covering_cases()
QUICK = {5, 14, 17}  # both models, three optimizers, every query but the uniform mean


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, id=_id(c), marks=[pytest.mark.slow] * (i not in QUICK))
        for i, c in enumerate(CASES)
    ],
)
def test_stacked_clients_compute_the_rounds_of_the_loop(case: Case) -> None:
    _assert_same_two_rounds(case, "stacked")


@pytest.mark.slow
@pytest.mark.usefixtures("tff_runtime")
@pytest.mark.parametrize("execution", ["auto", "stacked"])
def test_tff_runs_every_execution(execution: str) -> None:
    """Two rounds of two blocks in TFF's own runtime, states to 1e-6 of the loop's."""
    states = {}
    for chosen in ("loop", execution):
        process = small_cohorts.process(
            small_cohorts.model("mlp"),
            small_cohorts.query(population=POPULATION, **MECHANISMS["adaptive"]),
            execution=chosen,
            batch_size=4,
            local_epochs=2,
        )
        states[chosen] = process.initialize()
        for round_number in (1, 2):
            blocks = small_cohorts.blocks(
                small_cohorts.clients(), num_blocks=2, round_number=round_number
            )
            states[chosen] = process.next(states[chosen], blocks).state
    small_cohorts.assert_states_close(states[execution], states["loop"], rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------ clients that do not count

POISONS = ((0, np.nan), (-1, np.inf), (-1, np.nan))  # the client's first or last row


@pytest.mark.parametrize("model", ["logistic_regression", "mlp"])
def test_poisoned_client_changes_no_bit_of_a_stack(model: str) -> None:
    """Each client in turn, its first or its last row: the others' sums stay to the bit.

    That holds where every layer of the model fills whole vectors (multiples of 8 units), or has
    one unit, and where the block is one stack.
    """
    run = traced_blocks.sums(traced_blocks.training(model, batch_size=4, local_epochs=2), "stacked")
    for bad, (row, poison) in itertools.product(WITH_ROWS, POISONS):
        data = small_cohorts.clients()
        rows = data.features["inputs"][data.row_splits[bad] : data.row_splits[bad + 1]]
        rows[row, 2] = poison
        record, metrics = run(traced_blocks.one_block(data))
        others = [client for client in range(POPULATION) if client != bad]
        expected, expected_metrics = run(traced_blocks.one_block(data, others))
        small_cohorts.assert_states_equal(record, expected)
        assert metrics.pop("clients_not_finite") == 1 and metrics.pop("clients") == POPULATION
        assert expected_metrics.pop("clients_not_finite") == 0
        assert expected_metrics.pop("clients") == POPULATION - 1
        assert metrics == expected_metrics


@pytest.mark.parametrize("clients_at_once", [3, pytest.param(8, marks=pytest.mark.slow), 100])
def test_client_is_trained_as_if_it_were_alone(clients_at_once: int) -> None:
    """Where all others are poisoned, the sum is the client's update by the loop, to 1e-6.

    Layers of 5 and 3 units fill no whole vectors. Momentum would show any mixing of states.
    """
    model = mlp.build(
        mlp.Config(hidden_sizes=(5, 3)),
        row_types=small_cohorts.ROW_TYPES,
        objective=small_cohorts.OBJECTIVE,
        seed=5,
    )
    training = traced_blocks.training(
        model, "momentum", batch_size=3, local_epochs=2, weighting="examples"
    )
    run, loop = (
        traced_blocks.sums(training, "stacked", clients_at_once),
        traced_blocks.sums(training, "loop"),
    )
    for client in WITH_ROWS:
        data = small_cohorts.clients()
        alone, alone_metrics = loop(traced_blocks.one_block(data, [client]))
        inputs = data.features["inputs"]
        own = slice(data.row_splits[client], data.row_splits[client + 1])
        kept = inputs[own].copy()
        inputs[:] = np.nan
        inputs[own] = kept
        record, metrics = run(traced_blocks.one_block(data))
        small_cohorts.assert_states_close(record, alone, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(metrics["loss_sum"], alone_metrics["loss_sum"], rtol=1e-5)
        assert metrics["examples"] == record["weight"] == 2 * small_cohorts.SIZES[client]
        assert metrics["clients_not_finite"] == len(WITH_ROWS) - 1
        assert metrics["clients_without_rows"] == 1 and metrics["clients"] == POPULATION


EXECUTIONS = ["loop", "stacked"]


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_row_that_is_never_visited_harms_nobody(execution: str, shuffle: bool) -> None:
    """With one step of 3 rows, a client counts unless the NaN is in its first three rows.

    Shuffled, the first three are those of its order; each row of the client is tried.
    """
    client, client_rows = 2, small_cohorts.SIZES[2]
    training = traced_blocks.training(
        "logistic_regression", batch_size=3, local_steps=1, shuffle=shuffle
    )
    run = traced_blocks.sums(training, execution, 8)
    clean = traced_blocks.one_block(small_cohorts.clients())
    first = slice(clean["row_splits"][client], clean["row_splits"][client] + 3)
    order = visiting_order(
        *(tf.constant(clean[name]) for name in ("row_splits", "seeds")), epochs=1, shuffle=shuffle
    )[0]
    visited = {int(row) for row in order[first]}
    record, metrics = run(clean)
    assert metrics["clients_not_finite"] == 0
    counted = set()
    for row in range(clean["row_splits"][client], clean["row_splits"][client] + client_rows):
        block = tf.nest.map_structure(np.copy, clean)
        block["features"]["inputs"][row, 1] = np.nan
        poisoned, poisoned_metrics = run(block)
        if poisoned_metrics["clients_not_finite"] == 0:
            counted.add(row)
            small_cohorts.assert_states_equal(poisoned, record)
            assert poisoned_metrics == metrics
        else:
            assert poisoned_metrics["examples"] == metrics["examples"] - 3
            assert poisoned["weight"] == record["weight"] - 1
    assert len(counted) == client_rows - 3 and not counted & visited


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_client_with_finite_update_and_no_finite_loss(execution: str) -> None:
    """It counts in the sum; its loss and its examples are in no metric."""
    data = small_cohorts.clients()
    own = slice(data.row_splits[4], data.row_splits[5])
    # After the first step the logits overflow; at label 1 the gradient is then exactly zero.
    data.features["inputs"][own], data.labels[own] = 1e22, 1
    training = traced_blocks.training("logistic_regression", batch_size=4)
    run = traced_blocks.sums(training, execution, 8)
    record, metrics = run(traced_blocks.one_block(data))
    assert metrics["clients_not_finite"] == 0 and record["weight"] == len(WITH_ROWS)
    assert metrics["examples"] == sum(small_cohorts.SIZES) - small_cohorts.SIZES[4]
    others = [client for client in range(POPULATION) if client != 4]
    _, expected = run(traced_blocks.one_block(data, others))
    np.testing.assert_allclose(metrics["loss_sum"], expected["loss_sum"], rtol=1e-5)
    np.testing.assert_allclose(record["update"][0], 0.3 * 0.5 * 1e22, rtol=1e-5)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_client_whose_clipped_update_is_not_finite(execution: str) -> None:
    """A finite update of infinite float32 norm, which bare clipping turns to NaN, is left out."""
    data = small_cohorts.clients()
    own = slice(data.row_splits[4], data.row_splits[5])
    data.features["inputs"][own], data.labels[own] = 1e22, 1
    query = small_cohorts.BareClip(l2_norm_clip=0.5, stddev=0.0)
    training = traced_blocks.training("logistic_regression", batch_size=100)
    run = traced_blocks.block_update(training, query, execution, 8)
    message = traced_blocks.message(query, traced_blocks.start(training, query))
    others = [client for client in range(POPULATION) if client != 4]
    found, expected = (
        run(message, tf.nest.map_structure(tf.constant, traced_blocks.one_block(data, chosen)))
        for chosen in (None, others)
    )
    assert found["metrics"]["clients_not_finite"] == 1
    small_cohorts.assert_states_close(
        found["accumulated"], expected["accumulated"], rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(
        found["metrics"]["loss_sum"], expected["metrics"]["loss_sum"], rtol=1e-5
    )


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_blocks_with_nobody_at_work(execution: str) -> None:
    """No clients, one without rows, and nine of them: all sums are zero."""
    run = traced_blocks.sums(traced_blocks.training(batch_size=4, local_epochs=2), execution)
    data = small_cohorts.clients([0] * 9 + [2])
    for chosen in ([], [0], list(range(9))):
        record, metrics = run(traced_blocks.one_block(data, chosen))
        assert metrics.pop("clients") == metrics.pop("clients_without_rows") == len(chosen)
        assert not any(leaf.any() for leaf in small_cohorts.leaves((record, metrics)))
