"""TFF computations in this process, for rounds so small that a worker's transport would show.

`in_process_runtime` stands next to `local_runtime` and keeps the same promises: TensorFlow's output
goes to a log, SIGTERM is an orderly exit, an interrupt ends a computation soon, and afterwards the
enclosing runtime computes again. There is no worker: no second process, no serialisation, and
arrays reach TensorFlow without a copy where their memory allows. An abort inside TensorFlow, such
as for want of memory, ends the program itself.

This module imports neither TensorFlow nor TFF before `in_process_runtime` is entered.
"""

import contextlib
import dataclasses
import importlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fl_research.runtime import interrupts, quiet, reached


@dataclasses.dataclass(frozen=True, kw_only=True)
class InProcessRuntime:
    """A running in-process runtime.

    Attributes:
      num_threads: How many blocks of clients are worked on at a time, one a core.
    """

    num_threads: int


@contextlib.contextmanager
def in_process_runtime(
    *,
    log_path: Path | None = None,
    redirect_stderr: bool = True,
    workers: Sequence[str] = (),
    call_timeout_seconds: float | None = None,
) -> Iterator[InProcessRuntime]:
    """Runs TFF computations of the body in this process.

    With `workers`, what a computation does at the clients runs on those, and the rest (the noise
    and the server's state with it) in this process; see `spread_context`.

    TFF keeps its contexts per thread: computations must be called in the thread that entered.
    In the main thread SIGTERM becomes `SystemExit(143)` while the body runs, unless the program has
    a handler of its own. Not every computation runs here: sequences, secure sums and
    `federated_select` do not, and say so when the computation is first called.

    Args:
      log_path: Takes what TensorFlow prints; appended to. `None` drops it.
      redirect_stderr: Whether TensorFlow's output is redirected at all, see `quiet`.
      workers: Addresses of workers on other machines, from `worker_addresses.checked_addresses`.
      call_timeout_seconds: Longest time that one call to such a worker may take, `None` for the
        default of `worker_addresses`.

    Raises:
      InputError: The log cannot be written.
      WorkerError: A remote worker cannot be reached. In the body: one died, did not answer in time,
        or was cut off.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(interrupts.sigterm_exits())
        remote_workers = stack.enter_context(reached(workers, call_timeout_seconds))
        if redirect_stderr:
            stack.enter_context(quiet(log_path or Path(os.devnull)))
        # Read when TensorFlow is imported; the environment wins, as it does for a worker.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
        with interrupts.not_lost():
            context_module = importlib.import_module("fl_research.runtime.in_process_context")
        context_module.use_one_thread_inside_operations()
        num_threads = stack.enter_context(context_module.default_context(remote_workers))
        yield InProcessRuntime(num_threads=num_threads)
