"""The memory benchmark: what counts as growth, and that there is none."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.memory import growth_of
from benchmarks.process_memory import memory_of

ROOT = Path(__file__).resolve().parents[2]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the benchmark as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_growth_is_above_the_most_that_was_held_before() -> None:
    """A dip at round 100 is no growth afterwards, and neither is what came before it."""
    program = [700, 690, 650, 710, 680]
    samples = [
        {"round": number, "program_mib": mib, "worker_mib": 100.0 + number / 100}
        for number, mib in zip((10, 50, 100, 110, 200), program, strict=True)
    ]
    growth = growth_of(samples)
    assert growth["program_mib"] == pytest.approx(710 / 700 - 1)
    assert growth["worker_mib"] == pytest.approx(102 / 101 - 1)
    assert growth_of(samples[:3] + samples[4:])["program_mib"] < 0


def test_memory_of_a_process_follows_what_it_takes() -> None:
    """50 MB more are seen, and gone when they are given back, except from the peak."""
    before = memory_of()
    block = bytearray(50 << 20)
    during = memory_of()
    del block
    after = memory_of()
    assert 49 < during.own - before.own < 60
    assert abs(after.own - before.own) < 5
    assert after.peak > before.resident + 49
    assert during.resident == pytest.approx(during.own + during.files, abs=5)


def test_too_few_rounds_are_refused() -> None:
    result = _run("--rounds=100")
    assert result.returncode == 2
    assert "--rounds=100 is too few; growth is counted from round 100 on" in result.stderr


@pytest.mark.slow
def test_300_rounds_grow_by_less_than_five_percent_after_round_100(tmp_path: Path) -> None:
    """Program and worker, as a user trains, with other cohorts every round."""
    result = _run("--rounds=300", f"--output_dir={tmp_path}")
    assert result.returncode == 0, result.stdout + result.stderr
    with (tmp_path / "memory.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["round"]) for row in rows] == list(range(10, 301, 10))
    assert all(float(row["program_mib"]) > 100 for row in rows)
    assert (tmp_path / "memory.png").stat().st_size > 5_000
