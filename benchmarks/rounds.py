"""Times a DP-FedAvg round of this project against its peers, on the same generated data.

Each system runs in a process of its own, in its own Python environment. It first shows by one round
without noise that it does the same work as this project; then the timed rounds go in turn, the same
round by every system. Writes rounds.csv, rounds.md and rounds.png.

    python -m benchmarks.rounds
    python -m benchmarks.rounds --systems=ours,fedjax --workloads=mlp,gru --repetitions=30

A system whose environment is missing is left out, with a line that says how to make it. Exit code 1
if a system failed or did other work.
"""

import datetime
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from absl import flags
from rich import progress as rich_progress
from rich.console import Console
from rich.table import Table

from benchmarks import measurement, results_plot, results_table, workloads
from benchmarks.driver_process import DriverError
from benchmarks.measurement import Bench, Failure, Measurement, Plan
from benchmarks.systems import OURS, SYSTEMS, SystemEntry
from experiments.command_line import run_binary
from fl_research.errors import InputError
from fl_research.run.run_status import available_cores
from fl_research.runtime import interrupts

REPOSITORY = Path(__file__).resolve().parent.parent


class TerminalProgress:
    """A line with a spinner on a terminal; elsewhere one line for each thing that was finished."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stderr)
        self._bar = rich_progress.Progress(
            rich_progress.SpinnerColumn(),
            rich_progress.TimeElapsedColumn(),
            rich_progress.TextColumn("{task.description}", markup=False),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> "TerminalProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def tell(self, what: str) -> None:
        """Says what is being done now."""
        self._bar.update(self._task, description=what)

    def line(self, text: str) -> None:
        """Prints a line that stays."""
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)


def define_flags() -> None:
    """Defines the flags; not on import, where they would meet those of other programs."""
    flags.DEFINE_list(
        "systems",
        [OURS, "stock_tff"],
        f"What to time, of {', '.join(SYSTEMS)}. {OURS} is always among them.",
    )
    flags.DEFINE_list(
        "workloads", list(workloads.NAMES), f"On what, of {', '.join(workloads.NAMES)}."
    )
    flags.DEFINE_integer(
        "repetitions", 15, "Timed rounds of a system and workload at most.", lower_bound=1
    )
    flags.DEFINE_integer(
        "min_repetitions",
        5,
        "As many rounds are timed however long they take, unless --repetitions is lower.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "seconds_per_workload",
        30.0,
        "No further repetition begins when all systems together have taken so many seconds.",
        lower_bound=0.0,
    )
    flags.DEFINE_integer(
        "warm_up_rounds",
        2,
        "Turns of two rounds left out before the timed ones, besides the first round.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "cores", None, "Cores that the systems share, two where there are as many.", lower_bound=1
    )
    flags.DEFINE_string(
        "output",
        "benchmarks/results",
        "Folder of the results; rows of other systems and workloads in it are kept.",
    )


def main(argv: list[str]) -> int:
    """Measures what the flags say and writes the results."""
    del argv
    names = _chosen("workloads", flags.FLAGS.workloads, workloads.NAMES)
    systems = _chosen("systems", [OURS, *flags.FLAGS.systems], tuple(SYSTEMS))
    cores = flags.FLAGS.cores or min(2, available_cores())
    if cores > available_cores():
        raise InputError(
            f"cores={cores} is more than there are, {available_cores()}; give that or fewer"
        )
    measurement.restrict_to_cores(cores)
    plan = Plan(
        cores=cores,
        repetitions=flags.FLAGS.repetitions,
        min_repetitions=flags.FLAGS.min_repetitions,
        seconds_per_workload=flags.FLAGS.seconds_per_workload,
        warm_up_rounds=flags.FLAGS.warm_up_rounds,
    )
    logs = Path(tempfile.mkdtemp(prefix="benchmark_rounds_"))
    with interrupts.sigterm_exits(), TerminalProgress() as progress:
        entries = present([SYSTEMS[name] for name in systems], progress)
        bench = Bench(
            REPOSITORY,
            logs,
            plan,
            tell=progress.tell,
            command_of=lambda entry: measurement.driver_command(REPOSITORY, entry),
        )
        measurements, failures = run(bench, entries, names, progress)
        rows = results_table.write(
            Path(flags.FLAGS.output), measurements, failures, _run_facts(cores)
        )
        if rows:
            results_plot.draw(rows, Path(flags.FLAGS.output) / results_plot.PLOT_FILE)
    _print_table(results_table.rows_of(measurements))
    print(f"{Path(flags.FLAGS.output) / results_table.MARKDOWN_FILE}")
    if failures:
        return 1
    shutil.rmtree(logs)
    return 0


def run(
    bench: Bench, entries: Sequence[SystemEntry], names: Sequence[str], progress: TerminalProgress
) -> tuple[list[Measurement], list[Failure]]:
    """Checks the systems and times those that agree.

    Args:
      bench: Starts the drivers.
      entries: The systems, ours among them.
      names: The workloads.
      progress: Is told of every failure and every workload that is done.
    """
    measurements: list[Measurement] = []
    failures, agreeing = bench.check(entries, names)
    _print_failures(failures, progress)
    for name in names:
        agreed = [entry for entry in entries if entry.name in agreeing[name]]
        if not any(entry.name == OURS for entry in agreed):
            continue
        measured, failed = bench.measure(agreed, name)
        measurements += measured
        failures += failed
        _print_failures(failed, progress)
        if measured:
            times = ", ".join(f"{m.system} {m.median:.4g} s" for m in measured)
            progress.line(f"{name}: {times}")
    return measurements, failures


def _chosen(flag: str, values: Sequence[str], known: Sequence[str]) -> list[str]:
    """Returns the values once each, in the order of `known`; refuses those that are not known."""
    for value in values:
        if value not in known:
            raise InputError(f"{flag}={value!r} is not known; give some of {', '.join(known)}")
    if not values:
        raise InputError(f"{flag} is empty; give some of {', '.join(known)}")
    return [name for name in known if name in values]


def present(entries: Sequence[SystemEntry], progress: TerminalProgress) -> list[SystemEntry]:
    """Returns the systems whose environment is there, and says what makes the others."""
    found = []
    for entry in entries:
        try:
            measurement.driver_command(REPOSITORY, entry)
            found.append(entry)
        except DriverError as error:
            progress.line(f"left out: {entry.name}: {error}")
    return found


def _print_failures(failures: Sequence[Failure], progress: TerminalProgress) -> None:
    """Prints a line for each system and reason."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        grouped.setdefault((failure.system, failure.reason), []).append(failure.workload)
    for (system, reason), names in grouped.items():
        progress.line(f"FAILED {', '.join(names)}: {system}: {reason}")


def _print_table(rows: Sequence[results_table.Row]) -> None:
    """Prints the rows of this run."""
    table = Table("workload", "system", *(("median", "least", "most", "MiB", "to ours")))
    table.columns[1].min_width = max(map(len, SYSTEMS))
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        numbers = [results_table.short(row[column]) for column in results_table.COLUMNS[2:]]
        table.add_row(row["workload"], row["system"], *numbers)
    Console().print(table)


def _run_facts(cores: int) -> dict[str, str]:
    """Returns what the report tells of this run."""
    command = shlex.join(["python", "-m", "benchmarks.rounds", *sys.argv[1:]])
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_processor()}, {cores} cores used, {platform.system()}",
    }


def _processor() -> str:
    """Returns the name of the processor."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    define_flags()
    run_binary(main)
