"""Times a run's start: from the command to the end of the first round, in parts.

    python -m benchmarks.start_up
    python -m benchmarks.start_up --repetitions=9 --flags="--model=mlp --rounds=1"

Starts the churn binary in a fresh process as a user does, lets it finish its first round, and ends
it. The parts are read off the times of the files that a run writes on its way. Exit code 1 if the
median is 15 s or more.
"""

import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags
from rich.console import Console
from rich.progress import track
from rich.table import Table

from experiments.command_line import run_binary
from fl_research.errors import InputError
from fl_research.run import run_directory

REPOSITORY = Path(__file__).resolve().parent.parent


LARGEST_SECONDS = 15.0
_TIMEOUT_SECONDS = 300.0
_FIRST_CHECKPOINT = f"{run_directory.CHECKPOINTS}/round_000001.ckpt"

PARTS: dict[str, str] = {
    "flags, records, noise for the target": run_directory.FLAGS,
    "TFF, worker, model, computations": run_directory.RUN,
    "first round, traced and compiled": _FIRST_CHECKPOINT,
}
"""What happens before the run writes a file, in the order of the files."""


def define_flags() -> None:
    """Defines the flags; not on import, where they would meet those of other programs."""
    flags.DEFINE_integer("repetitions", 5, "Starts to time.", lower_bound=1)
    flags.DEFINE_string("flags", "", "Flags of the run, as typed (default: none).")


def main(argv: list[str]) -> int:
    """Times and prints; returns the exit code."""
    del argv
    console = Console(file=sys.stderr)
    found = []
    for _ in track(range(flags.FLAGS.repetitions), "starts", console=console):
        with tempfile.TemporaryDirectory(prefix="fl_research_start_up_") as folder:
            found.append(_measure(Path(folder)))
    table = Table(title="From the command to the first round's end, seconds")
    for heading in ("part", "median", "least", "most"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    totals = [sum(parts.values()) for parts in found]
    for part in PARTS:
        _add_row(table, part, [parts[part] for parts in found])
    _add_row(table, "all", totals)
    Console(width=100).print(table)
    return 1 if statistics.median(totals) >= LARGEST_SECONDS else 0


def parts_of(folder: Path, started: float) -> dict[str, float]:
    """Returns the seconds of each of `PARTS`.

    Args:
      folder: A run's folder, with its first checkpoint.
      started: When the command was started, in seconds since the epoch.
    """
    seconds, before = {}, started
    for part, name in PARTS.items():
        now = (folder / name).stat().st_mtime
        seconds[part], before = now - before, now
    return seconds


def _measure(folder: Path) -> dict[str, float]:
    """Starts one run and ends it after its first round; returns the seconds of each part."""
    command = [
        sys.executable,
        "-m",
        "experiments.churn_prevention",
        *shlex.split(flags.FLAGS.flags),
    ]
    log = folder / "output.txt"
    started = time.time()
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, f"--output_dir={folder}", "--run_name=run"],
            cwd=REPOSITORY,
            stdout=output,
            stderr=output,
        )
        try:
            _wait_for(folder / "run" / _FIRST_CHECKPOINT, process, log)
            return parts_of(folder / "run", started)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _wait_for(path: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Returns when the file is there."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise InputError(
                f"--flags={flags.FLAGS.flags!r}: no round was finished; {''.join(said)}"
            )
        time.sleep(0.01)


def _add_row(table: Table, label: str, seconds: list[float]) -> None:
    """One part in seconds."""
    figures = (statistics.median(seconds), min(seconds), max(seconds))
    table.add_row(label, *(f"{value:.2f}" for value in figures))


if __name__ == "__main__":
    define_flags()
    run_binary(main)
