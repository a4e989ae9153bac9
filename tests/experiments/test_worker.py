"""The worker binary as its machine's owner meets it: what it says, how it ends, what it leaves."""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "experiments.worker"]

StartWorker = Callable[..., subprocess.Popen[str]]


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartWorker]:
    """Starts the binary in a folder of the test's own; kills it at the end."""
    processes: list[subprocess.Popen[str]] = []

    def start_worker(*arguments: str) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        return processes[-1]

    yield start_worker
    for process in processes:
        process.kill()
        process.communicate()


def _lines_until(process: subprocess.Popen[str], words: str) -> list[str]:
    """What the binary prints up to the line with these words."""
    lines: list[str] = []
    deadline = time.monotonic() + 60
    while not lines or words not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], f"it ended after {lines}: {process.stderr.read()}"
        assert time.monotonic() < deadline, f"it says something else: {lines}"
    return lines


def _tff_worker(process: subprocess.Popen[str]) -> psutil.Process:
    """TFF's worker under the binary."""
    (child,) = psutil.Process(process.pid).children()
    return child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_that_it_listens_and_who_may_and_stops_cleanly(
    start: StartWorker, tmp_path: Path, number: signal.Signals
) -> None:
    port = free_port()
    process = start(f"--port={port}")
    said = "".join(_lines_until(process, "no password"))
    assert re.search(rf"^\d\d:\d\d:\d\d listening on port {port} of every interface", said)
    assert f"log: {tmp_path / f'worker_{port}.log'}" in said
    assert "no encryption" in said and (tmp_path / f"worker_{port}.log").exists()
    worker = _tff_worker(process)
    process.send_signal(number)
    rest, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    assert rest.endswith("stopped\n")
    assert not worker.is_running()


def test_it_reports_on_time_and_on_change_and_starts_afresh_after_a_run(
    start: StartWorker,
) -> None:
    port = free_port()
    process = start(f"--port={port}", "--status_seconds=1")
    line = _lines_until(process, "no run connected")[-1]
    assert re.search(r"up 0:00:0\d, no run connected, CPU \d+%, memory \d+ MiB\n$", line)
    first = _tff_worker(process)
    with socket.create_connection(("127.0.0.1", port)):
        _lines_until(process, "serving 127.0.0.1, CPU")
        assert _tff_worker(process) == first
    _lines_until(process, "started afresh, process")
    assert _tff_worker(process) != first
    with socket.create_connection(("127.0.0.1", port)):
        _lines_until(process, "serving 127.0.0.1, CPU")


def test_a_port_in_use_is_one_clear_error_and_the_owner_stays(start: StartWorker) -> None:
    port = free_port()
    owner = start(f"--port={port}")
    _lines_until(owner, "listening")
    second = start(f"--port={port}")
    output, errors = second.communicate(timeout=10)
    assert (second.returncode, output) == (1, "")
    assert errors == f"error: cannot listen on port {port}: Address already in use; " + (
        "choose another port\n"
    )
    assert owner.poll() is None


def test_a_worker_that_dies_is_exit_code_1_with_the_reason(start: StartWorker) -> None:
    process = start(f"--port={free_port()}")
    _lines_until(process, "no password")
    _tff_worker(process).kill()
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 1
    assert re.fullmatch(r"error: the TFF worker was ended by SIGKILL.*its log is .*\n", errors)


def test_kill_9_leaves_no_worker_behind(start: StartWorker) -> None:
    process = start(f"--port={free_port()}")
    _lines_until(process, "no password")
    worker = _tff_worker(process)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 5
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--port is not given"),
        (["--port=0"], "--port=0 does not lie between"),
        (["--port=65536"], "--port=65536 does not lie between"),
        (["--port=http"], "port"),
        (["--port=8470", "--status_seconds=0"], "--status_seconds=0 must be above 0"),
        (["--port=8470", "--log_file=no/such/folder/w.log"], "no/such/folder/w.log"),
    ],
)
def test_wrong_flags_are_one_line(start: StartWorker, arguments: list[str], message: str) -> None:
    process = start(*arguments)
    output, errors = process.communicate(timeout=20)
    assert process.returncode in (1, 2) and output == ""
    assert re.fullmatch(rf"error: .*{re.escape(message)}.*\n", errors)


def test_help_answers_at_once(start: StartWorker) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = start("--help")
    output, _ = process.communicate(timeout=20)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert process.returncode == 0 and "--port" in output and "without a password" in output
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
