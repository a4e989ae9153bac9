"""The wiring of an experiment, in order: plan, model, process, rounds, evaluation, report.

Everything that can be wrong is built before the run's folder holds anything; what happened is read
back from the folder's records when the report is written.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fl_research import baselines, cohort_seed, final_model, randomness
from fl_research.checkpoints import CheckpointStore
from fl_research.data.blocks import cut_into_blocks
from fl_research.errors import InputError
from fl_research.evaluation_record import ClientEvaluator, without_undefined
from fl_research.experiment_config import ExperimentConfig, ResolvedPrivacy
from fl_research.learning.client_update import check_block
from fl_research.learning.evaluation import build_evaluation
from fl_research.learning.learning_process import build_learning_process
from fl_research.learning.optimizers import OptimizerConfig, build_optimizer
from fl_research.models import registry as models
from fl_research.privacy.events import event_to_json
from fl_research.privacy.ledger import Ledger
from fl_research.privacy.mechanisms import registry as mechanisms
from fl_research.privacy.noise_self_test import noise_self_test
from fl_research.privacy.plan import PlanSetting, PrivacyPlan
from fl_research.run_directory import RunDirectory
from fl_research.run_record import RunRecord
from fl_research.task import FederatedTask
from fl_research.tensorboard import TensorBoardWriter
from fl_research.training_loop import (
    Progress,
    Records,
    TrainingConfig,
    TrainingLoop,
    TrainingOutcome,
    payloads,
    realised_participation,
)


def run(
    task: FederatedTask,
    config: ExperimentConfig,
    privacy: ResolvedPrivacy,
    directory: RunDirectory,
    *,
    command: str,
    progress: Progress,
) -> None:
    """Trains, evaluates and records one run, or goes on with it; the report is written elsewhere.

    Args:
      task: Client data, unit and metric.
      config: The run's settings.
      privacy: Sampler and mechanism settings, from `experiment_config.resolve_privacy`.
      directory: The run's folder, open.
      command: The command that was typed, for the record.
      progress: Told of each round.

    Raises:
      InputError: A setting is wrong, or the folder's records do not fit the run.
      WorkerError: TFF's worker died; the same command resumes.
    """
    trainer = _Trainer(task, config, privacy)
    with Ledger.open(directory.ledger_path) as ledger:
        if payloads(ledger, "completed"):
            return
        _bind_cohorts(ledger, trainer, directory)
        _bind_ledger(ledger, trainer, directory)
        records = Records(
            directory=directory,
            ledger=ledger,
            checkpoints=CheckpointStore(directory.checkpoints_path),
        )
        record = RunRecord(directory, trainer.facts(command))
        record.write("running")
        try:
            with TensorBoardWriter(directory.tensorboard_path) as tensorboard:
                outcome = trainer.train(records, [progress, tensorboard])
            released = [payload["round"] for payload in payloads(ledger, "release")]
            participation = realised_participation(trainer.plan, trainer.cohort_seed, released)
            directory.write_json("evaluation.json", trainer.evaluate(outcome, progress))
        except BaseException as error:
            interrupted = isinstance(error, (KeyboardInterrupt, SystemExit))
            record.write("interrupted" if interrupted else "failed")
            raise
        trainer.save_model(outcome, directory)
        record.write(
            outcome.status,
            rounds_completed=outcome.rounds_completed,
            participation=participation,
        )
        ledger.append("completed", directory.digests() | {"status": outcome.status})


def _bind_cohorts(ledger: Ledger, trainer: "_Trainer", directory: RunDirectory) -> None:
    """Gives the trainer the secret seed of the run's cohorts, unless it must be repeatable."""
    if trainer.config.noise_seed is None:
        begun = payloads(ledger, "plan")
        trainer.cohort_seed = cohort_seed.secret_seed(
            directory.path,
            expected_sha256=begun[0]["seeds"]["cohort_seed_sha256"] if begun else None,
        )


def _bind_ledger(ledger: Ledger, trainer: "_Trainer", directory: RunDirectory) -> None:
    """Writes the plan as the ledger's first entry, or checks that it is the same plan."""
    plan = trainer.ledger_plan()
    written = payloads(ledger, "plan")
    if not written:
        ledger.append("plan", plan)
        return
    for name in plan.keys() | written[0].keys():
        if plan.get(name) != written[0].get(name):
            raise InputError(
                f"{directory.ledger_path} was begun with {name}="
                f"{written[0].get(name)}, now it is {plan.get(name)} (the data changed?); take "
                "another --run_name"
            )


class _Trainer:
    """The parts of one experiment, built and checked against each other once."""

    def __init__(
        self, task: FederatedTask, config: ExperimentConfig, privacy: ResolvedPrivacy
    ) -> None:
        self.task, self.config = task, config
        self.cohort_seed = config.seed
        self.client_update = config.client_update
        self.client_optimizer = build_optimizer(config.client_optimizer)
        self.server_optimizer = build_optimizer(config.server_optimizer)
        self.plan: PrivacyPlan = mechanisms.load(config.mechanism).make_plan(
            privacy.mechanism_config,
            PlanSetting(
                sampling=privacy.sampling,
                noise_key=_noise_key(config.noise_seed),
                weighting=self.client_update.weighting,
            ),
        )
        family = models.load(config.model)
        self.model_config = family.Config(**config.model_parameters)
        self.model = family.build(self.model_config, num_inputs=task.num_inputs, seed=config.seed)
        self.process = build_learning_process(
            self.model,
            client_update=self.client_update,
            client_optimizer=self.client_optimizer,
            query=self.plan.query,
            server_optimizer=self.server_optimizer,
        )
        self.noise_self_test = noise_self_test(self.plan)
        if self.noise_self_test and not self.noise_self_test["passed"]:
            raise RuntimeError(
                f"the noise that was drawn is not the declared one: "
                f"{self.noise_self_test}; nothing was trained"
            )
        check_block(self.model, self._no_clients())
        self.evaluation = build_evaluation(self.model)
        self.validation = self._evaluator(task.validation) if task.validation.num_rows else None

    def _no_clients(self) -> Any:
        """A block without clients: it has the types of every other one."""
        nobody = np.zeros(0, np.int64)
        return cut_into_blocks(self.task.train, nobody, num_blocks=1, seed=0, round_number=0)[0]

    def _evaluator(self, clients: Any) -> ClientEvaluator:
        """The federated evaluation on some clients."""
        return ClientEvaluator(self.evaluation, clients, num_blocks=self.config.num_blocks)

    def train(self, records: Records, listeners: Sequence[Progress]) -> TrainingOutcome:
        """Runs the rounds."""
        config = self.config
        loop = TrainingLoop(
            self.process,
            clients=self.task.train,
            plan=self.plan,
            evaluate=self.validation.pooled if self.validation else None,
            config=TrainingConfig(
                rounds=config.rounds,
                seed=self.cohort_seed,
                num_blocks=config.num_blocks,
                evaluate_every=config.evaluate_every,
                early_finish_patience=config.early_finish_patience,
                primary_metric=self.task.primary_metric,
                target_epsilon=config.target_epsilon,
                delta=config.delta,
            ),
            records=records,
            listeners=listeners,
        )
        return loop.run()

    def evaluate(self, outcome: TrainingOutcome, progress: Progress) -> dict[str, Any]:
        """The final figures, those of the baselines and the noise self-test: evaluation.json."""
        evaluator = self._evaluator(self.task.test)
        record = evaluator.record(self.process.get_model_weights(outcome.state))
        return record | {
            "primary_metric": self.task.primary_metric,
            "split": "test",
            "test": without_undefined(record["test"]),
            "baselines": self._baselines(evaluator, progress) if self.config.baselines else {},
            "noise_self_test": self.noise_self_test,
        }

    def _baselines(
        self, evaluator: ClientEvaluator, progress: Progress
    ) -> dict[str, dict[str, float | None]]:
        """Metrics of the models that the run is compared with, by name."""
        progress.note("training the baselines: without privacy, and central")
        task, config = self.task, self.config
        open_weights = baselines.train_without_privacy(
            self.model,
            clients=task.train,
            sampling=self.plan.sampling,
            client_update=self.client_update,
            client_optimizer=self.client_optimizer,
            server_optimizer=self.server_optimizer,
            rounds=config.rounds,
            seed=self.cohort_seed,
            num_blocks=config.num_blocks,
        )
        central_weights = baselines.train_central(
            self.model,
            clients=task.train,
            validate=self.validation.pooled if self.validation else None,
            metric=task.primary_metric,
            batch_size=self.client_update.batch_size,
            seed=config.seed,
        )
        return {
            "without_privacy": without_undefined(evaluator.pooled(open_weights)),
            "central": without_undefined(evaluator.pooled(central_weights)),
            "trivial": without_undefined(baselines.trivial_metrics(task.train, task.test)),
        }

    def save_model(self, outcome: TrainingOutcome, directory: RunDirectory) -> None:
        """Writes final_model/."""
        final_model.save(
            directory.final_model_path,
            model=self.model,
            weights=self.process.get_model_weights(outcome.state),
            description=self._model_record()
            | {
                "features": list(self.task.feature_names),
                "schema": self.task.data_record.get("schema"),
                "rounds": outcome.rounds_completed,
            },
            num_inputs=self.task.num_inputs,
        )

    def _model_record(self) -> dict[str, Any]:
        """What the records say of the model."""
        weights = (*self.model.initial_weights[0], *self.model.initial_weights[1])
        return {
            "name": self.config.model,
            "parameters": int(sum(np.size(weight) for weight in weights)),
            "config": dataclasses.asdict(self.model_config),
        }

    def facts(self, command: str) -> dict[str, Any]:
        """What run.json says that does not change while the run lasts."""
        config, task = self.config, self.task
        data = {name: value for name, value in task.data_record.items() if name != "schema"}
        return {
            "use_case": task.name,
            "command": command,
            "rounds_planned": config.rounds,
            "seeds": {"seed": config.seed, "noise_seed": config.noise_seed},
            "model": self._model_record(),
            "client_update": dataclasses.asdict(self.client_update),
            "client_optimizer": _stated(config.client_optimizer),
            "server_optimizer": _stated(config.server_optimizer),
            "data": data | {"unit": task.unit, "unit_contains": task.unit_contains},
            "num_blocks": config.num_blocks,
            "evaluate_every": config.evaluate_every,
            "early_finish": config.early_finish_patience > 0,
        }

    def ledger_plan(self) -> Mapping[str, Any]:
        """The first entry of the ledger: all that the accounting needs to know."""
        plan, config = self.plan, self.config
        repeatable = config.noise_seed is not None
        return {
            "use_case": self.task.name,
            "mechanism": plan.mechanism,
            "details": plan.details,
            "sampling": plan.sampling.to_dict(),
            "delta": config.delta,
            "target_epsilon": config.target_epsilon,
            "neighboring_relation": plan.neighboring_relation.name.lower(),
            "sensitivity": plan.sensitivity if np.isfinite(plan.sensitivity) else None,
            "expected_release_event": plan.expected_release_event
            and event_to_json(plan.expected_release_event),
            "unit": self.task.unit,
            "rounds_planned": config.rounds,
            "seeds": {
                "seed": config.seed,
                "noise": "from --noise_seed" if repeatable else "fresh entropy",
                "cohorts": "from --seed" if repeatable else "secret",
                "cohort_seed_sha256": None if repeatable else cohort_seed.sha256(self.cohort_seed),
            },
            "data_sha256": self.task.data_record.get("sha256"),
        }


def _stated(config: OptimizerConfig) -> dict[str, Any]:
    """The settings of an optimizer that are not left at TFF's defaults."""
    return {name: value for name, value in dataclasses.asdict(config).items() if value is not None}


def _noise_key(noise_seed: int | None) -> tuple[int, int]:
    """The key of the run's noise: from the seed, or new from the system's entropy."""
    if noise_seed is None:
        words = np.frombuffer(os.urandom(16), np.int64)
    else:
        words = randomness.key(noise_seed, "noise")
    return int(words[0]), int(words[1])
