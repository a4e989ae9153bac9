"""Measures rounds over a million clients on disk: time to draw and cut a cohort, and memory.

    python -m benchmarks.population
    python -m benchmarks.population --folder=/large/disk     keeps the populations for another time

Makes a population of a million clients with 20 rows of 20 features each (1.7 GB), and one of a
tenth of that, once; then opens each in a fresh process, draws Poisson cohorts and cuts them into
blocks. Exit code 1 if a round takes 100 ms or more (the median; the first round, and those whose
files have just been dropped from the page cache, left out), or if memory grows with the population.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from rich.console import Console
from rich.progress import track
from rich.table import Table

from experiments.command_line import run_binary
from fl_research.data.population import PopulationDescription, is_population
from fl_research.data.population_writer import Rows, write_population
from fl_research.errors import InputError

REPOSITORY = Path(__file__).resolve().parent.parent


ROWS, FEATURES = 20, 20
LARGEST_SECONDS = 0.1
LARGEST_BYTES_PER_CLIENT = 16
"""Four to eight of them are the index of a client in its split; its rows are 1,680."""
_CHANCE_MIB = 4.0  # By which two runs of one population differ.
_CLIENTS_AT_ONCE = 20_000
_MIB = 2**20


def define_flags() -> None:
    """Defines the flags; not on import, where they would meet those of other programs."""
    flags.DEFINE_string(
        "folder",
        None,
        "Where the populations are kept; made where missing (default: a temporary one).",
    )
    flags.DEFINE_integer("clients", 1_000_000, "Clients of the large population.")
    flags.DEFINE_integer("smaller", 10, "The small one has so many times fewer.")
    flags.DEFINE_float("cohort", 1000.0, "Expected clients of a cohort.")
    flags.DEFINE_integer("rounds", 100, "Rounds to time.", lower_bound=2)


def main(argv: list[str]) -> int:
    """Makes, measures and prints; returns the exit code."""
    del argv
    if flags.FLAGS.clients // flags.FLAGS.smaller < flags.FLAGS.cohort:
        raise InputError(
            f"--clients={flags.FLAGS.clients} over --smaller={flags.FLAGS.smaller} leaves fewer "
            f"clients than --cohort={flags.FLAGS.cohort:g}; give more clients or a smaller cohort"
        )
    console = Console(file=sys.stderr)
    with _place() as place:
        found = []
        for clients in (flags.FLAGS.clients // flags.FLAGS.smaller, flags.FLAGS.clients):
            folder = place / f"clients_{clients}"
            seconds = make_population(folder, clients, console)
            if seconds is not None:
                console.print(f"wrote {folder} in {seconds:.1f} s", highlight=False)
            found.append(_measure(folder))
    Console(width=120).print(_table(found))
    breaches = breaches_of(*found)
    for breach in breaches:
        print(breach)
    return 1 if breaches else 0


def make_population(folder: Path, clients: int, console: Console) -> float | None:
    """Writes generated clients, unless they are there; returns the seconds that it took.

    Args:
      folder: The population's folder.
      clients: How many; each has `ROWS` rows of `FEATURES` normal features, and labels of a
        logistic model.
      console: Shows a progress bar.
    """
    if is_population(str(folder)):
        return None
    started = time.perf_counter()
    slopes = np.random.default_rng(0).standard_normal(FEATURES).astype(np.float32)

    def pieces() -> Iterator[Rows]:
        firsts = range(0, clients, _CLIENTS_AT_ONCE)
        for first in track(firsts, f"{clients:,} clients", console=console):
            ids = np.arange(first, min(first + _CLIENTS_AT_ONCE, clients))
            generator = np.random.default_rng([1, first])
            inputs = generator.standard_normal((len(ids) * ROWS, FEATURES), dtype=np.float32)
            noise = generator.logistic(size=len(inputs))
            labels = (inputs @ slopes + noise > 0).astype(np.int32)
            yield Rows({"inputs": inputs}, labels, np.repeat(ids, ROWS))

    description = PopulationDescription(encoding_from_records=False, source="generated")
    write_population(folder, pieces(), description=description)
    return time.perf_counter() - started


def breaches_of(small: dict[str, Any], large: dict[str, Any]) -> list[str]:
    """Returns a line for each goal that was missed.

    Args:
      small: What the probe found of the small population.
      large: What it found of the large one.
    """
    breaches = []
    median = float(np.median(large["warm_seconds"]))
    if median >= LARGEST_SECONDS:
        breaches.append(f"a round took {1e3 * median:.0f} ms, not under {1e3 * LARGEST_SECONDS:g}")
    more_clients = large["clients"] - small["clients"]
    for name in ("own_mib", "files_mib"):
        growth = (large[name] - small[name] - _CHANCE_MIB) * _MIB / more_clients
        if growth > LARGEST_BYTES_PER_CLIENT:
            breaches.append(
                f"{name} grows by {growth:.0f} bytes a client, more than {LARGEST_BYTES_PER_CLIENT}"
            )
    return breaches


@contextlib.contextmanager
def _place() -> Iterator[Path]:
    """The folder of the populations: the user's own, or one that is deleted afterwards."""
    if flags.FLAGS.folder:
        yield Path(flags.FLAGS.folder).expanduser()
        return
    with tempfile.TemporaryDirectory(prefix="fl_research_population_") as folder:
        yield Path(folder)


def _measure(folder: Path) -> dict[str, Any]:
    """Runs the probe in a process of its own."""
    result = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.population_probe"),
            *(str(folder.resolve()), str(flags.FLAGS.cohort), str(flags.FLAGS.rounds)),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def _table(found: list[dict[str, Any]]) -> Table:
    """One column a population."""
    table = Table(title=f"Poisson cohorts of {flags.FLAGS.cohort:g} clients, cut into two blocks")
    table.add_column("")
    for one in found:
        table.add_column(f"{one['clients']:,} clients", justify="right")

    def add(label: str, text: Any) -> None:
        """One row."""
        table.add_row(label, *(text(one) for one in found))

    def milliseconds(seconds: list[float]) -> str:
        """Median and slowest."""
        return f"{1e3 * np.median(seconds):.1f}, {1e3 * max(seconds):.1f}"

    add("rows on disk, MiB", lambda f: f"{f['clients'] * ROWS * (FEATURES + 1) * 4 / _MIB:,.0f}")
    add("mean cohort", lambda f: f"{f['cohort']:,.0f}")
    add("opening, ms", lambda f: f"{1e3 * f['open_seconds']:.0f}")
    add("splitting by client, ms", lambda f: f"{1e3 * f['split_seconds']:.0f}")
    add("first round, ms", lambda f: f"{1e3 * f['first_seconds']:.1f}")
    add("next rounds, ms: median, slowest", lambda f: milliseconds(f["warm_seconds"]))
    add("rounds from a cold disk, ms", lambda f: milliseconds(f["cold_seconds"]))
    add("own memory after imports, MiB", lambda f: f"{f['imported_mib']:.0f}")
    add("own memory, most after a round, MiB", lambda f: f"{f['own_mib']:.0f}")
    add("pages of the files, most after a round, MiB", lambda f: f"{f['files_mib']:.0f}")
    add("peak of all memory, MiB", lambda f: f"{f['peak_mib']:.0f}")
    return table


if __name__ == "__main__":
    define_flags()
    run_binary(main)
