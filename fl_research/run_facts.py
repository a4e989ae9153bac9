"""What the records say of a run before it starts: the ledger's plan and the facts of run.json."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from fl_research.experiment_config import ExperimentConfig
from fl_research.experiment_parts import ExperimentParts
from fl_research.learning import execution
from fl_research.learning.aggregation import update_specs
from fl_research.learning.local_training import LocalTraining
from fl_research.privacy.composition import relation_name
from fl_research.privacy.events import event_to_json
from fl_research.privacy.plan import PrivacyPlan
from fl_research.run import cohort_seed
from fl_research.task import FederatedTask

_KEPT_OUT = (
    "; of that, what was kept for validation and test is outside the guarantee, since metrics on "
    "it are released without noise"
)


def ledger_plan(
    task: FederatedTask, config: ExperimentConfig, parts: ExperimentParts
) -> Mapping[str, Any]:
    """Returns the ledger's first entry: all that the accounting needs to know.

    Args:
      task: The task of the run.
      config: The run's settings, with the seed that the cohorts are drawn from.
      parts: The run's parts.
    """
    plan, training = parts.plan, config.training
    repeatable = config.noise_seed is not None
    expected = plan.expected_release_event
    return {
        "use_case": task.name,
        "mechanism": plan.mechanism,
        "details": plan.details,
        "sampling": plan.sampling.to_dict(),
        "delta": training.delta,
        "target_epsilon": training.target_epsilon,
        "neighboring_relation": relation_name(plan.neighboring_relation),
        "sensitivity": plan.sensitivity if np.isfinite(plan.sensitivity) else None,
        "expected_release_event": None if expected is None else event_to_json(expected),
        "accounting_rule": plan.rule.to_dict(),
        "unit": _unit(task, plan),
        "rounds_planned": training.rounds,
        "early_finish": training.early_finish_patience > 0,
        "seeds": {
            "noise": "from --noise_seed" if repeatable else "fresh entropy",
            "cohorts": "from --seed" if repeatable else "secret",
            "seed": training.seed if repeatable else None,
            "cohort_seed_sha256": None if repeatable else cohort_seed.sha256(training.seed),
        },
        "data_sha256": task.data_facts.get("sha256"),
        **({"audit": {"canaries": config.audit_canaries}} if config.audit_canaries else {}),
    }


def _unit(task: FederatedTask, plan: PrivacyPlan) -> str:
    """What the guarantee is for, in words: the task's unit, or one record of it."""
    if plan.rule.unit == "record":
        return f"one record of {task.unit}"
    return task.unit


def facts(
    task: FederatedTask, config: ExperimentConfig, parts: ExperimentParts, command: str
) -> dict[str, Any]:
    """Returns what run.json says that does not change while the run lasts.

    Args:
      task: The task of the run.
      config: The run's settings.
      parts: The run's parts.
      command: The command that was typed.
    """
    data = {name: value for name, value in task.data_facts.items() if name != "schema"}
    return {
        "use_case": task.name,
        "command": command,
        "rounds_planned": config.training.rounds,
        "seeds": {"seed": config.seed, "noise_seed": config.noise_seed},
        "model": model_facts(config, parts),
        "client_update": _client_update_facts(config, parts),
        "client_optimizer": _optimizer_facts(config.client_optimizer),
        "server_optimizer": _optimizer_facts(config.server_optimizer),
        "data": data
        | {
            "unit": task.unit,
            "unit_contains": task.unit_contains + (_KEPT_OUT if task.test_clients_train else ""),
            "test_clients_train": task.test_clients_train,
        },
        "num_blocks": config.training.num_blocks,
        "evaluation_schedule": config.training.evaluation_schedule,
        "early_finish": config.training.early_finish_patience > 0,
        "projection_population": config.projection_population,
    }


def _client_update_facts(config: ExperimentConfig, parts: ExperimentParts) -> dict[str, Any]:
    """Returns the settings of local training, with the execution that "auto" came to."""
    training = LocalTraining(
        model=parts.model,
        optimizer=parts.client_optimizer,
        config=config.client_update,
        example_privacy=parts.plan.example_privacy,
    )
    query = parts.plan.query(update_specs(parts.model))
    chosen = execution.resolve(training, query)
    return {**dataclasses.asdict(config.client_update), "execution": chosen}


def model_facts(config: ExperimentConfig, parts: ExperimentParts) -> dict[str, Any]:
    """Returns the model's name, number of parameters and settings."""
    weights = (*parts.model.initial_weights[0], *parts.model.initial_weights[1])
    return {
        "name": config.model,
        "parameters": int(sum(np.size(weight) for weight in weights)),
        "config": dataclasses.asdict(config.model_config()),
    }


def _optimizer_facts(config: Any) -> dict[str, Any]:
    """An optimizer's name and those of its settings that are not left at TFF's default."""
    return {"name": config.name, "learning_rate": config.learning_rate, **config.settings()}
