"""TFF's execution contexts: start them, keep them quiet, and leave nothing behind.

`local_runtime` starts one worker process, imports TFF while the worker starts, and makes a context
on that worker TFF's default. Workers that run on other machines take over the clients' part of each
computation if their addresses are given. Whatever way the body is left (return, exception,
`sys.exit`, Ctrl-C, SIGTERM), the local worker is ended and waited for; when the program itself is
killed, the kernel ends it. A worker that dies is never restarted behind the caller's back, as stock
TFF does: a round that is silently repeated would be a release that nobody counted. The call raises
`WorkerError`.

This module imports neither TensorFlow nor TFF before `local_runtime` is entered, so that a program
can parse its flags first and nothing of the import reaches the terminal.
"""

import contextlib
import dataclasses
import importlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import absl.logging

from fl_research.run.durable_files import storage_errors
from fl_research.runtime import interrupts
from fl_research.runtime.worker_addresses import DEFAULT_TIMEOUT_SECONDS
from fl_research.runtime.worker_process import WorkerError, WorkerProcess

__all__ = ["Runtime", "WorkerError", "local_runtime", "quiet"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runtime:
    """A running local runtime.

    Attributes:
      worker: The worker's process.
      log_path: Where TensorFlow and the worker write.
    """

    worker: WorkerProcess
    log_path: Path


@contextlib.contextmanager
def local_runtime(
    *,
    log_path: Path | None = None,
    call_timeout_seconds: float | None = None,
    redirect_stderr: bool = True,
    workers: Sequence[str] = (),
) -> Iterator[Runtime]:
    """Runs TFF computations of the body in a local worker, and ends it afterwards.

    With `workers`, what a computation does at the clients runs on those, and the rest (the noise
    and the server's state with it) in the local worker; see `spread_context`.

    TFF keeps its contexts per thread: computations must be called in the thread that entered.
    In the main thread SIGTERM becomes `SystemExit(143)` while the body runs, unless the program has
    a handler of its own.

    Args:
      log_path: Takes what TensorFlow and the worker print; appended to. `None` uses a temporary
        file, deleted at the end unless the body raised an error.
      call_timeout_seconds: Longest time that one call to the worker may take, `None` for no limit.
      redirect_stderr: Whether this process's own TensorFlow output goes to the log, see `quiet`.
      workers: Addresses of workers on other machines, from `worker_addresses.checked_addresses`.

    Raises:
      WorkerError: The worker could not be started, or a remote one not be reached. In the body: one
        died, did not answer in time, or was cut off.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(interrupts.sigterm_exits())
        remote_workers = stack.enter_context(reached(workers, call_timeout_seconds))
        if log_path is None:
            log_path = stack.enter_context(_temporary_log())
        if redirect_stderr:
            stack.enter_context(quiet(log_path))
        worker = WorkerProcess(log_path)
        stack.callback(worker.stop)
        worker.start()
        # The import takes seconds; the worker needs 0.05 s and is up long before it is over.
        with interrupts.not_lost():
            context_module = importlib.import_module("fl_research.runtime.worker_context")
        worker.wait_until_listening()
        stack.enter_context(
            context_module.default_context(worker, call_timeout_seconds, remote_workers)
        )
        # Again, so that the worker ends before its context is dropped: after an interrupt a thread
        # of the context still waits for an answer, and dropping the context waits for that thread.
        stack.callback(worker.stop)
        yield Runtime(worker=worker, log_path=log_path)


@contextlib.contextmanager
def reached(workers: Sequence[str], timeout_seconds: float | None) -> Iterator[list[Any]]:
    """Gives the workers on other machines, each of which answers; see `remote_worker.reached`.

    Args:
      workers: Their addresses; none is fine.
      timeout_seconds: Longest time of one call; `None` takes `DEFAULT_TIMEOUT_SECONDS`.

    Raises:
      WorkerError: Some do not answer.
    """
    if not workers:
        yield []
        return
    with interrupts.not_lost():
        remote_worker = importlib.import_module("fl_research.runtime.remote_worker")
    seconds = DEFAULT_TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds
    with remote_worker.reached(workers, timeout_seconds=seconds) as remote:
        yield remote


@contextlib.contextmanager
def quiet(log_path: Path) -> Iterator[None]:
    """Sends what TensorFlow says in this process to a log; our own messages stay where they were.

    TensorFlow's C++ side writes to file descriptor 2, which becomes the log, while `sys.stderr`
    becomes a new file on what descriptor 2 was: tracebacks and progress bars still reach the
    terminal. The loggers of TensorFlow and absl, and warnings raised inside installed packages, go
    to the log too. Enter it before TensorFlow is imported for the first time.

    Args:
      log_path: Appended to; its folder exists.

    Raises:
      InputError: The log cannot be written.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with contextlib.ExitStack() as stack:
        with storage_errors(log_path):
            log = stack.enter_context(open(log_path, "a", encoding="utf-8", buffering=1))
        stack.enter_context(_python_messages_to(log))
        previous = sys.stderr
        previous.flush()
        terminal = os.dup(2)
        stack.callback(os.close, terminal)
        if _writes_to_descriptor_2(previous):
            stack.callback(setattr, sys, "stderr", previous)
            sys.stderr = stack.enter_context(_line_buffered(terminal, previous.encoding))
        stack.callback(os.dup2, terminal, 2)
        os.dup2(log.fileno(), 2)
        yield


@contextlib.contextmanager
def _line_buffered(descriptor: int, encoding: str) -> Iterator[TextIO]:
    """Opens a descriptor for text; flushes it at the end, readers or not."""
    file = open(descriptor, "w", 1, encoding, "backslashreplace", closefd=False)  # noqa: SIM115
    try:
        yield file
    finally:
        with contextlib.suppress(OSError, ValueError):
            file.close()


@contextlib.contextmanager
def _python_messages_to(log: TextIO) -> Iterator[None]:
    """Sends TensorFlow's and absl's log records and other packages' warnings to the log."""

    def take(record: logging.LogRecord) -> bool:
        """Writes a record to the log and keeps it from every handler."""
        print(f"{record.levelname}:{record.name}: {record.getMessage()}", file=log)
        return False

    def show(
        message: Warning | str, category: type[Warning], filename: str, *rest: Any, **named: Any
    ) -> None:
        """Writes a package's warning to the log, and shows one of our own."""
        if "site-packages" in filename:
            print(f"{category.__name__} in {filename}: {message}", file=log)
        else:
            previous_show(message, category, filename, *rest, **named)

    # absl's logger is of a class of its own, which absl sets when it is imported.
    loggers = [absl.logging.get_absl_logger(), logging.getLogger("tensorflow")]
    for logger in loggers:
        logger.addFilter(take)
    previous_show = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = previous_show
        for logger in loggers:
            logger.removeFilter(take)


@contextlib.contextmanager
def _temporary_log() -> Iterator[Path]:
    """Makes a log file that is deleted, unless the body raises an error."""
    descriptor, name = tempfile.mkstemp(prefix="fl_research_worker_", suffix=".log")
    os.close(descriptor)
    path = Path(name)
    try:
        yield path
    except Exception:
        raise
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    path.unlink(missing_ok=True)


def _writes_to_descriptor_2(stream: TextIO) -> bool:
    """Returns whether a stream is plain standard error, not a notebook's or a test's."""
    try:
        return stream.fileno() == 2
    except (AttributeError, OSError, ValueError):
        return False
