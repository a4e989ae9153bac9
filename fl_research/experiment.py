"""The wiring of an experiment, in order: parts, ledger, rounds, evaluation, model.

What can be wrong with the settings is found before the ledger is begun; what happened is in the
folder's records, from which `reports` writes the report.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from fl_research import baselines, run_facts
from fl_research.analysis import AnalysisContext
from fl_research.audit import run_audit
from fl_research.audit.canary_query import canary_directions
from fl_research.client_evaluator import ClientEvaluator
from fl_research.data.participation import realised_participation
from fl_research.errors import InputError
from fl_research.experiment_config import ExperimentConfig, ResolvedPrivacy
from fl_research.experiment_parts import ExperimentParts, build_parts
from fl_research.privacy import spending
from fl_research.privacy.ledger import Ledger, payloads
from fl_research.reports.progress import Progress
from fl_research.run import cohort_seed, final_model, search_log
from fl_research.run.checkpoints import CheckpointStore
from fl_research.run.run_directory import RunDirectory
from fl_research.run.run_status import RunStatus
from fl_research.run.tensorboard import TensorBoardWriter
from fl_research.task import FederatedTask
from fl_research.training_loop import RunOutputs, TrainingLoop, TrainingOutcome


def run(
    task: FederatedTask,
    config: ExperimentConfig,
    privacy: ResolvedPrivacy,
    directory: RunDirectory,
    *,
    command: str,
    progress: Progress,
    search: str | None = None,
) -> None:
    """Trains, evaluates and records one run, or goes on with it; the report is written elsewhere.

    Args:
      task: Client data, unit and metric.
      config: The run's settings.
      privacy: Sampler and mechanism settings, from `experiment_config.resolve_privacy`.
      directory: The run's folder, open.
      command: The command that was typed, for the records.
      progress: Told of each round.
      search: The hyperparameter search that the run is a trial of, if any: its log, beside the
        run's folder, has to know of the run before the run's ledger begins.

    Raises:
      InputError: A setting is wrong, or what is in the folder does not fit the run.
      WorkerError: TFF's worker died; the same command resumes.
    """
    with Ledger.open(directory.ledger_path) as ledger:
        if payloads(ledger.entries, "completed"):
            return
        config = _with_cohort_seed(config, ledger, directory)
        parts = build_parts(task, config, privacy)
        plan = run_facts.ledger_plan(task, config, parts)
        if search is not None:
            member = search_log.register(search, directory.path, ledger.entries, plan)
            plan = {**plan, "search": member}
        _bind_ledger(ledger, plan, directory)
        status = RunStatus(directory, run_facts.facts(task, config, parts, command))
        status.write("running")
        try:
            outcome = _train(parts, config, directory, ledger, progress)
            evaluation = _evaluate(parts, config, outcome, progress)
            found = _analyses(parts, config, outcome, directory, progress)
            evaluation["findings"] |= found
            for finding in found.values():
                evaluation["test"] |= finding.get("test_metrics", {})
            audited = _audit(parts, outcome, ledger, progress)
            directory.write_json("evaluation.json", evaluation | audited)
            _save_model(parts, config, outcome, directory)
        except BaseException as error:
            stopped = isinstance(error, (KeyboardInterrupt, SystemExit))
            status.write("interrupted" if stopped else "failed")
            raise
        released = [payload["round"] for payload in payloads(ledger.entries, "release")]
        status.write(
            outcome.status,
            rounds_completed=outcome.rounds_completed,
            participation=realised_participation(
                parts.plan.sampling, config.training.seed, released
            ),
        )
        ledger.append("completed", directory.digests() | {"status": outcome.status})


def _with_cohort_seed(
    config: ExperimentConfig, ledger: Ledger, directory: RunDirectory
) -> ExperimentConfig:
    """The config with the secret seed of the run's cohorts, unless it must be repeatable."""
    if config.noise_seed is not None:
        return config
    begun = payloads(ledger.entries, "plan")
    seed = cohort_seed.secret_seed(
        directory.path,
        expected_sha256=begun[0]["seeds"]["cohort_seed_sha256"] if begun else None,
    )
    return dataclasses.replace(config, training=dataclasses.replace(config.training, seed=seed))


def _bind_ledger(ledger: Ledger, plan: Mapping[str, Any], directory: RunDirectory) -> None:
    """Writes the plan as the ledger's first entry, or checks that it is the same plan."""
    begun = payloads(ledger.entries, "plan")
    if not begun and directory.run_path.exists():
        raise InputError(
            f"{directory.ledger_path} is gone, but the run had begun; restore it, or start anew "
            "with another --run_name"
        )
    if not begun:
        ledger.append("plan", plan)
        return
    for name in sorted(plan.keys() | begun[0].keys()):
        if plan.get(name) != begun[0].get(name):
            raise InputError(
                f"{directory.ledger_path} was begun with {name}={begun[0].get(name)}, now it is "
                f"{plan.get(name)} (has the data changed?); take another --run_name"
            )


def _train(
    parts: ExperimentParts,
    config: ExperimentConfig,
    directory: RunDirectory,
    ledger: Ledger,
    progress: Progress,
) -> TrainingOutcome:
    """Runs the rounds."""
    with TensorBoardWriter(directory.tensorboard_path) as tensorboard:
        loop = TrainingLoop(
            parts.process,
            clients=parts.task.train,
            plan=parts.plan,
            evaluate=parts.validation.pooled if parts.validation else None,
            set_up_evaluation=parts.validation.set_up if parts.validation else None,
            config=config.training,
            outputs=RunOutputs(
                directory=directory,
                ledger=ledger,
                checkpoints=CheckpointStore(directory.checkpoints_path),
            ),
            listeners=[progress, tensorboard],
        )
        return loop.run()


def _evaluate(
    parts: ExperimentParts, config: ExperimentConfig, outcome: TrainingOutcome, progress: Progress
) -> dict[str, Any]:
    """The final figures, those of the baselines, and the noise self-test: evaluation.json."""
    evaluator = ClientEvaluator(
        parts.evaluation,
        parts.task.test,
        objective=parts.task.objective,
        num_blocks=config.training.num_blocks,
    )
    weights = parts.process.get_model_weights(outcome.state)
    return {
        **evaluator.record(weights),
        "primary_metric": parts.task.primary_metric,
        "split": "test",
        "evaluated_on": parts.task.evaluated_on,
        "baselines": _baselines(parts, config, evaluator, progress) if config.baselines else {},
        "noise_self_test": parts.noise_self_test,
    }


def _baselines(
    parts: ExperimentParts, config: ExperimentConfig, evaluator: ClientEvaluator, progress: Progress
) -> dict[str, dict[str, float]]:
    """Metrics of the models that the run is compared with, by name."""
    task = parts.task
    found = {}
    if parts.plan.noise_at is not None:  # Else the run itself is without privacy.
        found["without_privacy"] = evaluator.pooled(_without_privacy(parts, config, progress))
    progress.note("training the central baseline")
    central_weights = baselines.central_weights(
        parts.model,
        objective=task.objective,
        clients=task.train,
        validate=parts.validation.pooled if parts.validation else None,
        batch_size=config.client_update.batch_size,
        seed=config.seed,
    )
    found["central"] = evaluator.pooled(central_weights)
    return found | task.objective.trivial(task.train, task.test)


def _without_privacy(parts: ExperimentParts, config: ExperimentConfig, progress: Progress) -> Any:
    """The weights that the run's own settings give without clip and noise."""
    training = config.training
    return baselines.train_without_privacy(
        parts.model,
        clients=parts.task.train,
        sampling=parts.plan.sampling,
        client_update=config.client_update,
        client_optimizer=parts.client_optimizer,
        server_optimizer=parts.server_optimizer,
        rounds=progress.steps("baseline without privacy", training.rounds),
        seed=training.seed,
        num_blocks=training.num_blocks,
    )


def _analyses(
    parts: ExperimentParts,
    config: ExperimentConfig,
    outcome: TrainingOutcome,
    directory: RunDirectory,
    progress: Progress,
) -> dict[str, Any]:
    """What the task's analyses found, by name."""
    context = AnalysisContext(
        task=parts.task,
        model=parts.model,
        weights=parts.process.get_model_weights(outcome.state),
        seed=config.seed,
        num_blocks=config.training.num_blocks,
        folder=directory.path,
        evaluation=parts.evaluation,
        note=progress.note,
    )
    found = {}
    for analysis in parts.task.analyses:
        progress.note(f"analysis: {analysis.name.replace('_', ' ')}")
        found[analysis.name] = analysis(context)
    return found


def _audit(
    parts: ExperimentParts, outcome: TrainingOutcome, ledger: Ledger, progress: Progress
) -> dict[str, Any]:
    """What the canaries show, for evaluation.json; empty without any."""
    canaries, rounds = parts.canaries, outcome.rounds_completed
    if canaries is None or rounds == 0:
        return {}
    initial = parts.model.initial_weights[0]
    final = parts.process.get_model_weights(outcome.state).trainable
    moved = [np.subtract(a, b, dtype=np.float64) for a, b in zip(final, initial, strict=True)]
    dimension = sum(part.size for part in moved)
    warning = run_audit.crowding_warning(
        canaries.number,
        dimension=dimension,
        noise_multiplier=parts.plan.details["noise_multiplier"],
    )
    if warning:
        progress.note(f"warning: {warning}")
    return {
        "audit": run_audit.audit_release(
            moved,
            canary_directions(canaries.key, canaries.number, dimension),
            participations=canaries.participations[:rounds],
            delta=spending.plan_of(ledger.entries).get("delta"),
            claimed_epsilon=spending.claim_of(ledger.entries).epsilon,
        )
    }


def _save_model(
    parts: ExperimentParts,
    config: ExperimentConfig,
    outcome: TrainingOutcome,
    directory: RunDirectory,
) -> None:
    """Writes final_model/."""
    final_model.save(
        directory.final_model_path,
        model=parts.model,
        weights=parts.process.get_model_weights(outcome.state),
        description=run_facts.model_facts(config, parts)
        | {
            "use_case": parts.task.name,
            "features": list(parts.task.feature_names),
            "preparation": dict(parts.task.preparation),
            "objective": parts.task.objective.describe(),
            "rounds": outcome.rounds_completed,
        },
        objective=parts.task.objective,
    )
