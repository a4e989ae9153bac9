"""The parts of an experiment: which seeds fix what, and what is refused before a round runs."""

import dataclasses

import numpy as np
import pytest

from fl_research import run_facts
from fl_research.data.clients import clients_by_rows
from fl_research.errors import InputError
from fl_research.experiment_config import ExperimentConfig, resolve_privacy
from fl_research.experiment_parts import ExperimentParts, build_parts
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.optimizers import OptimizerConfig
from fl_research.task import FederatedTask
from fl_research.training_config import TrainingConfig
from tests.learning import small_cohorts

pytestmark = pytest.mark.usefixtures("tff_runtime")


def _parts(*, noise_seed: int | None, seed: int = 0) -> ExperimentParts:
    """The parts of a private MLP on 30 small clients."""
    return _parts_and_config(noise_seed=noise_seed, seed=seed)[0]


def _parts_and_config(
    *, noise_seed: int | None, seed: int = 0
) -> tuple[ExperimentParts, ExperimentConfig]:
    """The same, and the settings."""
    clients = small_cohorts.clients([3, 1, 4] * 10)
    task = FederatedTask(
        name="churn_prevention",
        train=clients,
        validation=clients.select(np.zeros(0, np.int64)),
        test=clients,
        objective=small_cohorts.OBJECTIVE,
        unit="one customer",
        unit_contains="all rows of one customer",
        feature_names=("a", "b", "c", "d"),
        preparation={},
        data_facts={},
    )
    config = ExperimentConfig(
        training=TrainingConfig(
            rounds=2,
            seed=seed,
            num_blocks=2,
            evaluate_every=1,
            early_finish_patience=0,
            target_epsilon=3.0,
            delta=1e-3,
        ),
        seed=seed,
        sampling="poisson",
        clients_per_round=10,
        sampling_rate=None,
        mechanism="gaussian",
        mechanism_parameters={"clip_norm": 1.0},
        noise_multiplier=None,
        model="mlp",
        model_parameters={"hidden_sizes": (3,)},
        client_update=ClientUpdateConfig(batch_size=4),
        client_optimizer=OptimizerConfig(name="sgd", learning_rate=0.5),
        server_optimizer=OptimizerConfig(name="sgd", learning_rate=1.0),
        baselines=False,
        noise_seed=noise_seed,
    )
    return build_parts(task, config, resolve_privacy(config, clients_by_rows(clients))), config


def _weights_after_an_empty_round(parts: ExperimentParts) -> list[np.ndarray]:
    """The start plus the noise of one release: nobody takes part."""
    nobody = small_cohorts.blocks(parts.task.train, num_blocks=2, chosen=[])
    state = parts.process.next(parts.process.initialize(), nobody).state
    return small_cohorts.leaves(parts.process.get_model_weights(state))


def test_noise_seed_fixes_the_noise_and_no_seed_never_does() -> None:
    """With it the same bits; without it two parts agree with probability about 2**-128."""
    same = [_weights_after_an_empty_round(_parts(noise_seed=5)) for _ in range(2)]
    for one, other in zip(*same, strict=True):
        np.testing.assert_array_equal(one, other)
    fresh = [_weights_after_an_empty_round(_parts(noise_seed=None)) for _ in range(2)]
    assert all((one != other).any() for one, other in zip(*fresh, strict=True))
    assert all((one != other).any() for one, other in zip(same[0], fresh[0], strict=True))


def test_seed_fixes_the_start() -> None:
    """The MLP starts from the seed; another seed starts elsewhere."""
    start = [_parts(noise_seed=1, seed=seed).model.initial_weights[0][0] for seed in (3, 3, 4)]
    np.testing.assert_array_equal(start[0], start[1])
    assert (start[0] != start[2]).any()


def test_noise_is_tested_before_anything_runs() -> None:
    """The parts carry the self-test of the calibrated noise."""
    parts = _parts(noise_seed=None)
    assert parts.noise_self_test is not None and parts.noise_self_test["passed"]
    assert parts.noise_self_test["declared_stddev"] == pytest.approx(
        parts.plan.details["noise_stddev_of_sum"]
    )
    assert parts.validation is None


def test_the_facts_say_how_clients_were_trained() -> None:
    """Not that it was left to the program."""
    parts, config = _parts_and_config(noise_seed=None)
    assert config.client_update.execution == "auto"
    said = run_facts.facts(parts.task, config, parts, "a command")["client_update"]
    assert said["execution"] == "stacked" and said["batch_size"] == 4


def test_a_limit_that_empties_the_cohorts_is_refused() -> None:
    """Ten rounds, each client wanted in five of them, allowed in two."""
    _, config = _parts_and_config(noise_seed=None)
    limited = dataclasses.replace(
        config,
        training=dataclasses.replace(config.training, rounds=10),
        sampling="min_separation",
        clients_per_round=15,
        min_separation=2,
        max_participations=2,
    )
    with pytest.raises(InputError, match="max_participations=2 is less than the 5 times"):
        resolve_privacy(limited, {4: 30})
