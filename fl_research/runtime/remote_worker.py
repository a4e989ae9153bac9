"""A TFF worker on another machine: whether it is there, and whether it still answers.

A call to a worker may rightly take minutes, so that a call alone cannot tell a long round from a
worker that is stopped or a cable that is pulled: nothing closes such a connection. So each worker
is asked for a sign of life several times a minute, over a connection of its own: a call of a method
that it does not have, which it answers with UNIMPLEMENTED whatever else it does. Several in a row
unanswered mean that it is lost. (gRPC's own keepalive cannot be used: TFF's worker keeps gRPC's
limit of one such ping in five minutes, and drops a client that sends more.)
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc

from fl_research.runtime.worker_process import WorkerError

SILENCE_SECONDS = 30.0
"""A worker that answers nothing for so long is lost, however long a call may take."""

_SIGNS_IN_SILENCE = 6
_REACH_SECONDS = 10.0
_STARTING_SECONDS = 3.0  # a worker, or its network, that is just being started refuses at once
_METHOD = "/fl_research.SignOfLife/Answer"
_CHANNEL_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, beside the one for the work
    ("grpc.max_reconnect_backoff_ms", 1000),
]
_NO_ANSWER = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)


class RemoteWorker:
    """One worker on another machine; `reached` gives workers that are there and watched.

    Attributes:
      address: Where it listens, `host:port`.
      timeout_seconds: Longest time of one call.
    """

    def __init__(self, address: str, *, timeout_seconds: float) -> None:
        """Remembers the worker; nothing is sent yet.

        Args:
          address: `host:port`.
          timeout_seconds: Longest time of one call; also the longest silence, if that is shorter
            than `SILENCE_SECONDS`.
        """
        self.address = address
        self.timeout_seconds = timeout_seconds
        self._silence_seconds = min(timeout_seconds, SILENCE_SECONDS)
        self._is_lost = threading.Event()
        self._is_over = threading.Event()
        self._when_lost: list[Callable[[], None]] = []

    @property
    def is_lost(self) -> bool:
        """Returns whether the worker has been silent for too long; it stays lost then."""
        return self._is_lost.is_set()

    def when_lost(self, callback: Callable[[], None]) -> None:
        """Has something called, in another thread, once the worker is lost."""
        self._when_lost.append(callback)

    def problem_at_start(self) -> str | None:
        """Returns why the worker cannot be reached, or None."""
        host, _, port = self.address.rpartition(":")
        started = time.monotonic()
        wait = min(_REACH_SECONDS, self.timeout_seconds)
        while True:
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=wait).close()
                break
            except OSError as error:
                has_name = not isinstance(error, socket.gaierror)
                if has_name and time.monotonic() - started < min(wait, _STARTING_SECONDS):
                    time.sleep(0.1)
                    continue
                return error.strerror or str(error) or type(error).__name__
        with self._channel() as answers:
            return None if answers(wait) else "it takes a connection, but does not answer"

    def failure(self, what: str) -> str:
        """Returns the one line that says how the worker failed and what to do.

        Args:
          what: What it did, after "the TFF worker at …".
        """
        return (
            f"the TFF worker at {self.address} {what}; start it again or leave it out of --workers,"
            " and run the same command again to resume"
        )

    def failure_of_silence(self) -> str:
        """Returns the line for a worker that is lost."""
        return self.failure(
            f"has not answered for {self._silence_seconds:g} s: it is stopped, or cut off from the "
            "network"
        )

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Asks for signs of life while the body runs."""
        thread = threading.Thread(
            target=self._watch, name=f"signs of life of {self.address}", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def _watch(self) -> None:
        """Asks again and again; says once that the worker is lost."""
        interval = self._silence_seconds / _SIGNS_IN_SILENCE
        unanswered = 0
        with self._channel() as answers:
            while not self._is_over.is_set():
                asked = time.monotonic()
                # Counted, not timed: this program may have been stopped itself meanwhile.
                unanswered = 0 if answers(interval) else unanswered + 1
                if unanswered >= _SIGNS_IN_SILENCE - 1:
                    self._is_lost.set()
                    for callback in self._when_lost:
                        callback()
                    return
                self._is_over.wait(max(0.0, interval - (time.monotonic() - asked)))

    @contextlib.contextmanager
    def _channel(self) -> Iterator[Callable[[float], bool]]:
        """Opens a connection and gives a function: does the worker answer within some seconds?"""
        with grpc.insecure_channel(self.address, _CHANNEL_OPTIONS) as channel:
            ask = channel.unary_unary(_METHOD)

            def answers(seconds: float) -> bool:
                """Returns whether anything came back."""
                call = ask.future(b"", timeout=seconds)
                while not self._is_over.is_set():
                    with contextlib.suppress(grpc.FutureTimeoutError):
                        error = call.exception(timeout=0.1)
                        return not (isinstance(error, grpc.Call) and error.code() in _NO_ANSWER)
                call.cancel()
                return False

            yield answers


@contextlib.contextmanager
def reached(addresses: Sequence[str], *, timeout_seconds: float) -> Iterator[list[RemoteWorker]]:
    """Gives workers, each of which answered just now and is watched while the body runs.

    From here on there is always a connection, which tells the worker's machine that it is in use.

    Args:
      addresses: Where they listen.
      timeout_seconds: Longest time of one call.

    Raises:
      WorkerError: Some do not answer; it names each and says why.
    """
    workers = [RemoteWorker(address, timeout_seconds=timeout_seconds) for address in addresses]
    with contextlib.ExitStack() as stack:
        if workers:
            _require_reachable(workers)
        for worker in workers:
            stack.enter_context(worker.watched())
        yield workers


def _require_reachable(workers: Sequence[RemoteWorker]) -> None:
    """Raises a `WorkerError` unless every worker answers; all are asked at once."""
    with ThreadPoolExecutor(len(workers)) as pool:
        problems = list(pool.map(RemoteWorker.problem_at_start, workers))
    found = [f"{w.address} ({p})" for w, p in zip(workers, problems, strict=True) if p]
    if found:
        raise WorkerError(
            f"no TFF worker can be reached at {', '.join(found)}; start it there with "
            "python -m experiments.worker --port=…, or leave it out of --workers"
        )
