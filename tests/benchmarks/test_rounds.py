"""The harness, with real processes of made-up systems."""

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks import rounds
from benchmarks.driver_process import DriverError, DriverProcess
from benchmarks.measurement import Bench, Plan, driver_command
from benchmarks.results_table import MARKDOWN_FILE, read_rows, write
from benchmarks.systems import SYSTEMS, SystemEntry

REPOSITORY = Path(__file__).resolve().parents[2]
FAKE = Path(__file__).with_name("fake_driver.py")
PLAN = Plan(cores=2, repetitions=3, min_repetitions=2, seconds_per_workload=60.0, warm_up_rounds=2)
RUN = {"command": "a command", "date": "a day", "machine": "a machine"}


def _entries(*names: str, tries_one_thread: bool = False) -> list[SystemEntry]:
    return [SystemEntry(name, "", "", tries_one_thread) for name in names]


def _bench(folder: Path, behaviours: Mapping[str, str], plan: Plan = PLAN) -> Bench:
    """A bench whose systems are fake drivers that behave as told."""

    def command_of(entry: SystemEntry) -> list[str]:
        behaviour = behaviours.get(entry.name, "well")
        return [sys.executable, str(FAKE), entry.name, behaviour, str(folder / "record")]

    return Bench(REPOSITORY, folder, plan, tell=lambda what: None, command_of=command_of)


def _record(folder: Path) -> list[list[str]]:
    """What the drivers wrote: name, threads, round, process, states of the others."""
    return [line.split() for line in (folder / "record").read_text().splitlines()]


def _is_alive(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _assert_gone(processes: set[int]) -> None:
    deadline = time.monotonic() + 5
    while left := {process for process in processes if _is_alive(process)}:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def test_the_check_fails_who_has_no_weights_or_others(tmp_path: Path) -> None:
    bench = _bench(tmp_path, {"flower": "other_work", "fedjax": "no_check"})
    entries = _entries("ours", "fedjax", "flower")
    failures, agreeing = bench.check(entries, ["telco", "mlp"])
    assert agreeing == {"telco": {"ours"}, "mlp": {"ours"}}
    assert [(f.workload, f.system, f.disagrees) for f in failures] == [
        ("telco", "fedjax", False),
        ("telco", "flower", True),
        ("mlp", "fedjax", False),
        ("mlp", "flower", True),
    ]
    assert failures[0].reason.startswith("RuntimeError: no check; its log is ")
    assert "off by 0.01 of the norm of the update" in failures[1].reason


def test_nobody_agrees_where_ours_has_no_weights(tmp_path: Path) -> None:
    bench = _bench(tmp_path, {"ours": "no_check"})
    failures, agreeing = bench.check(_entries("ours", "stock_tff"), ["telco"])
    assert agreeing == {"telco": set()}
    assert "not compared, because ours failed: RuntimeError: no check" in failures[1].reason
    assert not failures[1].disagrees


def test_systems_run_the_same_rounds_in_turn_and_are_paused_meanwhile(tmp_path: Path) -> None:
    bench = _bench(tmp_path, {"fedjax": "restless"})
    measurements, failures = bench.measure(_entries("ours", "stock_tff", "fedjax"), "telco")
    assert failures == []
    assert [(m.system, m.workload, m.threads) for m in measurements] == [
        (name, "telco", 2) for name in ("ours", "stock_tff", "fedjax")
    ]
    record = _record(tmp_path)
    starts, turns = record[:3], record[3:]
    assert [line[2] for line in starts] == ["0"] * 3
    pairs = [(str(2 * n - 1), str(2 * n)) for n in range(1, 6)]
    assert [line[2] for line in turns] == [n for pair in pairs for _ in range(3) for n in pair]
    assert all(one[0] == other[0] for one, other in zip(turns[::2], turns[1::2], strict=True))
    assert {turns[6 * n][0] for n in range(5)} == {"ours", "stock_tff", "fedjax"}
    # Whoever runs a round sees that the others are stopped, but for the one that may not be.
    assert {line[4] for line in turns if line[0] == "fedjax"} == {"TT"}
    for states in {line[4] for line in turns if line[0] != "fedjax"}:
        assert states in ("TS", "ST", "TR", "RT")
    for m in measurements:
        assert len(m.seconds) == 3
        assert 0.02 <= min(m.seconds) <= m.median <= max(m.seconds)
        assert m.first_round_seconds >= 0.12
        assert (m.version, m.note) == (f"{m.system} 1.0", "telco")
    assert statistics.median(measurements[0].seconds) < 0.1  # no warm-up among them
    _assert_gone({int(line[3]) for line in record})


def test_no_repetition_begins_when_the_time_is_over(tmp_path: Path) -> None:
    plan = Plan(
        cores=2, repetitions=50, min_repetitions=2, seconds_per_workload=0.0, warm_up_rounds=0
    )
    ((measurement,), _) = _bench(tmp_path, {}, plan).measure(_entries("ours"), "telco")
    assert len(measurement.seconds) == 2


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("no_start", "RuntimeError: cannot start; its log is "),
        ("no_round_4", "RuntimeError: round 4 is too much; its log is "),
        ("dies", "has ended; its log is "),
    ],
)
def test_a_driver_that_fails_drops_out_and_the_rest_goes_on(
    tmp_path: Path, behaviour: str, words: str
) -> None:
    bench = _bench(tmp_path, {"fedjax": behaviour})
    measurements, failures = bench.measure(_entries("ours", "fedjax"), "telco")
    assert [(m.system, len(m.seconds)) for m in measurements] == [("ours", 3)]
    ((failure),) = failures
    assert (failure.system, failure.workload) == ("fedjax", "telco")
    assert failure.reason.startswith(words)
    log = Path(failure.reason.rpartition("its log is ")[2]).read_text()
    assert "a library talks on standard output" in log
    assert "so does a child" in log
    _assert_gone({int(line[3]) for line in _record(tmp_path)})


def test_the_faster_number_of_threads_is_taken(tmp_path: Path) -> None:
    entries = [*_entries("ours"), *_entries("pfl_research", tries_one_thread=True)]
    measurements, _ = _bench(tmp_path, {}).measure(entries, "telco")
    (ours, peer) = measurements
    assert (ours.threads, peer.threads) == (2, 1)
    assert peer.note.startswith("telco; 1 thread(s); with 2: 0.02")
    assert {(line[0], line[1]) for line in _record(tmp_path)} == {
        ("ours", "2"),
        ("pfl_research", "1"),
        ("pfl_research", "2"),
    }


def test_memory_is_that_of_all_processes_and_none_is_left(tmp_path: Path) -> None:
    bench = _bench(tmp_path, {"flower": "with_child"})
    (ours, flower), _ = bench.measure(_entries("ours", "flower"), "telco")
    assert ours.peak_memory_mib > 10
    assert flower.peak_memory_mib > ours.peak_memory_mib + 96
    _assert_gone({process for process in _all_processes() if _mentions(process, tmp_path)})


def _all_processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _mentions(process: int, path: Path) -> bool:
    """Whether a path is among the arguments of a process."""
    try:
        return str(path).encode() in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_driver_that_is_silent_or_talks_nonsense_is_an_error(tmp_path: Path) -> None:
    log = tmp_path / "log"
    silent = DriverProcess("it", ["sleep", "60"], directory=tmp_path, log_path=log)
    with pytest.raises(DriverError, match=r"did not answer in 0\.05 s"):
        silent.ask("start", timeout_seconds=0.05)
    silent.kill()
    echo = DriverProcess("it", ["echo", "hello"], directory=tmp_path, log_path=log)
    with pytest.raises(DriverError, match="answered b'hello', which is no JSON"):
        echo.receive(5.0)
    echo.close()
    with pytest.raises(DriverError, match="cannot start no_such_program"):
        DriverProcess("it", ["no_such_program"], directory=tmp_path, log_path=log)


def test_drivers_end_with_the_harness_even_when_paused(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from benchmarks.driver_process import DriverProcess
command = [sys.executable, {str(FAKE)!r}, "it", "well", {str(tmp_path / "record")!r}]
driver = DriverProcess("it", command, directory=Path("."), log_path=Path({str(tmp_path / "log")!r}))
driver.ask("start", workload="telco", threads=2, timeout_seconds=30.0)
driver.allow_pauses(True)
driver.pause()
print("paused", flush=True)
time.sleep(60)
"""
    harness = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE
    )
    assert harness.stdout is not None
    assert harness.stdout.readline() == b"paused\n"
    ((*_, process, _),) = _record(tmp_path)
    assert _is_alive(int(process))
    os.kill(harness.pid, signal.SIGKILL)
    harness.wait()
    harness.stdout.close()
    _assert_gone({int(process)})


def test_a_missing_environment_is_one_line_and_the_rest_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = rounds.TerminalProgress()
    ghost = SystemEntry("ghost", ".benchmarks/ghost", ".benchmarks/ghost/.installed")
    found = rounds.present([SYSTEMS["ours"], ghost], progress)
    assert found == [SYSTEMS["ours"]]
    assert capsys.readouterr().err == (
        "left out: ghost: there is no Python at .benchmarks/ghost; make it with "
        "`make .benchmarks/ghost/.installed`\n"
    )
    python, *module = driver_command(REPOSITORY, SYSTEMS["ours"])
    assert Path(python).exists()
    assert module == ["-m", "benchmarks.systems.ours"]


def test_a_whole_run_writes_the_rows_of_those_that_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = _bench(tmp_path, {"flower": "other_work"})
    entries = _entries("ours", "stock_tff", "flower")
    measurements, failures = rounds.run(bench, entries, ["telco"], rounds.TerminalProgress())
    write(tmp_path / "results", measurements, failures, RUN)
    rows = read_rows(tmp_path / "results" / "rounds.csv")
    assert [(row["workload"], row["system"]) for row in rows] == [
        ("telco", "ours"),
        ("telco", "stock_tff"),
    ]
    assert rows[0]["ratio_to_ours"] == "1.000"
    ratio = float(rows[1]["seconds_median"]) / float(rows[0]["seconds_median"])
    assert float(rows[1]["ratio_to_ours"]) == pytest.approx(ratio, abs=0.002)
    text = (tmp_path / "results" / MARKDOWN_FILE).read_text()
    assert "telco, flower: after one round without noise its weights are off" in text
    told = capsys.readouterr().err
    assert "FAILED telco: flower: after one round without noise" in told
    assert "telco: ours 0.02" in told


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--systems=ours,theirs", "systems='theirs' is not known; give some of ours, stock_tff"),
        ("--workloads=mpl", "workloads='mpl' is not known; give some of mlp, text"),
        ("--workloads=", "workloads is empty; give some of mlp"),
        ("--cores=4096", "cores=4096 is more than there are"),
    ],
)
def test_wrong_flags_are_refused(flag: str, words: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.rounds", flag],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0 and words in result.stderr


def test_the_harness_needs_no_tensorflow() -> None:
    program = "import sys, benchmarks.rounds; print('tensorflow' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"
