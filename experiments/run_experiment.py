"""What every experiment binary does between its flags and its report."""

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Any

from absl import flags
from rich.console import Console

from experiments import experiment_flags
from experiments.config_from_flags import config_from_flags
from experiments.planned_run import print_plan
from experiments.use_case import UseCase
from fl_research import runtime
from fl_research.audit import run_audit
from fl_research.data.clients import clients_by_rows
from fl_research.errors import InputError
from fl_research.experiment_config import ExperimentConfig, ResolvedPrivacy, resolve_privacy
from fl_research.privacy import accounting
from fl_research.privacy.ledger import LedgerError, payloads, read_ledger
from fl_research.reports import run_report, summary
from fl_research.reports.progress import TerminalProgress
from fl_research.run.run_directory import RunDirectory
from fl_research.run.run_status import command_line
from fl_research.runtime import worker_addresses
from fl_research.runtime.in_process import in_process_runtime
from fl_research.task import FederatedTask

FLAGS = flags.FLAGS

_DELTA_OF_NAMED_DATASETS = 1e-5


def run_experiment(use_case: UseCase) -> None:
    """Checks the flags, loads the data, runs or resumes, and writes the report.

    Args:
      use_case: What the binary is.

    Raises:
      InputError: Something in the flags or the records is wrong.
      WorkerError: TFF's worker died; the same command resumes.
    """
    use_case.settle()
    workers = () if FLAGS.workers is None else worker_addresses.checked_addresses(FLAGS.workers)
    timeout = worker_addresses.checked_timeout(FLAGS.worker_timeout_seconds)
    config = config_from_flags(
        default_delta=None if FLAGS.dataset == "table" else _DELTA_OF_NAMED_DATASETS,
        default_clip_norm=use_case.default_clip_norm,
    )
    task = use_case.load(config.seed)
    config = _with_primary_metric(config, task)
    _refuse_choices_by_the_protected(task, config)
    privacy = resolve_privacy(config, clients_by_rows(task.train))
    if FLAGS.plan_only:
        print_plan(task, config, privacy)
        return
    text = experiment_flags.flags_text(sys.argv[0])
    folder = Path(FLAGS.output_dir) / experiment_flags.run_name(use_case.name, text)
    console = Console(stderr=True)
    with RunDirectory.open(folder, flags_text=text) as directory:
        console.print(f"run folder: {folder}", soft_wrap=True, highlight=False)
        _warn_of_large_delta(console, config.training.delta, task.train.num_clients)
        if _is_completed(directory.path):
            console.print("this run is complete; here is its report again")
        else:
            _describe(console, task, privacy)
            for note in task.data_facts.get("notes", ()):
                console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)
            config = _with_blocks_of_earlier_session(config, directory)
            _describe_workers(console, workers, config.training.num_blocks)
            with _runtime(directory.log_path, workers, timeout):
                from fl_research import experiment

                with TerminalProgress(
                    config.training.rounds, task.primary_metric, console
                ) as progress:
                    experiment.run(
                        task,
                        config,
                        privacy,
                        directory,
                        command=command_line(f"experiments.{use_case.name}", sys.argv[1:]),
                        progress=progress,
                        search=FLAGS.search,
                    )
        run_report.write(directory.path)
        summary.print_summary(directory.path)
        _require_audit_passed(directory)


def _require_audit_passed(directory: RunDirectory) -> None:
    """Ends with exit code 1 if the run's canaries refute its claim; the records stay."""
    try:
        run_audit.require_within_claim(directory.read_json("evaluation.json") or {})
    except run_audit.AuditFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error


def _is_completed(folder: Path) -> bool:
    """Whether the ledger of the folder was closed."""
    path = folder / "ledger.jsonl"
    try:
        return path.exists() and bool(payloads(read_ledger(path), "completed"))
    except LedgerError:
        return False  # Opening it for the run recovers a torn end, or says what is broken.


def _describe(console: Console, task: FederatedTask, privacy: ResolvedPrivacy) -> None:
    """One line each on data and privacy, before the rounds start."""
    train = task.train
    console.print(
        f"{train.num_clients:,} training clients, {train.num_rows:,} rows, "
        f"{_width(task)}unit of privacy: {task.unit}",
        soft_wrap=True,
        highlight=False,
    )
    multiplier = getattr(privacy.mechanism_config, "noise_multiplier", None)
    noise = "no noise" if multiplier is None else f"noise multiplier {multiplier:g}"
    console.print(
        f"{privacy.sampling.name} cohorts of {privacy.sampling.expected_cohort_size:g} clients, "
        f"{noise}",
        soft_wrap=True,
        highlight=False,
    )


def _width(task: FederatedTask) -> str:
    """How many features a row has, where they have names."""
    return f"{len(task.feature_names)} features; " if task.feature_names else ""


def _refuse_choices_by_the_protected(task: FederatedTask, config: ExperimentConfig) -> None:
    """Refuses what would choose by validation records of the clients that epsilon is for."""
    if not task.test_clients_train or config.training.delta is None:
        return
    given = {
        "early_finish_patience": config.training.early_finish_patience,
        "search": FLAGS.search,
    }
    for name, value in given.items():
        if value:
            raise InputError(
                f"--{name}={value} would choose by the validation metric, which here comes from "
                "records of the very clients that epsilon is about, without noise; leave it out, "
                "or use --mechanism=none"
            )


def _with_primary_metric(config: ExperimentConfig, task: FederatedTask) -> ExperimentConfig:
    """The config whose early finish watches the task's metric."""
    training = dataclasses.replace(config.training, primary_metric=task.primary_metric)
    return dataclasses.replace(config, training=training)


def _with_blocks_of_earlier_session(
    config: ExperimentConfig, directory: RunDirectory
) -> ExperimentConfig:
    """The config with the blocks that the run was begun with, whatever computes it now.

    The order in which floating-point numbers are added up follows the blocks: with the same blocks
    a run that goes on elsewhere ends with the same bits.
    """
    begun = (directory.read_json("run.json") or {}).get("num_blocks")
    if FLAGS.num_blocks is not None or begun is None:
        return config
    training = dataclasses.replace(config.training, num_blocks=begun)
    return dataclasses.replace(config, training=training)


def _runtime(
    log_path: Path, workers: tuple[str, ...], timeout_seconds: float
) -> contextlib.AbstractContextManager[Any]:
    """Where the rounds are computed: in this process, or in a worker; and on `workers`, if any."""
    if FLAGS.runtime == "worker":
        return runtime.local_runtime(
            log_path=log_path, call_timeout_seconds=timeout_seconds, workers=workers
        )
    return in_process_runtime(
        log_path=log_path, call_timeout_seconds=timeout_seconds, workers=workers
    )


def _describe_workers(console: Console, workers: tuple[str, ...], num_blocks: int) -> None:
    """One line on what the rounds are spread over, if anything."""
    if not workers:
        return
    text = f"{num_blocks} blocks of clients a round, spread over {', '.join(workers)}"
    if num_blocks < len(workers):
        text += f"; {len(workers) - num_blocks} of them get none: begin with more --num_blocks"
    console.print(text, soft_wrap=True, highlight=False)


def _warn_of_large_delta(console: Console, delta: float | None, clients: int) -> None:
    """Warns where delta allows a mechanism that publishes somebody's data."""
    warning = None if delta is None else accounting.large_delta_warning(delta, clients)
    if warning:
        console.print(f"warning: {warning}; take a smaller --delta", soft_wrap=True)
