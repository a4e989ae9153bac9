"""The TFF context of this program: on the local worker, and on remote ones where there are some."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_federated as tff
from tensorflow_federated.python.core.environments.tensorflow_frontend import tensorflow_computation
from tensorflow_federated.python.core.impl.executors import cardinalities_utils
from tensorflow_federated.python.core.impl.types import type_conversions

from fl_research.runtime.default_context import as_default
from fl_research.runtime.identity_map import IdentityMap
from fl_research.runtime.remote_worker import RemoteWorker
from fl_research.runtime.spread_context import spread_context
from fl_research.runtime.worker_executors import WorkerExecutors
from fl_research.runtime.worker_process import WorkerProcess
from fl_research.runtime.worker_stub import LocalStub, WorkerStub


class WorkerContext(tff.framework.SyncContext):
    """Runs computations in one worker, each call once.

    Args:
      stub: Calls the worker.
    """

    def __init__(self, stub: WorkerStub) -> None:
        super().__init__()
        self._executors = WorkerExecutors(stub)
        self._compiled: IdentityMap[tff.Computation] = IdentityMap()

    def invoke(self, comp: tff.Computation, arg: Any) -> Any:
        """Runs a computation.

        Args:
          comp: The computation.
          arg: Its argument, a `Struct` of several; None without any.

        Raises:
          WorkerError: The worker is gone, or does not answer in time.
          grpc.RpcError: An error inside the computation.
        """
        compiled = self._compiled.get(
            comp, lambda: tff.backends.native.desugar_and_transform_to_native(comp)
        )
        if isinstance(arg, tff.structure.Struct):
            elements = tff.structure.iter_elements(arg)
            arg = tff.structure.Struct([(n, _without_tensors(value)) for n, value in elements])
        else:
            arg = _without_tensors(arg)
        numbers = cardinalities_utils.infer_cardinalities(arg, comp.type_signature.parameter)
        result = self._executors.run(compiled, numbers.get(tff.CLIENTS, 0), arg)
        return tensorflow_computation.transform_result(
            type_conversions.type_to_py_container(result, comp.type_signature.result)
        )

    def close(self) -> None:
        """Drops what the worker holds."""
        self._executors.close()


@contextlib.contextmanager
def default_context(
    worker: WorkerProcess,
    call_timeout_seconds: float | None,
    remote_workers: Sequence[RemoteWorker] = (),
) -> Iterator[None]:
    """Makes a context on `worker` TFF's default for this thread while the body runs.

    Args:
      worker: A worker that listens, and has ended by the time the body is left.
      call_timeout_seconds: Longest time of one call to the worker; `None` for no limit.
      remote_workers: Workers that take over the clients' work of each computation.

    Raises:
      WorkerError: What listens at a remote worker's address is no TFF worker.
    """
    with contextlib.ExitStack() as stack:
        stub = LocalStub(worker, call_timeout_seconds)
        stack.callback(stub.close)
        local = WorkerContext(stub)
        stack.callback(local.close)
        stack.enter_context(as_default(stack.enter_context(spread_context(local, remote_workers))))
        yield


def _without_tensors(value: Any) -> Any:
    """Returns a value with numpy arrays in place of TensorFlow's tensors and variables."""
    return tensorflow_computation.transform_args(value)
