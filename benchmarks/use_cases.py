"""Trains every use case on its data, without privacy and at several ε: what each can do.

    python -m benchmarks.use_cases
    python -m benchmarks.use_cases --cases=churn_prevention/telco_churn --seeds=0 --epsilons=2,8

Each run is the binary itself, in a process of its own, with the flags of `CASES` (those of its flag
file, where it has one) and nothing tuned for an ε. Runs without privacy also train the central
model and score what needs no model. Writes use_cases.csv (a row a run), use_cases.md (means over
seeds; utility over ε) and use_cases.png. Rows that are in the CSV already are not run again: take
the file away to measure anew. With --data_folder=FOLDER the files are taken from FOLDER/NAME.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags
from rich.console import Console
from rich.progress import track

from benchmarks import use_cases_table
from benchmarks.result_rows import read_rows, write_rows
from experiments.command_line import run_binary
from fl_research.errors import InputError
from fl_research.run.durable_files import write_atomically

REPOSITORY = Path(__file__).resolve().parent.parent
COLUMNS = (
    *("case", "target_epsilon", "seed", "epsilon", "clients", "cohort", "noise_multiplier"),
    *("metric", "value", "central", "trivial", "best_trivial", "seconds"),
    "metrics",
)
NO_PRIVACY = "none"
_TRAINED = ("without_privacy", "central")

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One use case on one data set.

    Attributes:
      binary: The binary.
      arguments: Its flags, apart from mechanism, ε, seed and folder.
      flag_file: Of experiments/flagfiles, whose flags it has too, apart from these.
      private_flag_file: The same for the private runs, where that is another.
      data: The folder's name of the data files; None: generated.
      mechanism: That of the private runs; None: the binary's default.
      private: Further flags of the private runs.
      unit: Whom ε is for.
    """

    binary: str
    arguments: tuple[str, ...] = ()
    flag_file: str | None = None
    private_flag_file: str | None = None
    data: str | None = None
    mechanism: str | None = "gaussian"
    private: tuple[str, ...] = ()
    unit: str = "customer"


CASES: dict[str, Case] = {
    "churn_prevention/synthetic": Case(binary="churn_prevention"),
    "churn_prevention/telco_churn": Case(
        binary="churn_prevention", flag_file="churn_telco.flags", data="telco_churn"
    ),
    "churn_prevention/online_retail": Case(
        binary="churn_prevention", flag_file="churn_online_retail.flags", data="online_retail"
    ),
    "demand_forecasting/synthetic": Case(binary="demand_forecasting", unit="store"),
    "demand_forecasting/online_retail": Case(
        binary="demand_forecasting",
        flag_file="demand_online_retail_open.flags",
        private_flag_file="demand_online_retail.flags",
        data="online_retail",
    ),
    "satisfaction_analysis/synthetic": Case(
        binary="satisfaction_analysis", arguments=("--nofeature_effects",)
    ),
    "satisfaction_analysis/airline_satisfaction": Case(
        binary="satisfaction_analysis",
        arguments=("--nofeature_effects",),
        flag_file="satisfaction_airline.flags",
        data="airline_satisfaction",
        unit="passenger",
    ),
    "personalized_recommendation/synthetic": Case(
        binary="personalized_recommendation",
        arguments=("--rounds=120", "--matrix_factorization_factors=4"),
    ),
    "personalized_recommendation/online_retail": Case(
        binary="personalized_recommendation",
        flag_file="recommendation_online_retail.flags",
        private_flag_file="recommendation_online_retail_private.flags",
        data="online_retail",
    ),
    "service_automation/synthetic": Case(binary="service_automation"),
    "service_automation/banking77": Case(
        binary="service_automation",
        flag_file="service_banking77.flags",
        private_flag_file="service_banking77_private.flags",
        data="banking77",
        unit="question, taken to be a customer",
    ),
    "customer_profile/synthetic segments": Case(binary="customer_profile"),
    "customer_profile/adult segments": Case(
        binary="customer_profile", flag_file="profile_adult_segments.flags", data="adult"
    ),
    "customer_profile/adult worth": Case(
        binary="customer_profile",
        flag_file="profile_adult_open.flags",
        private_flag_file="profile_adult.flags",
        data="adult",
        mechanism=None,
        unit="record of a department",
    ),
}
_NOT_TAKEN = ("mechanism", "target_epsilon", "delta", "noise_multiplier", "baselines", "clip_norm")
_OF_PRIVACY = ("clip_norm",)


def define_flags() -> None:
    """Defines the flags; not on import, where they would meet those of other programs."""
    flags.DEFINE_list("cases", list(CASES), f"Of {', '.join(CASES)}.")
    flags.DEFINE_list("epsilons", ["1", "2", "4", "8"], "Target ε of the private runs.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of split, start and shuffling.")
    flags.DEFINE_string("data_folder", None, "Folder of the data sets' folders.")
    flags.DEFINE_string(
        "results", str(REPOSITORY / "benchmarks" / "results"), "Folder of the results."
    )


def main(argv: list[str]) -> int:
    """Runs what is missing, writes the results and prints the table; returns the exit code."""
    del argv
    for name in flags.FLAGS.cases:
        if name not in CASES:
            raise InputError(f"--cases={name} is unknown; choose from {', '.join(CASES)}")
    folder = Path(flags.FLAGS.results)
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_rows(folder / "use_cases.csv")
    done = {(row["case"], row["target_epsilon"], row["seed"]) for row in rows}
    missing = [cell for cell in _cells() if cell not in done]
    with tempfile.TemporaryDirectory(prefix="fl_research_use_cases_") as runs:
        console = Console(file=sys.stderr)
        for number, cell in enumerate(track(missing, "training", console=console)):
            rows.append(_train(*cell, folder=Path(runs) / str(number)))
            write_rows(folder / "use_cases.csv", COLUMNS, rows)
    markdown = use_cases_table.table(rows)
    write_atomically(folder / "use_cases.md", markdown)
    use_cases_table.draw(rows, folder / "use_cases.png")
    print(markdown)
    return 0


def _cells() -> list[tuple[str, str, str]]:
    """Every run that the flags ask for: case, target ε, seed; without privacy first."""
    targets = [NO_PRIVACY, *flags.FLAGS.epsilons]
    return [
        (name, target, seed)
        for seed in flags.FLAGS.seeds
        for target in targets
        for name in flags.FLAGS.cases
    ]


def command_of(name: str, target: str, seed: str) -> list[str]:
    """Returns the arguments of the binary for one run.

    Args:
      name: Of `CASES`.
      target: The target ε, or `none`.
      seed: The seed.
    """
    case = CASES[name]
    private_file = case.private_flag_file or case.flag_file
    file = case.flag_file if target == NO_PRIVACY else private_file
    taken, of_privacy = _of_flag_file(file)
    arguments = [*taken, *case.arguments, f"--seed={seed}"]
    if case.data and flags.FLAGS.data_folder:
        arguments.append(f"--data={Path(flags.FLAGS.data_folder) / case.data}")
    if target == NO_PRIVACY:
        return [*arguments, "--mechanism=none", "--baselines"]
    mechanism = [f"--mechanism={case.mechanism}"] if case.mechanism else []
    target_flags = [f"--target_epsilon={target}", "--delta=1e-5"]
    return [*arguments, *of_privacy, *mechanism, *case.private, *target_flags]


def _of_flag_file(name: str | None) -> tuple[list[str], list[str]]:
    """The flags of a flag file: for all runs, and for those with privacy only.

    Mechanism and ε are the benchmark's; the baselines are trained without privacy only.
    """
    if name is None:
        return [], []
    path = REPOSITORY / "experiments" / "flagfiles" / name
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:2] == "--"]
    named = [(line[2:].partition("=")[0], line) for line in lines]
    return (
        [line for name, line in named if name not in _NOT_TAKEN],
        [line for name, line in named if name in _OF_PRIVACY],
    )


def _train(name: str, target: str, seed: str, *, folder: Path) -> Row:
    """One run of the binary, and its row."""
    started = time.monotonic()
    arguments = [*command_of(name, target, seed), f"--output_dir={folder}", "--run_name=run"]
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{CASES[name].binary}", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InputError(f"{name}, epsilon {target}, seed {seed}: {done.stderr.strip()[-800:]}")
    report = json.loads((folder / "run" / "report.json").read_text(encoding="utf-8"))
    return row_of(report, name, target, seed, seconds=time.monotonic() - started)


def row_of(report: Mapping[str, Any], name: str, target: str, seed: str, *, seconds: float) -> Row:
    """Returns a run's row.

    Args:
      report: Its report.json.
      name: Of `CASES`.
      target: The target ε, or `none`.
      seed: The seed.
      seconds: From the command to its end.
    """
    utility, mechanism = report["utility"], report["mechanism"]
    metric = utility["primary_metric"]
    baselines = utility["baselines"]
    trivial = {b: v.get(metric) for b, v in baselines.items() if b not in _TRAINED}
    best = use_cases_table.best_of(metric, trivial)
    return {
        "case": name,
        "target_epsilon": target,
        "seed": seed,
        "epsilon": report["privacy"]["epsilon"] or "",
        "clients": report["data"]["split"]["train_clients"],
        "cohort": mechanism["expected_cohort_size"],
        "noise_multiplier": mechanism["noise_multiplier"] or "",
        "metric": metric,
        "value": utility["test"][metric],
        "central": baselines.get("central", {}).get(metric, ""),
        "trivial": best[0],
        "best_trivial": best[1],
        "seconds": f"{seconds:.1f}",
        "metrics": json.dumps(utility["test"]),
    }


if __name__ == "__main__":
    define_flags()
    run_binary(main)
