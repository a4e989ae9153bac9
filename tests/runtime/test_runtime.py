"""The runtime: no worker stays behind, nothing reaches the terminal, a dead worker is one error."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from fl_research import runtime
from fl_research.runtime import interrupts

REPOSITORY = Path(__file__).resolve().parents[2]
ENDLESS = 2**31 - 1

StartProgram = Callable[[str], subprocess.Popen[str]]

# One program, left in the way that its first argument names.
PROGRAM = """
import sys, time
from pathlib import Path
from fl_research import runtime

with runtime.local_runtime(log_path=Path(sys.argv[2])) as session:
    import numpy as np, tensorflow as tf, tensorflow_federated as tff

    @tff.tensorflow.computation(np.int32)
    def count_to(limit):
        return tf.while_loop(lambda i: i < limit, lambda i: i + 1, [tf.constant(0)])[0]

    print("worker", session.worker.process_id, "counted", count_to(7), flush=True)
    if sys.argv[1] == "count":
        count_to(2**31 - 1)
    if sys.argv[1] == "print":
        while True:
            print("line", flush=True)
            time.sleep(0.1)
try:
    count_to(7)
except RuntimeError:
    print("no context", flush=True)
"""


def _is_gone(process_id: int) -> bool:
    """Returns whether a process ends within five seconds (a zombie has ended)."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def _computations() -> Any:
    """Returns `add_one` and `count_to`, as TFF computations."""
    import tensorflow as tf
    import tensorflow_federated as tff

    @tff.tensorflow.computation(np.int32)
    def add_one(value):
        return value + 1

    @tff.tensorflow.computation(np.int32)
    def count_to(limit):
        return tf.while_loop(lambda i: i < limit, lambda i: i + 1, [tf.constant(0)])[0]

    return add_one, count_to


@pytest.fixture
def session(tff_runtime: None, tmp_path: Path) -> Iterator[runtime.Runtime]:
    """A runtime of the test's own, inside the session's."""
    with runtime.local_runtime(log_path=tmp_path / "w.log", redirect_stderr=False) as session:
        yield session


def test_computes_then_gives_way_to_the_enclosing_runtime(tff_runtime: None) -> None:
    add_one, _ = _computations()
    with runtime.local_runtime(redirect_stderr=False) as session:
        assert add_one(1) == 2
        assert psutil.Process(session.worker.process_id).name() == "worker_binary"
        assert session.log_path.exists()
    assert not psutil.pid_exists(session.worker.process_id)
    assert not session.log_path.exists(), "a temporary log is deleted"
    assert add_one(2) == 3, "the enclosing runtime computes again"


@pytest.mark.parametrize("error", [ZeroDivisionError(), SystemExit(3), BrokenPipeError()])
def test_no_worker_after_leaving_by(tff_runtime: None, error: BaseException) -> None:
    with pytest.raises(type(error)):
        with runtime.local_runtime(redirect_stderr=False) as session:
            raise error
    assert not psutil.pid_exists(session.worker.process_id)


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_in_the_midst_of_a_computation_ends_program_and_worker(
    tff_runtime: None, number: signal.Signals, expected: type[BaseException]
) -> None:
    _, count_to = _computations()
    handlers = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    threading.Timer(1.0, os.kill, (os.getpid(), number)).start()
    started = time.monotonic()
    with pytest.raises(expected) as caught:
        with runtime.local_runtime(redirect_stderr=False) as session:
            count_to(ENDLESS)
    assert time.monotonic() - started < 4
    assert not psutil.pid_exists(session.worker.process_id)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    if expected is SystemExit:
        assert caught.value.code == 143


def test_a_worker_killed_during_a_computation_is_one_clear_error(session: runtime.Runtime) -> None:
    add_one, count_to = _computations()
    threading.Timer(1.0, os.kill, (session.worker.process_id, signal.SIGKILL)).start()
    started = time.monotonic()
    for when in ("during a computation", "between two computations"):
        with pytest.raises(runtime.WorkerError) as caught:
            count_to(ENDLESS)
        message = str(caught.value)
        for part in ("SIGKILL", when, str(session.log_path), "run the same command again"):
            assert part in message
        assert "\n" not in message
    with pytest.raises(runtime.WorkerError):
        add_one(1)
    assert time.monotonic() - started < 5


def test_a_worker_that_hangs_is_an_error_after_the_timeout(
    tff_runtime: None, tmp_path: Path
) -> None:
    add_one, _ = _computations()
    with runtime.local_runtime(
        log_path=tmp_path / "w.log", call_timeout_seconds=1.0, redirect_stderr=False
    ) as session:
        assert add_one(1) == 2
        os.kill(session.worker.process_id, signal.SIGSTOP)
        with pytest.raises(runtime.WorkerError, match="does not answer"):
            add_one(1)
    assert not psutil.pid_exists(session.worker.process_id), "SIGTERM is not enough here"


def test_an_error_inside_a_computation_is_passed_on_and_the_worker_goes_on(
    session: runtime.Runtime,
) -> None:
    import grpc
    import tensorflow as tf
    import tensorflow_federated as tff

    @tff.tensorflow.computation(np.int32)
    def refuse(value):
        with tf.control_dependencies([tf.debugging.Assert(value < 0, ["too large"])]):
            return tf.identity(value)

    add_one, _ = _computations()
    with pytest.raises(grpc.RpcError, match="too large"):
        refuse(1)
    assert add_one(1) == 2


def test_the_worker_gets_our_environment_and_no_terminal(session: runtime.Runtime) -> None:
    process = psutil.Process(session.worker.process_id)
    environment = process.environ()
    assert environment["TF_ENABLE_ONEDNN_OPTS"] == os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1")
    assert environment["TF_CPP_MIN_LOG_LEVEL"] == os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")
    files = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in (0, 1, 2)]
    assert files == ["/dev/null", str(session.log_path), str(session.log_path)]


def test_an_interrupt_that_an_import_swallows_is_raised_again() -> None:
    for swallow in (KeyboardInterrupt, None):
        with pytest.raises(KeyboardInterrupt):
            with interrupts.not_lost():
                try:
                    signal.raise_signal(signal.SIGINT)
                except KeyboardInterrupt:
                    if swallow is None:
                        raise ImportError("half loaded") from None
    with pytest.raises(ZeroDivisionError):
        with interrupts.not_lost():
            raise ZeroDivisionError


def test_an_interrupt_is_put_off_until_the_work_is_done() -> None:
    done = False
    with pytest.raises(KeyboardInterrupt):
        with interrupts.deferred():
            signal.raise_signal(signal.SIGINT)
            done = True
    assert done


@pytest.fixture
def start_program(tmp_path: Path) -> Iterator[StartProgram]:
    """Starts the program in a mode, with its log at `tmp_path/run.log`; kills it at the end."""
    programs: list[subprocess.Popen[str]] = []

    def start(mode: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, mode, str(tmp_path / "run.log")]
        pipe = subprocess.PIPE
        programs.append(
            subprocess.Popen(
                command, cwd=REPOSITORY, text=True, stdout=pipe, stderr=pipe, start_new_session=True
            )
        )
        return programs[-1]

    yield start
    for program in programs:
        program.kill()
        program.wait()


def _worker_of(line: str) -> int:
    """Returns the worker's process id from the program's first line."""
    words = line.split()
    assert words[0] == "worker" and words[2:] == ["counted", "7"], line
    return int(words[1])


@pytest.mark.slow
def test_the_terminal_shows_the_programs_own_lines_and_nothing_else(
    start_program: StartProgram, tmp_path: Path
) -> None:
    output, errors = start_program("leave").communicate(timeout=120)
    first, *rest = output.splitlines()
    assert _is_gone(_worker_of(first))
    assert rest == ["no context"], "after the runtime, TFF must not start a worker of its own"
    assert errors == ""
    assert "cuda" in (tmp_path / "run.log").read_text(), "TensorFlow's chatter is in the log"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_after_the_program_was_ended_while_computing(
    start_program: StartProgram, number: signal.Signals
) -> None:
    program = start_program("count")
    worker = _worker_of(program.stdout.readline())
    time.sleep(0.5)
    os.killpg(program.pid, number)  # to the whole group, as the terminal's Ctrl-C does
    _, errors = program.communicate(timeout=10)
    assert program.returncode == -number
    assert _is_gone(worker)
    assert errors.count("Traceback") == (number == signal.SIGINT), errors


@pytest.mark.slow
def test_output_into_head_returns_at_once(start_program: StartProgram) -> None:
    program = start_program("print")
    worker = _worker_of(program.stdout.readline())
    started = time.monotonic()
    program.stdout.close()  # what `head -1` does when it has its line
    program.stdout = None
    program.communicate(timeout=20)
    assert program.returncode != 0
    assert time.monotonic() - started < 5
    assert _is_gone(worker)


@pytest.mark.parametrize("delay", [0.0, 1.5])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -2), (signal.SIGTERM, 143)])
def test_no_worker_after_the_program_was_ended_while_starting(
    start_program: StartProgram, number: signal.Signals, code: int, delay: float
) -> None:
    program = start_program("count")
    deadline = time.monotonic() + 30
    workers: list[psutil.Process] = []
    while not workers and time.monotonic() < deadline:
        workers = psutil.Process(program.pid).children()
        time.sleep(0.005)
    time.sleep(delay)
    os.killpg(program.pid, number)
    program.communicate(timeout=20)
    assert program.returncode == code
    assert workers and all(_is_gone(worker.pid) for worker in workers)
