"""Builds the parts of an experiment and checks them against each other, before anything runs."""

import dataclasses
import functools
import os
from typing import Any

import numpy as np
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fl_research import randomness
from fl_research.audit.canary_query import CanaryQuery
from fl_research.audit.run_audit import Canaries, plan_canaries
from fl_research.client_evaluator import ClientEvaluator, Evaluation
from fl_research.data.blocks import cut_into_blocks
from fl_research.errors import InputError
from fl_research.experiment_config import ExperimentConfig, ResolvedPrivacy
from fl_research.learning.aggregation import update_specs
from fl_research.learning.client_update import check_block
from fl_research.learning.evaluation import build_evaluation
from fl_research.learning.learning_process import build_learning_process
from fl_research.learning.optimizers import build_optimizer
from fl_research.models import registry as models
from fl_research.privacy.mechanisms import registry as mechanisms
from fl_research.privacy.noise_self_test import noise_self_test
from fl_research.privacy.plan import AccountingSetting, PlanSetting, PrivacyPlan
from fl_research.privacy.private_metrics import with_private_metrics
from fl_research.task import FederatedTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentParts:
    """What a run is made of.

    Attributes:
      task: Client data, unit and metric.
      plan: Query, sampler and expected event.
      model: The model at its start.
      client_optimizer: The optimizer of the local training.
      server_optimizer: The optimizer that applies the mean update.
      process: The rounds.
      evaluation: The federated evaluation, built when it is first called.
      validation: The evaluation on the validation clients, None without such clients.
      noise_self_test: Measured against declared noise; None for a mechanism without noise.
      canaries: Of the privacy audit; None without one.
    """

    task: FederatedTask
    plan: PrivacyPlan
    model: tff.learning.models.FunctionalModel
    client_optimizer: tff.learning.optimizers.Optimizer
    server_optimizer: tff.learning.optimizers.Optimizer
    process: tff.learning.templates.LearningProcess
    evaluation: Evaluation
    validation: ClientEvaluator | None
    noise_self_test: dict[str, Any] | None
    canaries: Canaries | None = None


def build_parts(
    task: FederatedTask, config: ExperimentConfig, privacy: ResolvedPrivacy
) -> ExperimentParts:
    """Builds plan, model, process and evaluation.

    Args:
      task: Client data, unit and metric.
      config: The run's settings, with the seed that the cohorts are drawn from.
      privacy: Sampler and mechanism settings.

    Raises:
      InputError: The data does not fit the model, canaries do not fit the mechanism, or the noise
        that the plan draws is not the noise that it declares.
    """
    setting = PlanSetting(
        **_fields_of(privacy.setting),
        noise_key=_noise_key(config.noise_seed),
        weighting=config.client_update.weighting,
    )
    plan = mechanisms.load(config.mechanism).make_plan(privacy.mechanism_config, setting)
    if config.private_metrics is not None:
        plan = with_private_metrics(plan, config.private_metrics)
    self_test = noise_self_test(plan)
    if self_test and not self_test["passed"]:
        raise InputError(
            f"clip_norm={plan.details['clip_norm']} gives noise of standard deviation "
            f"{self_test['measured_stddev']:g} where {self_test['declared_stddev']:g} is declared; "
            "take a clip norm and a noise multiplier that float32 can hold"
        )
    model = models.load(config.model).build(
        config.model_config(),
        row_types=task.train.row_types,
        objective=task.objective,
        seed=config.seed,
    )
    canaries = _canaries(config, plan)
    nobody = np.zeros(0, np.int64)
    check_block(model, cut_into_blocks(task.train, nobody, num_blocks=1, seed=0, round_number=0)[0])
    client_optimizer = build_optimizer(config.client_optimizer)
    server_optimizer = build_optimizer(config.server_optimizer)

    @functools.cache
    def built_evaluation() -> tff.Computation:
        """Built when it is first called: the first round need not wait for it."""
        return build_evaluation(model, task.objective)

    def evaluation(weights: Any, cohort: Any) -> Any:
        """The federated evaluation."""
        return built_evaluation()(weights, cohort)

    blocks = config.training.num_blocks
    return ExperimentParts(
        task=task,
        plan=plan,
        model=model,
        client_optimizer=client_optimizer,
        server_optimizer=server_optimizer,
        process=build_learning_process(
            model,
            client_update=config.client_update,
            client_optimizer=client_optimizer,
            query=_query(plan, canaries, update_specs(model)),
            server_optimizer=server_optimizer,
            example_privacy=plan.example_privacy,
        ),
        evaluation=evaluation,
        validation=ClientEvaluator(
            evaluation, task.validation, objective=task.objective, num_blocks=blocks
        )
        if task.validation.num_rows
        else None,
        noise_self_test=self_test,
        canaries=canaries,
    )


def _canaries(config: ExperimentConfig, plan: PrivacyPlan) -> Canaries | None:
    """The canaries of the audit, if there is one."""
    if not config.audit_canaries:
        return None
    training = config.training
    return plan_canaries(
        plan, canaries=config.audit_canaries, rounds=training.rounds, seed=training.seed
    )


def _query(plan: PrivacyPlan, canaries: Canaries | None, specs: Any) -> tfp.DPQuery:
    """The query of the rounds: the plan's, with the canaries if there are any."""
    query = plan.query(specs)
    if canaries is None:
        return query
    return CanaryQuery(query, canaries=canaries, update_specs=specs)


def _fields_of(setting: AccountingSetting) -> dict[str, Any]:
    """The setting's values by name."""
    return {f.name: getattr(setting, f.name) for f in dataclasses.fields(setting)}


def _noise_key(noise_seed: int | None) -> tuple[int, int]:
    """The key of the run's noise: from the seed, or new from the system's entropy."""
    if noise_seed is None:
        words = np.frombuffer(os.urandom(16), np.int64)
    else:
        words = randomness.key(noise_seed, "noise")
    return int(words[0]), int(words[1])
