"""A TFF execution context that computes in this process.

A computation is turned into a plan when it is called for the first time; see `computation_plan`.
A call then converts the arguments, runs the plan, and converts the results.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff
from tensorflow.python.eager import cancellation

from fl_research.runtime.computation_plan import Run, make_plan
from fl_research.runtime.core_threads import CoreThreads
from fl_research.runtime.default_context import as_default
from fl_research.runtime.identity_map import IdentityMap
from fl_research.runtime.remote_worker import RemoteWorker
from fl_research.runtime.spread_context import spread_context
from fl_research.runtime.value_conversion import Arguments, Results, make_reader, make_writer

# After an interrupt: loops end within a millisecond, but compiled code cannot be cancelled.
_GRACE_SECONDS = 5.0


def use_one_thread_inside_operations() -> None:
    """Lets each operation run on one core, unless the environment or the program chose a number.

    A block of clients a core keeps the cores busy; threads inside an operation would only wait for
    those of another block. With a single block, set `TF_NUM_INTRAOP_THREADS` to the cores. Nothing
    changes once TensorFlow has computed something.
    """
    threading = tf.config.threading
    if "TF_NUM_INTRAOP_THREADS" in os.environ or threading.get_intra_op_parallelism_threads():
        return
    with contextlib.suppress(RuntimeError):
        threading.set_intra_op_parallelism_threads(1)


class InProcessContext(tff.framework.SyncContext):
    """Runs computations on the cores of this process."""

    def __init__(self, threads: CoreThreads) -> None:
        """Starts with nothing compiled.

        Args:
          threads: Where it computes.
        """
        self._threads = threads
        self._compiled: IdentityMap[_Compiled] = IdentityMap()

    def invoke(self, comp: tff.Computation, arg: Any) -> Any:
        """Calls a computation.

        Args:
          comp: The computation.
          arg: Its argument, a `Struct` of several; None without any.

        Raises:
          TypeError: An argument is not of its type.
          UnsupportedComputationError: The computation cannot run in this process.
          tf.errors.OpError: TensorFlow failed; its message says where and why.
        """
        compiled = self._compiled.get(comp, lambda: _Compiled(comp))
        cancel = cancellation.CancellationManager()
        # Not in this thread: it waits where an interrupt can reach it.
        task = self._threads.start(lambda: compiled(arg, self._threads, cancel))
        try:
            return task.result()
        except BaseException as error:
            if not isinstance(error, Exception):
                cancel.start_cancel()
                with contextlib.suppress(Exception):
                    task.result(_GRACE_SECONDS)
            raise


class _Compiled:
    """A computation that can be called."""

    def __init__(self, comp: tff.Computation) -> None:
        """Makes the plan and the conversions."""
        signature = comp.type_signature
        self._plan = make_plan(comp)
        self._read: Callable[[Any, Arguments], list[Any]] = (
            make_reader(signature.parameter)
            if signature.parameter is not None
            else lambda value, arguments: []
        )
        self._write = make_writer(signature.result, self._plan.result)

    def __call__(
        self, arg: Any, threads: CoreThreads, cancel: cancellation.CancellationManager
    ) -> Any:
        """Computes."""
        arguments = Arguments()
        tensors = self._read(arg, arguments)
        registers = list(self._plan.registers)
        for place, tensor in zip(self._plan.parameters, tensors, strict=True):
            registers[place.register] = tensor
        run = Run(
            registers=registers, members=arguments.members or 0, threads=threads, cancel=cancel
        )
        self._plan.run(run)
        return self._write(Results(registers, arguments))


@contextlib.contextmanager
def default_context(remote_workers: Sequence[RemoteWorker] = ()) -> Iterator[int]:
    """Makes an in-process context TFF's default for this thread while the body runs.

    Args:
      remote_workers: Workers that take over the clients' work of each computation.

    Yields:
      The number of threads that it computes on.
    """
    threads = CoreThreads()
    try:
        with (
            spread_context(InProcessContext(threads), remote_workers) as context,
            as_default(context),
        ):
            yield threads.count
    finally:
        threads.stop(_GRACE_SECONDS)
