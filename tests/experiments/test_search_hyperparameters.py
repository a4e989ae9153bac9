"""The search binary: its grid, its draws, and a search that is stopped, fails, and goes on.

Trials of the quick tests are made up; the slow one runs the churn binary.
"""

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import search_grid, search_hyperparameters, search_run
from fl_research.errors import InputError
from fl_research.privacy.ledger import payloads, read_ledger
from fl_research.privacy.selection import FixedTrials, RandomTrials
from fl_research.reports import selection
from fl_research.run import search_log
from tests.run import search_example
from tests.run.search_example import NAME

ROOT = Path(__file__).resolve().parents[2]
BINARY = [sys.executable, "-m", "experiments.search_hyperparameters"]


def search_from(output_dir: Path, *arguments: str, grid: str = "noise_multiplier=3.0,4.0") -> None:
    """Runs the binary's main in this process."""
    before, after = search_hyperparameters.split_arguments([*arguments])
    with flagsaver.flagsaver():
        given = [f"--output_dir={output_dir}", f"--search={NAME}", f"--grid={grid}", *before]
        flags.FLAGS(["search_hyperparameters", *given])
        search_hyperparameters.main(after, [])


def test_a_grid_is_every_combination() -> None:
    grid = search_grid.parse_grid("client_learning_rate=0.1, 0.5; mlp_hidden_sizes=64,32|8;")
    assert grid == {"client_learning_rate": ["0.1", "0.5"], "mlp_hidden_sizes": ["64,32", "8"]}
    assert search_grid.points_of(grid) == [
        {"client_learning_rate": rate, "mlp_hidden_sizes": sizes}
        for rate in ("0.1", "0.5")
        for sizes in ("64,32", "8")
    ]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (";", "has 0 points"),
        ("clip_norm", "'clip_norm' is no flag with values"),
        ("clip_norm=1,,2", "is no flag with values"),
        ("clip_norm=1,1", "repeats a flag or a value"),
        ("clip_norm=1;clip_norm=2", "repeats a flag or a value"),
        ("noise_seed=1,2", "same noise"),
        ("seed=1,2", "seed must be the same in all trials"),
        ("delta=1e-5,1e-6", "delta must be the same in all trials"),
        ("validation_fraction=0.1,0.2", "validation_fraction must be the same"),
        ("run_name=a,b", "run_name must be the same"),
        ("rounds=" + ",".join(map(str, range(1, 1002))), "has 1,001 points"),
    ],
)
def test_wrong_grids_are_one_clear_line(tmp_path: Path, grid: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        search_from(tmp_path / "runs", grid=grid)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--binary=command"], "--binary=command is no experiment binary"),
        (["--binary=plan_privacy"], "--binary=plan_privacy is no experiment binary"),
        (["--search=a/b"], "--search=a/b is no name"),
        (["--grid="], "--grid is not given"),
        (["--trials_shape=1"], "needs --trials_mean"),
        (["--trials_mean=0.5"], "mean=0.5 is no mean"),
        (["--trials_mean=5", "--trials_shape=-1"], "shape=-1.0 is no shape"),
        (["--rounds=5"], "--rounds is a flag of the trials; write it after --"),
        (["--dataset=synthetic"], "--dataset is a flag of the trials"),
        (["--", "--noise_multiplier=2"], "--noise_multiplier is given and in --grid too"),
        (["--", "--noise_seed=2"], "same noise"),
        (["--", "--run_name=a"], "--run_name is given to trials by the search"),
        (["--", "--flagfile=gone.flags"], "gone.flags"),
    ],
)
def test_wrong_flags_are_one_clear_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        search_from(tmp_path / "runs", *arguments)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_flag_files_are_read_when_the_search_begins(tmp_path: Path) -> None:
    """What they hold later must not change the trials that are left."""
    path = tmp_path / "some.flags"
    path.write_text("--rounds=5\n# a remark\n--model=mlp\n")
    common = search_grid.common_flags([f"--flagfile={path}", "--batch_size=4"], {})
    assert common == ["--rounds=5", "--model=mlp", "--batch_size=4"]


def test_a_grid_runs_every_point_once() -> None:
    trials = search_grid.planned_trials("s", 3, FixedTrials(count=3))
    assert trials == [{"run": f"s-00{i + 1}", "point": i} for i in range(3)]


def test_random_trials_are_drawn_anew_and_evenly() -> None:
    """Counts, points and names come from the system's entropy.

    1,000 geometric counts of mean 5 have a standard deviation of 4.5 each and a mean within 0.85 of
    5 but for a probability below 1e-7 (6 deviations of 0.142, by the normal approximation); of 4
    points each has its share within 0.07 of 1/4 likewise (over 4,000 trials: 10 deviations).
    """
    searches = [
        search_grid.planned_trials("s", 4, RandomTrials(mean=5.0, shape=1.0)) for _ in range(1000)
    ]
    assert np.mean([len(trials) for trials in searches]) == pytest.approx(5.0, abs=0.85)
    points = [trial["point"] for trials in searches for trial in trials]
    assert np.bincount(points, minlength=4) / len(points) == pytest.approx([0.25] * 4, abs=0.07)
    names = [trial["run"] for trials in searches for trial in trials]
    assert len(set(names)) == len(names)


def test_help_answers_at_once() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(
        [*BINARY, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert result.returncode == 0
    for flag in ("--search", "--grid", "--trials_mean", "--trials_shape", "--output_dir"):
        assert f"  {flag}\n" in result.stdout


Call = Callable[[Sequence[str], Callable[[str], None]], tuple[int, str]]


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A search of two planned trials whose processes are made up; returns the runs it called.

    A trial ends as the last word of `tmp_path/behaviour` says.
    """
    entry = search_example.search([3.0, 4.0])
    entry |= {"binary": "churn_prevention", "command": "python -m experiments.churn_prevention"}
    search_log.begin(tmp_path, entry, search_grid.planned_trials(NAME, 2, FixedTrials(count=2)))
    called: list[str] = []

    def call(command: Sequence[str], show: Callable[[str], None]) -> tuple[int, str]:
        """A trial that releases two rounds, stops, or goes on to its end."""
        given = dict(argument.split("=") for argument in command[3:])
        folder = tmp_path / given["--run_name"]
        called.append(folder.name)
        noise = float(given["--noise_multiplier"])
        behaviour = (tmp_path / "behaviour").read_text()
        done = (
            len(payloads(read_ledger(folder / "ledger.jsonl"), "release")) if folder.exists() else 0
        )
        if behaviour == "never starts":
            return 2, "error: no disk"
        last = 2 if behaviour in ("interrupted", "diverges", "crashes") else search_example.ROUNDS
        search_example.start(folder, noise, rounds=range(done + 1, last + 1))
        status = {"interrupted": "interrupted", "diverges": "failed", "crashes": "failed"}
        (folder / "run.json").write_text(json.dumps({"status": status.get(behaviour, "completed")}))
        show("round 2")
        if behaviour in status:
            return {"interrupted": 130, "diverges": 2, "crashes": 1}[behaviour], "error: it broke"
        metric = f"round,{search_example.METRIC}\n4,{0.5 + noise / 100}\n"
        (folder / "metrics.csv").write_text(metric)
        return 0, "done"

    monkeypatch.setattr(search_run, "_call", call)
    monkeypatch.setattr(search_run.run_report, "write", lambda folder: None)
    return called


def behave(output_dir: Path, behaviour: str) -> None:
    (output_dir / "behaviour").write_text(behaviour)


def finished(output_dir: Path) -> dict[str, str]:
    """How each counted trial ended."""
    entries = read_ledger(search_log.log_path(output_dir, NAME))
    return {run: trial["status"] for run, trial in search_log.counted_trials(entries).items()}


def test_an_interrupted_search_goes_on_and_ends_the_same(
    tmp_path: Path, made_up: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    behave(tmp_path, "interrupted")
    with pytest.raises(KeyboardInterrupt):
        search_from(tmp_path)
    assert finished(tmp_path) == {}
    behave(tmp_path, "completes")
    search_from(tmp_path)
    assert made_up == [f"{NAME}-001", f"{NAME}-001", f"{NAME}-002"]
    assert set(finished(tmp_path).values()) == {"completed"}
    printed = capsys.readouterr().out
    assert f"chosen: {tmp_path / NAME}-002" in printed
    assert "validation auc: 0.5400" in printed and "best of 2 trials" in printed
    search_from(tmp_path)
    assert capsys.readouterr().out == printed
    assert len(made_up) == 3


def test_a_trial_that_diverges_is_counted_and_the_search_goes_on(
    tmp_path: Path, made_up: list[str]
) -> None:
    behave(tmp_path, "diverges")
    with pytest.raises(InputError, match="no trial with a validation metric"):
        search_from(tmp_path)
    assert finished(tmp_path) == {f"{NAME}-001": "failed", f"{NAME}-002": "failed"}


def test_a_trial_that_crashes_stops_the_search_unless_it_may_be_skipped(
    tmp_path: Path, made_up: list[str]
) -> None:
    behave(tmp_path, "crashes")
    with pytest.raises(InputError, match=rf"trial {NAME}-001 .*stopped: error: it broke"):
        search_from(tmp_path)
    assert finished(tmp_path) == {}
    with pytest.raises(InputError, match="no trial with a validation metric"):
        search_from(tmp_path, "--skip_failed")
    assert set(finished(tmp_path).values()) == {"failed"}


def test_a_trial_that_released_nothing_cannot_be_skipped(
    tmp_path: Path, made_up: list[str]
) -> None:
    behave(tmp_path, "never starts")
    with pytest.raises(InputError, match="stopped: error: no disk"):
        search_from(tmp_path, "--skip_failed")
    assert finished(tmp_path) == {}


def test_a_deleted_trial_is_counted_and_not_run_again(tmp_path: Path, made_up: list[str]) -> None:
    behave(tmp_path, "interrupted")
    with pytest.raises(KeyboardInterrupt):
        search_from(tmp_path)
    for path in (tmp_path / f"{NAME}-001").iterdir():
        path.unlink()
    (tmp_path / f"{NAME}-001").rmdir()
    behave(tmp_path, "completes")
    search_from(tmp_path)
    assert made_up == [f"{NAME}-001", f"{NAME}-002"]
    assert finished(tmp_path) == {f"{NAME}-001": "lost", f"{NAME}-002": "completed"}
    found = selection.section(tmp_path / f"{NAME}-002")
    assert found is not None
    assert (found["trials"], found["failed_trials"]) == (2, 1)


def test_the_same_name_with_another_grid_is_refused(tmp_path: Path, made_up: list[str]) -> None:
    with pytest.raises(InputError, match="was begun with grid="):
        search_from(tmp_path, grid="noise_multiplier=3.0")
    assert made_up == []


@pytest.mark.slow
def test_a_real_search_interrupted_resumed_and_verified(tmp_path: Path) -> None:
    """Two trials of the churn binary on few clients; Ctrl-C during the first."""
    command = [*BINARY, "--search=real", "--grid=client_learning_rate=0.1,0.5"]
    command += [f"--output_dir={tmp_path}", "--", "--rounds=3", "--noise_multiplier=2"]
    command += ["--partition=iid", "--partition_clients=60", "--sampling=full"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    ledger = tmp_path / "real-001" / "ledger.jsonl"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if ledger.exists() and b'"release"' in ledger.read_bytes():
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert not (tmp_path / "real-002").exists()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folders = [tmp_path / "real-001", tmp_path / "real-002"]
    scores = [search_log.last_metric(folder, "validation_auc") or 0.0 for folder in folders]
    best = folders[int(np.argmax(scores))]
    found = selection.section(best)
    assert found is not None and found["chosen"] and found["trials"] == 2
    assert found["epsilon"] > found["epsilon_of_run"]
    assert found["statement"] in done.stdout
    verify = [sys.executable, "-m", "experiments.verify_report", f"--run={best}"]
    assert subprocess.run(verify, cwd=ROOT, capture_output=True, check=False).returncode == 0
