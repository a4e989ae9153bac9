"""The population benchmark on populations that are made in a second."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import population
from fl_research.data.population import open_population

ROOT = Path(__file__).resolve().parents[2]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the benchmark as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.population", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_small_benchmark_prints_its_table_and_keeps_the_populations(tmp_path: Path) -> None:
    """The second time they are there already."""
    arguments = [f"--folder={tmp_path}", "--clients=4000", "--cohort=50", "--rounds=5"]
    first, second = _run(*arguments), _run(*arguments)
    assert first.returncode == second.returncode == 0, first.stdout + first.stderr
    assert "4,000 clients" in first.stdout and "rounds from a cold disk" in first.stdout
    assert "wrote" in first.stderr and "wrote" not in second.stderr
    clients = open_population(tmp_path / "clients_400").clients
    assert (clients.num_clients, clients.num_rows) == (400, 400 * population.ROWS)
    counts = clients.label_counts()
    assert set(counts) == {0, 1} and 0.4 < counts[1] / clients.num_rows < 0.6


def test_a_cohort_that_does_not_fit_is_refused() -> None:
    result = _run("--clients=4000", "--cohort=1000")
    assert result.returncode == 2 and "leaves fewer clients than --cohort=1000" in result.stderr


SMALL = {"clients": 100, "own_mib": 60.0, "files_mib": 1.0, "warm_seconds": [0.01]}
LARGE = SMALL | {"clients": 1_000_100}


@pytest.mark.parametrize(
    ("large", "lines"),
    [
        ({"own_mib": 70.0, "files_mib": 9.0, "warm_seconds": [0.5, 0.01, 0.01]}, []),
        ({"own_mib": 80.0}, ["own_mib grows by 17 bytes a client, more than 16"]),
        ({"files_mib": 1500.0}, ["files_mib grows by 1568 bytes a client, more than 16"]),
        ({"warm_seconds": [0.01, 0.2, 0.3]}, ["a round took 200 ms, not under 100"]),
    ],
)
def test_missed_goals_are_named(large: dict[str, Any], lines: list[str]) -> None:
    assert population.breaches_of(SMALL, LARGE | large) == lines
