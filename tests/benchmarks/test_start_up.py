"""The start-up benchmark: the parts it reads off a run's files, and a real start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import start_up

ROOT = Path(__file__).resolve().parents[2]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the benchmark as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.start_up", "--repetitions=1", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_part_is_the_time_between_two_files(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name, at in zip(start_up.PARTS.values(), (1002.5, 1008.0, 1009.25), strict=True):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (at, at))
    assert list(start_up.parts_of(tmp_path, 1000.0).values()) == [2.5, 5.5, 1.25]


def test_a_run_that_cannot_start_is_one_line() -> None:
    result = _run("--flags=--rounds=0")
    assert result.returncode == 2
    assert "error: --flags='--rounds=0': no round was finished; error: rounds=0" in result.stderr


@pytest.mark.slow
def test_a_real_start_is_timed_in_parts() -> None:
    """However long it takes on a busy machine; the goal is for a quiet one."""
    result = _run("--flags=--model=mlp --noise_multiplier=1")
    assert result.returncode in (0, 1), result.stderr
    for part in start_up.PARTS:
        assert part in result.stdout
