"""The contract of a use case; every binary of experiments/ with a `USE_CASE` goes through it."""

import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import planned_run, use_case
from fl_research.data.datasets import registry as datasets
from fl_research.errors import InputError

EXPERIMENTS = Path(use_case.__file__).parent
BINARIES = sorted(
    path.stem for path in EXPERIMENTS.glob("*.py") if planned_run.is_binary(path.stem)
)
FLAG_FILES = sorted((EXPERIMENTS / "flagfiles").glob("*.flags"))


def _binary_of(flag_file: Path) -> str:
    """The binary that a flag file is for: the only one whose first word its name has."""
    (binary,) = (b for b in BINARIES if flag_file.stem.split("_")[0] in b.split("_"))
    return binary


def test_the_binaries_are_found() -> None:
    """Whoever adds one need not add it here."""
    assert "churn_prevention" in BINARIES


@pytest.mark.parametrize("binary", BINARIES)
def test_help_answers_with_docstring_flags_and_commands(binary: str) -> None:
    """In a process of its own, without TensorFlow: that would take seconds."""
    program = (
        f"import sys, runpy; sys.argv = ['{binary}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('experiments.{binary}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as stop:\n"
        "    sys.exit(stop.code or 3 * ('tensorflow' in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=EXPERIMENTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"python -m experiments.{binary}" in done.stdout
    for flag in ("--dataset", "--target_epsilon", "--mechanism", "--client_column", "--flagfile"):
        assert flag in done.stdout


@pytest.mark.parametrize("binary", BINARIES)
def test_it_names_what_it_is_and_data_that_there_is(binary: str) -> None:
    found = use_case.find(binary)
    assert found.name == binary and "synthetic" in found.datasets
    assert set(found.datasets.values()) <= set(datasets.names())
    assert set(found.defaults) <= set(flags.FLAGS)


@pytest.mark.parametrize("binary", BINARIES)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset=nowhere"], "--dataset=nowhere is unknown; choose from synthetic, .*table"),
        (["--dataset=table"], "--data is not given"),
        (["--delimiter=;"], "--delimiter=; belongs to --dataset=table"),
        (["--dataset=table", "--data=/nowhere.csv"], "no file or folder /nowhere.csv"),
    ],
)
def test_wrong_data_flags_are_one_clear_error(
    binary: str, arguments: list[str], message: str
) -> None:
    found = use_case.find(binary)
    with flagsaver.flagsaver():
        found.set_defaults()
        flags.FLAGS([binary, *arguments])
        found.settle()
        with pytest.raises(InputError, match=message) as error:
            found.load(0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("flag_file", FLAG_FILES, ids=lambda path: path.stem)
def test_flag_files_say_what_to_expect_and_are_read(flag_file: Path) -> None:
    """They begin with a comment, and the binary that they are for knows their flags."""
    binary = _binary_of(flag_file)
    assert flag_file.read_text(encoding="utf-8").startswith("# ")
    program = (
        f"from experiments import {binary}\n"
        "from absl import flags\n"
        f"{binary}.USE_CASE.set_defaults()\n"
        f"flags.FLAGS(['{binary}', '--flagfile={flag_file}'])\n"
        f"assert flags.FLAGS.dataset in {binary}.USE_CASE.datasets\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=EXPERIMENTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
