"""The ways to train a block's clients compute one round: loop, stacked and compiled.

The loop is the reference; that it is right is tested in test_client_update.py.
"""

import collections
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fl_research.learning import aggregation, client_loop, learning_process, stacked_clients
from fl_research.learning.client_update import LocalTraining
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.models import mlp
from fl_research.stackable import layers
from fl_research.stackable.model import StackableModel
from tests.learning import small_cohorts

POPULATION = len(small_cohorts.SIZES)
NO_EMPTY = [client for client, size in enumerate(small_cohorts.SIZES) if size]

OPTIMIZERS = {
    "sgd": {"name": "sgd", "learning_rate": 0.3},
    "momentum": {"name": "sgd", "learning_rate": 0.2, "momentum": 0.5},
    "adagrad": {"name": "adagrad", "learning_rate": 0.1},
    **{
        name: {"name": name, "learning_rate": 0.02} for name in ("adam", "adamw", "rmsprop", "yogi")
    },
}
MECHANISMS = {
    "uniform": {"mechanism": "none"},
    "weighted": {"mechanism": "none", "weighting": "examples"},
    "gaussian": {"mechanism": "gaussian", "clip_norm": 0.1, "noise_multiplier": 0.5},
    "adaptive": {"mechanism": "adaptive_gaussian", "clip_norm": 0.1, "noise_multiplier": 0.5},
}
# 4 batches end inside the second epoch of most clients, and inside the first of some.
LEVELS = {
    "optimizer": tuple(OPTIMIZERS),
    "batch_size": (1, 3, 8, 100),
    "mechanism": tuple(MECHANISMS),
    "clients_at_once": (1, 3, 100),
    "local_epochs": (1, 2),
    "local_steps": (None, 4),
    "model": ("logistic_regression", "mlp"),
    "num_blocks": (1, 12),
}

Case = dict[str, Any]
Round = Callable[[Any, Sequence[Any]], tuple[Any, Any]]


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


def _training(
    model: Any = "mlp", optimizer: str = "sgd", *, weighting: str = "uniform", **config: Any
) -> LocalTraining:
    """Local training; a model by name, or one that is made already."""
    return LocalTraining(
        model=small_cohorts.model(model) if isinstance(model, str) else model,
        optimizer=small_cohorts.optimizer(**OPTIMIZERS[optimizer]),
        config=ClientUpdateConfig(weighting=weighting, **config),
    )


def _round(
    training: LocalTraining, query: tfp.DPQuery, execution: str, clients_at_once: int = 100
) -> Round:
    """Returns `(state, blocks) -> (state, metrics)` with plain SGD at the server.

    A block is trained in a graph that is traced once for blocks of any size, as TFF does it.
    """
    run: Callable = client_loop.block_update
    if execution != "loop":
        run = functools.partial(
            stacked_clients.block_update,
            clients_at_once=clients_at_once,
            compiled=execution == "compiled",
        )
    specs: list = []
    server_optimizer = small_cohorts.optimizer("sgd", 1.0)

    @functools.cache
    def block_update() -> Callable:
        return tf.function(
            lambda message, block: run(
                training, query, message["weights"], message["sample_params"], block
            ),
            autograph=False,
            input_signature=specs,
        )

    def run_round(state: Any, blocks: Sequence[Any]) -> tuple[Any, Any]:
        message = learning_process.server_message(query, state)
        message = tf.nest.map_structure(tf.convert_to_tensor, message)
        blocks = [tf.nest.map_structure(tf.constant, block) for block in blocks]
        if not specs:
            specs.append(tf.nest.map_structure(tf.TensorSpec.from_tensor, message))
            any_rows = lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype)  # noqa: E731
            specs.append(tf.nest.map_structure(any_rows, blocks[0]))
        totals = [block_update()(message, block) for block in blocks]
        total = functools.reduce(functools.partial(aggregation.merge_totals, query), totals)
        state, metrics = learning_process.server_update(server_optimizer, query, state, total)
        return state, {name: np.asarray(value) for name, value in metrics["train"].items()}

    return run_round


def _start(training: LocalTraining, query: tfp.DPQuery) -> Any:
    """The server's state before the first round."""
    server_optimizer = small_cohorts.optimizer("sgd", 1.0)
    return learning_process.initial_state(training.model, server_optimizer, query)


def _after_two_rounds(training: LocalTraining, query: Any, num_blocks: int, run: Round) -> Any:
    """The state after two rounds with all clients, and the metrics of both."""
    state, all_metrics = _start(training, query), []
    for round_number in (1, 2):
        blocks = small_cohorts.blocks(
            small_cohorts.clients(), num_blocks=num_blocks, round_number=round_number
        )
        state, metrics = run(state, blocks)
        all_metrics.append(metrics)
    return state, all_metrics


def _assert_metrics_agree(one: Any, other: Any) -> None:
    """The loss to 1e-5 relative, every count exactly."""
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
    training = _training(**case, weighting=mechanism.get("weighting", "uniform"))
    expected, expected_metrics = _after_two_rounds(
        training, query, num_blocks, _round(training, query, "loop")
    )
    state, metrics = _after_two_rounds(
        training, query, num_blocks, _round(training, query, execution, clients_at_once)
    )
    small_cohorts.assert_states_close(state, expected, rtol=1e-6, atol=1e-6)
    for one, other in zip(metrics, expected_metrics, strict=True):
        _assert_metrics_agree(one, other)
    before, after = (
        np.concatenate([leaf.ravel() for leaf in small_cohorts.leaves(s.global_model_weights)])
        for s in (_start(training, query), state)
    )
    assert np.linalg.norm(after - before) > 0.01, "two rounds must move the model"


_CASES = _covering_cases()


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, id=_id(c), marks=[pytest.mark.slow] * (i % 7 != 1))
        for i, c in enumerate(_CASES)
    ],
)
def test_stacked_clients_compute_the_rounds_of_the_loop(case: Case) -> None:
    _assert_same_two_rounds(case, "stacked")


def _compiled_case(**changes: Any) -> Case:
    """A case for a compiled stack, which has a size of its own."""
    return {
        "optimizer": "momentum",
        "batch_size": 8,
        "mechanism": "gaussian",
        "clients_at_once": stacked_clients.COMPILED_CLIENTS,
        "local_epochs": 2,
        "local_steps": None,
        "model": "mlp",
        "num_blocks": 1,
        **changes,
    }


COMPILED_CASES = [
    _compiled_case(),
    _compiled_case(optimizer="adam", batch_size=3, mechanism="weighted", local_steps=4),
    _compiled_case(optimizer="yogi", batch_size=1, mechanism="adaptive", num_blocks=12),
    _compiled_case(batch_size=100, local_epochs=1, model="logistic_regression", num_blocks=3),
    _compiled_case(optimizer="sgd", clients_at_once=3, model="logistic_regression"),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", COMPILED_CASES, ids=_id)
def test_compiled_clients_compute_the_rounds_of_the_loop(case: Case) -> None:
    _assert_same_two_rounds(case, "compiled")


@pytest.mark.slow
@pytest.mark.usefixtures("tff_runtime")
@pytest.mark.parametrize("execution", ["auto", "stacked", "compiled"])
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


# --------------------------------------------------------------- clients that do not count


def _sum_of_records(training: LocalTraining, execution: str, clients_at_once: int = 100) -> Any:
    """Returns `block -> (record, metrics)`, the plain sum over a block, as a graph."""
    run = _round(training, tfp.NoPrivacySumQuery(), execution, clients_at_once, bare=True)
    return run
