"""Builds the parts of an experiment and checks them against each other, before anything runs."""

import dataclasses
import functools
import os
from typing import Any

import numpy as np
import tensorflow_federated as tff

from fl_research import randomness
from fl_research.client_evaluator import ClientEvaluator, Evaluation
from fl_research.data.blocks import cut_into_blocks
from fl_research.errors import InputError
from fl_research.experiment_config import ExperimentConfig, ResolvedPrivacy
from fl_research.learning.client_update import check_block
from fl_research.learning.evaluation import build_evaluation
from fl_research.learning.learning_process import build_learning_process
from fl_research.learning.optimizers import build_optimizer
from fl_research.models import registry as models
from fl_research.privacy.mechanisms import registry as mechanisms
from fl_research.privacy.noise_self_test import noise_self_test
from fl_research.privacy.plan import PlanSetting, PrivacyPlan
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


def build_parts(
    task: FederatedTask, config: ExperimentConfig, privacy: ResolvedPrivacy
) -> ExperimentParts:
    """Builds plan, model, process and evaluation.

    Args:
      task: Client data, unit and metric.
      config: The run's settings.
      privacy: Sampler and mechanism settings.

    Raises:
      InputError: The data does not fit the model, or the noise that the plan draws is not the
        noise that it declares.
    """
    setting = PlanSetting(
        sampling=privacy.sampling,
        noise_key=_noise_key(config.noise_seed),
        weighting=config.client_update.weighting,
    )
    plan = mechanisms.load(config.mechanism).make_plan(privacy.mechanism_config, setting)
    self_test = noise_self_test(plan)
    if self_test and not self_test["passed"]:
        raise InputError(
            f"clip_norm={plan.details['clip_norm']} gives noise of standard deviation "
            f"{self_test['measured_stddev']:g} where {self_test['declared_stddev']:g} is declared; "
            "take a clip norm and a noise multiplier that float32 can hold"
        )
    model = models.load(config.model).build(
        config.model_config(), num_inputs=task.num_inputs, seed=config.seed
    )
    nobody = np.zeros(0, np.int64)
    check_block(model, cut_into_blocks(task.train, nobody, num_blocks=1, seed=0, round_number=0)[0])
    client_optimizer = build_optimizer(config.client_optimizer)
    server_optimizer = build_optimizer(config.server_optimizer)

    @functools.cache
    def built_evaluation() -> tff.Computation:
        """Built when it is first called: the first round need not wait for it."""
        return build_evaluation(model)

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
            query=plan.query,
            server_optimizer=server_optimizer,
        ),
        evaluation=evaluation,
        validation=ClientEvaluator(evaluation, task.validation, num_blocks=blocks)
        if task.validation.num_rows
        else None,
        noise_self_test=self_test,
    )


def _noise_key(noise_seed: int | None) -> tuple[int, int]:
    """The key of the run's noise: from the seed, or new from the system's entropy."""
    if noise_seed is None:
        words = np.frombuffer(os.urandom(16), np.int64)
    else:
        words = randomness.key(noise_seed, "noise")
    return int(words[0]), int(words[1])
