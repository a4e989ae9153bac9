"""Trains the churn model by every mechanism at the same ε: what privacy of each kind costs.

    python -m benchmarks.mechanisms
    python -m benchmarks.mechanisms --data=telco.csv --seeds=0,1,2,3,4 --epsilons=2

Every run is a real one: ε is recomputed from its ledger, the test AUC is its evaluation's. Model,
learning rates, rounds and expected cohort are the same everywhere; nothing is tuned for a mechanism
but the clip of Laplace noise, whose L1 norm is larger. Writes mechanisms.csv (a row a run),
mechanisms.md (means and spreads over seeds) and mechanisms.png. Rows that are in the CSV already
are not run again: take the file away to measure anew. Exit code 1 if a run spent more than asked.
"""

import dataclasses
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from rich.console import Console
from rich.progress import track

from benchmarks import mechanisms_plot
from benchmarks.result_rows import read_rows, write_rows
from experiments import data_flags, experiment_flags
from experiments.command_line import run_binary
from fl_research.data.clients import clients_by_rows
from fl_research.errors import InputError
from fl_research.experiment_config import ExperimentConfig, resolve_privacy
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.optimizers import OptimizerConfig
from fl_research.privacy.ledger import read_ledger
from fl_research.privacy.spending import spending_of
from fl_research.run.durable_files import write_atomically
from fl_research.run.run_directory import RunDirectory
from fl_research.runtime.in_process import in_process_runtime
from fl_research.training_config import TrainingConfig

REPOSITORY = Path(__file__).resolve().parent.parent
COLUMNS = ("dataset", "setting", "target_epsilon", "seed", "epsilon", "auc", "noise_multiplier")
DATASETS = ("synthetic", "telco_churn")
ROUNDS, RATE, DELTA = 100, 0.1, 1e-5
NO_PRIVACY = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A mechanism with its sampler.

    Attributes:
      mechanism: A name of `privacy.mechanisms`.
      sampling: "poisson" or "min_separation".
      clip_norm: The clip; None without one.
      unit: Whom ε is for.
    """

    mechanism: str
    sampling: str = "poisson"
    clip_norm: float | None = 1.0
    unit: str = "customer"


SETTINGS: dict[str, Setting] = {
    "none": Setting(mechanism="none", clip_norm=None),
    "gaussian": Setting(mechanism="gaussian"),
    "adaptive_gaussian": Setting(mechanism="adaptive_gaussian"),
    "laplace": Setting(mechanism="laplace", clip_norm=3.0),
    "gaussian, no sampling assumption": Setting(mechanism="gaussian", sampling="min_separation"),
    "tree_aggregation": Setting(mechanism="tree_aggregation", sampling="min_separation"),
    "banded_matrix_factorization": Setting(
        mechanism="banded_matrix_factorization", sampling="min_separation"
    ),
    "buffered_toeplitz": Setting(mechanism="buffered_toeplitz", sampling="min_separation"),
    "local_gaussian": Setting(mechanism="local_gaussian", sampling="min_separation"),
    "client_dpsgd": Setting(
        mechanism="client_dpsgd", sampling="min_separation", unit="record, untrusted server"
    ),
}
MIN_SEPARATION = 10

Row = dict[str, Any]


class _OneOfMany:
    """What a run tells, for a run that is one step of something longer: nothing."""

    def round_done(self, row: Row) -> None:
        """Says nothing."""

    def steps(self, label: str, total: int) -> Iterator[int]:
        """Counts from 1 to `total`."""
        del label
        yield from range(1, total + 1)

    def note(self, message: str) -> None:
        """Says nothing."""


def define_flags() -> None:
    """Defines the flags; not on import, where they would meet those of other programs."""
    flags.DEFINE_list("datasets", list(DATASETS), f"Of {', '.join(DATASETS)}.")
    flags.DEFINE_list("epsilons", ["1", "2", "4", "8"], "Target ε of the private settings.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of split, start and shuffling.")
    flags.DEFINE_list("settings", list(SETTINGS)[1:], f"Of {'; '.join(SETTINGS)}.")
    flags.DEFINE_string(
        "results", str(REPOSITORY / "benchmarks" / "results"), "Folder of the results."
    )


def main(argv: list[str]) -> int:
    """Runs what is missing, writes the results and prints the table; returns the exit code."""
    del argv
    folder = Path(flags.FLAGS.results)
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_rows(folder / "mechanisms.csv")
    done = {(row["dataset"], row["setting"], row["target_epsilon"], row["seed"]) for row in rows}
    missing = [cell for cell in _cells() if tuple(map(str, cell)) not in done]
    with (
        tempfile.TemporaryDirectory(prefix="fl_research_mechanisms_") as runs,
        in_process_runtime(log_path=Path(runs) / "log"),
    ):
        console = Console(file=sys.stderr)
        for number, cell in enumerate(track(missing, "training", console=console)):
            rows.append(_train(*cell, folder=Path(runs) / str(number)))
            write_rows(folder / "mechanisms.csv", COLUMNS, rows)
    markdown = table(rows)
    write_atomically(folder / "mechanisms.md", markdown)
    mechanisms_plot.draw(rows, folder / "mechanisms.png")
    print(markdown)
    spent_more = [
        r for r in rows if r["epsilon"] and float(r["epsilon"]) > float(r["target_epsilon"])
    ]
    for row in spent_more:
        print(f"spent more than asked: {row}", file=sys.stderr)
    return 1 if spent_more else 0


def _cells() -> list[tuple[str, str, str, int]]:
    """Every run that the flags ask for: data set, setting, target ε, seed."""
    for name in flags.FLAGS.settings:
        if name not in SETTINGS:
            raise InputError(f"--settings={name} is unknown; choose from {'; '.join(SETTINGS)}")
    for name in flags.FLAGS.datasets:
        if name not in DATASETS:
            raise InputError(f"--datasets={name} is unknown; choose from {', '.join(DATASETS)}")
    private = [name for name in flags.FLAGS.settings if name != NO_PRIVACY]
    asked = [(name, epsilon) for name in private for epsilon in flags.FLAGS.epsilons]
    return [
        (dataset, setting, epsilon, int(seed))
        for dataset in flags.FLAGS.datasets
        for seed in flags.FLAGS.seeds
        for setting, epsilon in [(NO_PRIVACY, "inf"), *asked]
    ]


def _train(dataset: str, name: str, target: str, seed: int, *, folder: Path) -> Row:
    """One run, and its row."""
    from experiments.churn_prevention import USE_CASE
    from fl_research import experiment

    flags.FLAGS["dataset"].value, flags.FLAGS["seed"].value = dataset, seed
    if dataset == "synthetic":
        path, flags.FLAGS["data"].value = flags.FLAGS.data, None
        task = USE_CASE.load(seed)
        flags.FLAGS["data"].value = path
    else:
        task = USE_CASE.load(seed)
    config = _config(SETTINGS[name], None if name == NO_PRIVACY else float(target), seed)
    privacy = resolve_privacy(config, clients_by_rows(task.train))
    with RunDirectory.open(folder, flags_text="") as directory:
        experiment.run(task, config, privacy, directory, command="", progress=_OneOfMany())
        evaluation = directory.read_json("evaluation.json") or {}
        spent = spending_of(read_ledger(directory.ledger_path))
    return {
        "dataset": dataset,
        "setting": name,
        "target_epsilon": target,
        "seed": str(seed),
        "epsilon": f"{spent.claim.epsilon:.6g}" if spent.private else "",
        "auc": f"{evaluation['test']['auc']:.6f}",
        "noise_multiplier": f"{getattr(privacy.mechanism_config, 'noise_multiplier', 0):g}",
    }


def _config(setting: Setting, target: float | None, seed: int) -> ExperimentConfig:
    """The settings of one run: those of the experiment binary's defaults but for the mechanism."""
    separated = setting.sampling == "min_separation"
    return ExperimentConfig(
        training=TrainingConfig(
            rounds=ROUNDS,
            seed=seed,
            num_blocks=2,
            evaluate_every=ROUNDS,
            early_finish_patience=0,
            target_epsilon=target,
            delta=None if target is None else DELTA,
        ),
        seed=seed,
        sampling=setting.sampling,
        clients_per_round=None,
        sampling_rate=RATE,
        min_separation=MIN_SEPARATION if separated else None,
        mechanism=setting.mechanism,
        mechanism_parameters={} if setting.clip_norm is None else {"clip_norm": setting.clip_norm},
        noise_multiplier=None,
        model="logistic_regression",
        model_parameters={},
        client_update=ClientUpdateConfig(batch_size=8),
        client_optimizer=OptimizerConfig(name="sgd", learning_rate=0.5),
        server_optimizer=OptimizerConfig(name="sgd", learning_rate=2.0),
        baselines=False,
        noise_seed=None,
    )


def table(rows: Sequence[Row]) -> str:
    """Returns the means and standard deviations over seeds as Markdown.

    Args:
      rows: As in mechanisms.csv.
    """
    lines = [
        "# Utility at equal ε",
        "",
        f"Test AUC of logistic regression after {ROUNDS} rounds with a tenth of the clients a "
        f"round, δ = {DELTA:g}: mean ± standard deviation over seeds. Measure again with "
        "`python -m benchmarks.mechanisms`.",
    ]
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        chosen = [row for row in rows if row["dataset"] == dataset]
        epsilons = sorted({row["target_epsilon"] for row in chosen} - {"inf"}, key=float)
        lines += [
            "",
            f"## {dataset}",
            "",
            f"| mechanism | ε is for one | {' | '.join(f'ε = {e}' for e in epsilons)} |",
            "|---|---|" + "---|" * len(epsilons),
        ]
        for name in dict.fromkeys(row["setting"] for row in chosen):
            cells = [_cell(chosen, name, e if name != NO_PRIVACY else "inf") for e in epsilons]
            unit = "nobody" if name == NO_PRIVACY else SETTINGS[name].unit
            lines.append(f"| {name} | {unit} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(rows: Sequence[Row], name: str, epsilon: str) -> str:
    """Mean and standard deviation over seeds."""
    aucs = [
        float(row["auc"])
        for row in rows
        if (row["setting"], row["target_epsilon"]) == (name, epsilon)
    ]
    if not aucs:
        return "not run"
    spread = f" ± {statistics.stdev(aucs):.4f}" if len(aucs) > 1 else ""
    return f"{statistics.mean(aucs):.4f}{spread}"


if __name__ == "__main__":
    flags.adopt_module_key_flags(data_flags)
    flags.adopt_module_key_flags(experiment_flags)
    define_flags()
    run_binary(main)
