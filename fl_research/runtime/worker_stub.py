"""Calls a TFF worker over gRPC, once a call, and says in plain words when it is gone.

Stock TFF repeats a call for ever when gRPC says UNAVAILABLE or FAILED_PRECONDITION, on a new worker
if the old one died. A round that is silently repeated would be a release that nobody counted, so
here every call is made once: a call to a worker that is gone is a `WorkerError`, and any other
failure (an error inside the computation) is passed on as the gRPC error that carries TensorFlow's
message.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import grpc
import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import executor_pb2_grpc

from fl_research.runtime.remote_worker import RemoteWorker
from fl_research.runtime.worker_process import WorkerError, WorkerProcess

_MAX_MESSAGE_BYTES = 2 * 1000 * 1000 * 1000
_CHANNEL_OPTIONS = [
    ("grpc.max_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),  # a worker is called directly, whatever http_proxy says
    ("grpc.enable_retries", 0),
]
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
# A connection breaks a moment before its process can be waited for.
_GRACE_SECONDS = 5.0
_FREE_SECONDS = 2.0

Method = Callable[..., Any]


class WorkerStub(tff.framework.RemoteExecutorStub):
    """Calls one worker; a subclass says how a call is made and how it can fail."""

    def __init__(self, address: str) -> None:
        """Opens the channel.

        Args:
          address: `host:port`.
        """
        self._channel = grpc.insecure_channel(address, _CHANNEL_OPTIONS)
        self._service = executor_pb2_grpc.ExecutorGroupStub(self._channel)

    def call(self, method: Method, request: Any) -> Any:
        """Makes one call and returns the answer.

        Args:
          method: A method of the service.
          request: Its request.

        Raises:
          WorkerError: The worker is gone, or does not answer in time.
        """
        raise NotImplementedError

    def call_to_free(self, method: Method, request: Any) -> Any:
        """Makes a call that frees something; a worker that is gone holds nothing to free."""
        with contextlib.suppress(WorkerError):
            return self.call(method, request)

    def get_executor(self, request: Any) -> Any:
        """Calls GetExecutor."""
        return self.call(self._service.GetExecutor, request)

    def create_value(self, request: Any) -> Any:
        """Calls CreateValue."""
        return self.call(self._service.CreateValue, request)

    def create_struct(self, request: Any) -> Any:
        """Calls CreateStruct."""
        return self.call(self._service.CreateStruct, request)

    def create_call(self, request: Any) -> Any:
        """Calls CreateCall."""
        return self.call(self._service.CreateCall, request)

    def create_selection(self, request: Any) -> Any:
        """Calls CreateSelection."""
        return self.call(self._service.CreateSelection, request)

    def compute(self, request: Any) -> Any:
        """Calls Compute, which is where the work is waited for."""
        return self.call(self._service.Compute, request)

    def dispose(self, request: Any) -> Any:
        """Calls Dispose."""
        return self.call_to_free(self._service.Dispose, request)

    def dispose_executor(self, request: Any) -> Any:
        """Calls DisposeExecutor."""
        return self.call_to_free(self._service.DisposeExecutor, request)

    def close(self) -> None:
        """Closes the channel and its threads."""
        self._channel.close()


class LocalStub(WorkerStub):
    """Calls the worker of this machine, whose process tells whether it lives."""

    def __init__(self, worker: WorkerProcess, timeout_seconds: float | None) -> None:
        """Opens the channel.

        Args:
          worker: The worker; it listens.
          timeout_seconds: Longest time of one call, `None` for no limit.
        """
        super().__init__(worker.address)
        self._worker = worker
        self._timeout_seconds = timeout_seconds

    def call(self, method: Method, request: Any) -> Any:
        """Makes one call; a dead or silent worker is a `WorkerError`."""
        if not self._worker.is_alive():
            raise WorkerError(self._worker.failure("between two computations"))
        try:
            return method(request, timeout=self._timeout_seconds)
        except grpc.RpcError as error:
            gone = isinstance(error, grpc.Call) and error.code() in _GONE
            if not gone and self._worker.is_alive():
                raise
            when = "during a computation"
            if gone and error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                when += f" within --worker_timeout_seconds={self._timeout_seconds:g}"
            elif gone:
                self._worker.is_alive(_GRACE_SECONDS)
            raise WorkerError(self._worker.failure(when)) from None


class RemoteStub(WorkerStub):
    """Calls a worker on another machine; calls in flight end when it is lost, or at `cancel`."""

    def __init__(self, worker: RemoteWorker) -> None:
        """Opens the channel.

        Args:
          worker: The worker; its address and timeout, and the watch over it.
        """
        super().__init__(worker.address)
        self._worker = worker
        self._in_flight: set[grpc.Future] = set()
        self._lock = threading.Lock()
        self._is_cancelled = False
        worker.when_lost(self.cancel)

    def call(self, method: Method, request: Any) -> Any:
        """Makes one call; a dead, silent or slow worker is a `WorkerError`."""
        return self._call_within(self._worker.timeout_seconds, method, request)

    def call_to_free(self, method: Method, request: Any) -> Any:
        """Makes a call that frees something, and does not wait long for it."""
        with contextlib.suppress(WorkerError, grpc.RpcError):
            return self._call_within(_FREE_SECONDS, method, request)

    def cancel(self) -> None:
        """Ends the calls in flight, and refuses further ones; the worker forgets us by itself."""
        with self._lock:
            self._is_cancelled = True
            in_flight = list(self._in_flight)
        for call in in_flight:
            call.cancel()

    def _call_within(self, seconds: float, method: Method, request: Any) -> Any:
        """Makes one call that may take so long."""
        with self._lock:
            if self._is_cancelled or self._worker.is_lost:
                raise WorkerError(self._reason_of_cancel())
            call = method.future(request, timeout=seconds)  # type: ignore[attr-defined]
            self._in_flight.add(call)
        try:
            return call.result()
        except grpc.FutureCancelledError:
            raise WorkerError(self._reason_of_cancel()) from None
        except grpc.RpcError as error:
            reason = self._reason_of(error, seconds)
            if reason is None:
                raise
            raise WorkerError(self._worker.failure(reason)) from None
        finally:
            with self._lock:
                self._in_flight.discard(call)

    def _reason_of_cancel(self) -> str:
        """Returns why calls were cancelled."""
        if self._worker.is_lost:
            return self._worker.failure_of_silence()
        return self._worker.failure("was left in the midst of a computation")

    def _reason_of(self, error: grpc.RpcError, seconds: float) -> str | None:
        """Returns what a worker did that failed; None if the error is in the computation."""
        code = error.code() if isinstance(error, grpc.Call) else None
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return (
                f"did not finish a call within --worker_timeout_seconds={seconds:g} (raise it if a "
                "round takes so long)"
            )
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            return "ended, or the connection to it broke"
        if code == grpc.StatusCode.FAILED_PRECONDITION:
            return f"has lost what it was sent ({error.details()})"
        if code == grpc.StatusCode.UNIMPLEMENTED:
            return "is something else: it speaks gRPC, but is no TFF worker"
        return None
