"""A TFF execution context on one worker process, without stock TFF's silent retries.

Stock TFF repeats a call for ever when gRPC says UNAVAILABLE or FAILED_PRECONDITION, on a new worker
if the old one died. Here every call to the worker is made once. If it fails because the worker is
gone, `WorkerError` says so; any other failure (an error inside the computation) is passed on as the
gRPC error that carries TensorFlow's message.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import executor_pb2_grpc
from tensorflow_federated.python.core.environments.tensorflow_frontend import tensorflow_computation

from fl_research.runtime.worker_process import WorkerError, WorkerProcess

_MAX_MESSAGE_BYTES = 2 * 1000 * 1000 * 1000
_CHANNEL_OPTIONS = [
    ("grpc.max_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),  # the worker is on this machine, whatever http_proxy says
]
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
# A connection breaks a moment before its process can be waited for.
_GRACE_SECONDS = 5.0

_active_contexts: list[Any] = []


class _WorkerStub(tff.framework.RemoteExecutorStub):
    """Calls one worker, once a call, and says in plain words when it is gone."""

    def __init__(self, worker: WorkerProcess, timeout_seconds: float | None) -> None:
        """Opens the channel."""
        self._worker = worker
        self._timeout_seconds = timeout_seconds
        self._channel = grpc.insecure_channel(worker.address, _CHANNEL_OPTIONS)
        self._service = executor_pb2_grpc.ExecutorGroupStub(self._channel)

    def _call(self, method: Any, request: Any) -> Any:
        """Makes one call; a dead or silent worker is a `WorkerError`."""
        if not self._worker.is_alive():
            raise WorkerError(self._worker.failure("between two computations"))
        try:
            return method(request, timeout=self._timeout_seconds)
        except grpc.RpcError as error:
            gone = isinstance(error, grpc.Call) and error.code() in _GONE
            if not gone and self._worker.is_alive():
                raise
            if gone and error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
                self._worker.is_alive(_GRACE_SECONDS)
            raise WorkerError(self._worker.failure("during a computation")) from None

    def get_executor(self, request: Any) -> Any:
        """Calls GetExecutor."""
        return self._call(self._service.GetExecutor, request)

    def create_value(self, request: Any) -> Any:
        """Calls CreateValue."""
        return self._call(self._service.CreateValue, request)

    def create_struct(self, request: Any) -> Any:
        """Calls CreateStruct."""
        return self._call(self._service.CreateStruct, request)

    def create_call(self, request: Any) -> Any:
        """Calls CreateCall."""
        return self._call(self._service.CreateCall, request)

    def create_selection(self, request: Any) -> Any:
        """Calls CreateSelection."""
        return self._call(self._service.CreateSelection, request)

    def compute(self, request: Any) -> Any:
        """Calls Compute, which is where the work is waited for."""
        return self._call(self._service.Compute, request)

    def dispose(self, request: Any) -> Any:
        """Calls Dispose; a worker that is gone holds nothing to dispose of."""
        with contextlib.suppress(WorkerError):
            return self._call(self._service.Dispose, request)

    def dispose_executor(self, request: Any) -> Any:
        """Calls DisposeExecutor; a worker that is gone holds nothing to dispose of."""
        with contextlib.suppress(WorkerError):
            return self._call(self._service.DisposeExecutor, request)

    def close(self) -> None:
        """Closes the channel and its threads."""
        self._channel.close()


@contextlib.contextmanager
def default_context(worker: WorkerProcess, call_timeout_seconds: float | None) -> Iterator[None]:
    """Makes a context on `worker` TFF's default for this thread while the body runs.

    Afterwards the default is the context of an enclosing `default_context`, or one that refuses to
    compute: TFF's own default would start a worker that nobody stops.

    Args:
      worker: A worker that listens, and has ended by the time the body is left.
      call_timeout_seconds: Longest time of one call to the worker; `None` for no limit.
    """
    stub = _WorkerStub(worker, call_timeout_seconds)

    def executor(cardinalities: dict[Any, int]) -> tff.framework.RemoteExecutor:
        """Returns an executor for one number of clients, 0 where an argument tells none."""
        cardinalities.setdefault(tff.CLIENTS, 0)
        remote_executor = tff.framework.RemoteExecutor(stub)
        remote_executor.set_cardinalities(cardinalities)
        return remote_executor

    context = tff.framework.SyncExecutionContext(
        executor_fn=tff.framework.ResourceManagingExecutorFactory(executor),
        compiler_fn=tff.backends.native.desugar_and_transform_to_native,
        transform_args=tensorflow_computation.transform_args,
        transform_result=tensorflow_computation.transform_result,
    )
    enclosing = _active_contexts[-1] if _active_contexts else None
    _active_contexts.append(context)
    tff.framework.set_default_context(context)
    try:
        yield
    finally:
        _active_contexts.remove(context)
        tff.framework.set_default_context(enclosing or tff.test.create_runtime_error_context())
        stub.close()
