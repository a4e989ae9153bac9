"""Measures that memory does not grow: a thousand DP-FedAvg rounds with ever other Poisson cohorts.

    python -m benchmarks.memory
    python -m benchmarks.memory --rounds=300 --output_dir=/tmp/memory

Trains an MLP on generated customers with one row of 46 features each, exactly as a run does: with
ledger, checkpoints, metrics and evaluations. Every ten rounds it looks up the memory of the program
and of TFF's worker, where there is one. Writes memory.csv and memory.png. Exit code 1 if either
came to hold 5 % more, or yet more, than it ever did up to round 100.
"""

import contextlib
import csv
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from rich.console import Console

from benchmarks.process_memory import memory_of
from experiments.command_line import run_binary
from fl_research import runtime
from fl_research.data.client_data import ClientData
from fl_research.data.clients import clients_by_rows
from fl_research.errors import InputError
from fl_research.experiment_config import ExperimentConfig, resolve_privacy
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.optimizers import OptimizerConfig
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.reports.progress import TerminalProgress
from fl_research.run.run_directory import RunDirectory
from fl_research.run.run_status import available_cores
from fl_research.runtime.in_process import in_process_runtime
from fl_research.task import FederatedTask
from fl_research.training_config import TrainingConfig

REPOSITORY = Path(__file__).resolve().parent.parent


SETTLED_AFTER = 100
LARGEST_GROWTH = 0.05
_EVERY = 10
_CLIENTS, _FEATURES, _RATE = 8000, 46, 0.1

Sample = dict[str, float]
"""`round`, `program_mib` and, where there is a worker, `worker_mib`."""


def define_flags() -> None:
    """Defines the flags; not on import, where they would meet those of other programs."""
    flags.DEFINE_integer("rounds", 1000, "Rounds to run.")
    flags.DEFINE_enum(
        "runtime", "in_process", ["in_process", "worker"], "Where TensorFlow computes."
    )
    flags.DEFINE_string(
        "output_dir", str(REPOSITORY / "benchmarks" / "results"), "Where memory.csv and .png go."
    )


def main(argv: list[str]) -> int:
    """Runs, writes and prints; returns the exit code."""
    del argv
    if flags.FLAGS.rounds < SETTLED_AFTER + _EVERY:
        raise InputError(
            f"--rounds={flags.FLAGS.rounds} is too few; growth is counted from round "
            f"{SETTLED_AFTER} on"
        )
    folder = Path(flags.FLAGS.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    samples = run_and_sample(flags.FLAGS.rounds, in_worker=flags.FLAGS.runtime == "worker")
    _write_csv(folder / "memory.csv", samples)
    _draw(folder / "memory.png", samples)
    growths = growth_of(samples)
    for name, growth in growths.items():
        settled = max(s[name] for s in samples if s["round"] <= SETTLED_AFTER)
        print(
            f"{name}: at most {settled:.0f} up to round {SETTLED_AFTER}, from there to round "
            f"{flags.FLAGS.rounds} at most {growth:+.2%}"
        )
    return 1 if max(growths.values()) >= LARGEST_GROWTH else 0


def _runtime(in_worker: bool, log_path: Path) -> contextlib.AbstractContextManager[Any]:
    """Where the rounds are computed."""
    return (runtime.local_runtime if in_worker else in_process_runtime)(log_path=log_path)


def run_and_sample(rounds: int, *, in_worker: bool) -> list[Sample]:
    """Trains for so many rounds; returns memory every ten rounds.

    Args:
      rounds: Rounds to run.
      in_worker: Whether TFF's worker computes, or this process.
    """
    config = _config(rounds)
    task = _task()
    with (
        tempfile.TemporaryDirectory(prefix="fl_research_memory_") as folder,
        RunDirectory.open(Path(folder) / "run", flags_text="") as directory,
        _runtime(in_worker, directory.log_path) as started,
    ):
        from fl_research import experiment

        console = Console(file=sys.stderr)
        with TerminalProgress(rounds, task.primary_metric, console) as shown:
            progress = _SamplingProgress(shown, started.worker.process_id if in_worker else 0)
            privacy = resolve_privacy(config, clients_by_rows(task.train))
            experiment.run(task, config, privacy, directory, command="", progress=progress)
    return progress.samples


def growth_of(samples: Sequence[Sample]) -> dict[str, float]:
    """Returns how far each process went above what it held at most up to `SETTLED_AFTER`.

    Args:
      samples: In the order of rounds.

    Returns:
      By the name of the process, as a fraction; negative if it stayed below.
    """
    before = [sample for sample in samples if sample["round"] <= SETTLED_AFTER]
    after = [sample for sample in samples if sample["round"] > SETTLED_AFTER]
    return {
        name: max(sample[name] for sample in after) / max(sample[name] for sample in before) - 1
        for name in samples[0]
        if name != "round"
    }


class _SamplingProgress:
    """Shows a run's progress, and looks up memory every ten rounds."""

    def __init__(self, shown: TerminalProgress, worker: int) -> None:
        """Starts without samples; `worker` is the process id of the worker, 0 for none."""
        self._shown = shown
        self._processes: dict[str, int | str] = {"program_mib": "self"}
        if worker:
            self._processes["worker_mib"] = worker
        self.samples: list[Sample] = []

    def round_done(self, row: Mapping[str, Any]) -> None:
        """Takes the metrics row of one finished round."""
        self._shown.round_done(row)
        if row["round"] % _EVERY == 0:
            memory = {name: memory_of(process) for name, process in self._processes.items()}
            self.samples.append(
                {"round": row["round"]} | {name: m.resident for name, m in memory.items()}
            )

    def steps(self, label: str, total: int) -> Iterator[int]:
        """Yields 1 to `total`."""
        return self._shown.steps(label, total)

    def note(self, message: str) -> None:
        """Takes one line that the user should see."""
        self._shown.note(message)


def _task() -> FederatedTask:
    """Customers of one row each, with a label that depends on the features."""
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((_CLIENTS, _FEATURES), dtype=np.float32)
    chance = 1 / (1 + np.exp(-inputs @ generator.standard_normal(_FEATURES)))
    labels = (generator.random(_CLIENTS) < chance).astype(np.int32)
    data = ClientData.from_rows({"inputs": inputs}, labels, None)
    train, validation, test = data.split(validation_fraction=0.1, test_fraction=0.2, seed=0)
    return FederatedTask(
        name="memory",
        train=train,
        validation=validation,
        test=test,
        objective=BinaryClassification(),
        unit="one customer",
        unit_contains="one row",
        feature_names=tuple(f"f{number}" for number in range(_FEATURES)),
        preparation={},
        data_facts={},
    )


def _config(rounds: int) -> ExperimentConfig:
    """DP-FedAvg of an MLP with Poisson cohorts of about 560 customers."""
    sgd = OptimizerConfig(name="sgd", learning_rate=0.5)
    return ExperimentConfig(
        training=TrainingConfig(
            rounds=rounds,
            seed=0,
            num_blocks=available_cores(),
            evaluate_every=None,
            early_finish_patience=0,
            target_epsilon=2.0,
            delta=1e-5,
        ),
        seed=0,
        sampling="poisson",
        clients_per_round=None,
        sampling_rate=_RATE,
        mechanism="gaussian",
        mechanism_parameters={"clip_norm": 1.0},
        noise_multiplier=None,
        model="mlp",
        model_parameters={"hidden_sizes": (64,)},
        client_update=ClientUpdateConfig(batch_size=8),
        client_optimizer=sgd,
        server_optimizer=sgd,
        baselines=False,
        noise_seed=None,
    )


def _write_csv(path: Path, samples: Sequence[Sample]) -> None:
    """Writes the samples, a row each."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(samples[0]), lineterminator="\n")
        writer.writeheader()
        for sample in samples:
            writer.writerow({name: f"{value:.10g}" for name, value in sample.items()})


def _draw(path: Path, samples: Sequence[Sample]) -> None:
    """Draws memory over rounds, a line for each process."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from fl_research.reports.plot_base import BLUE, GRID, INK, MUTED

    with mpl.rc_context({"font.size": 9, "text.color": INK}):
        figure = Figure(figsize=(6.5, 3.2), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        rounds = [sample["round"] for sample in samples]
        lines = (("program_mib", "program", BLUE), ("worker_mib", "worker", INK))
        for name, label, color in lines:
            if name in samples[0]:
                axes.plot(rounds, [sample[name] for sample in samples], color=color, label=label)
        axes.axvline(SETTLED_AFTER, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.set(xlabel="round", ylabel="resident memory, MiB", ylim=(0, None))
        axes.grid(color=GRID, linewidth=0.5)
        axes.legend(frameon=False)
        figure.savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    define_flags()
    run_binary(main)
