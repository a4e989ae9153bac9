"""The harness's side of the protocol: a driver as a process that can be asked, paused and ended.

What the driver and its libraries print goes to a log. Whatever way the harness ends, the driver's
processes end too: `close` kills what is left of them, and the driver asks the kernel to be killed
with the harness.
"""

import contextlib
import json
import os
import selectors
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.process_tree import ProcessTree

_MARK = "BENCHMARK_DRIVER"
_STOP_SECONDS = 20.0


class DriverError(RuntimeError):
    """A driver answered with an error, not at all, or not in time; one line."""


class DriverProcess:
    """One running driver.

    Start it in the main thread, whose end would end it. Always `close` it.

    Args:
      name: The system's name.
      command: Program and arguments.
      directory: Where it runs, the repository's root.
      log_path: Takes its standard error; appended to.

    Raises:
      DriverError: It cannot be started.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, directory: Path, log_path: Path
    ) -> None:
        """Starts the process and returns at once."""
        self.name = name
        self._log_path = log_path
        mark = uuid.uuid4().hex
        try:
            with open(log_path, "ab") as log:
                self._process = subprocess.Popen(
                    command,
                    cwd=directory,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={**os.environ, _MARK: mark},
                    start_new_session=True,  # Ctrl-C goes to the harness, which then closes it
                )
        except OSError as error:
            raise DriverError(f"cannot start {command[0]}: {error}") from error
        self._tree = ProcessTree(self._process.pid, f"{_MARK}={mark}")
        self._received = b""
        self._may_pause = False
        self._paused = False

    def send(self, command: str, **arguments: Any) -> None:
        """Sends a request, whose answer `receive` waits for.

        Raises:
          DriverError: The driver has ended.
        """
        self._resume()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(
                json.dumps({"command": command, **arguments}).encode() + b"\n"
            )
            self._process.stdin.flush()
        except OSError:
            raise DriverError(self._failure("has ended")) from None

    def receive(self, timeout_seconds: float) -> Mapping[str, Any]:
        """Returns the answer to the request that was sent.

        Raises:
          DriverError: It is an error, or does not come in time.
        """
        line = self._line(timeout_seconds)
        try:
            answer = json.loads(line)
        except ValueError:
            raise DriverError(self._failure(f"answered {line[:80]!r}, which is no JSON")) from None
        if not answer.get("ok"):
            raise DriverError(self._failure(str(answer.get("error", "answered without a reason"))))
        return answer

    def ask(self, command: str, *, timeout_seconds: float, **arguments: Any) -> Mapping[str, Any]:
        """Sends a request and returns its answer; see `send` and `receive`."""
        self.send(command, **arguments)
        return self.receive(timeout_seconds)

    def allow_pauses(self, allowed: bool) -> None:
        """Says whether `pause` may stop the driver."""
        self._may_pause = allowed

    def pause(self) -> None:
        """Stops the driver's processes until the next request, if that is allowed."""
        if self._may_pause and not self._paused:
            self._tree.pause()
            self._paused = True

    def peak_memory_mib(self) -> float:
        """Returns the peak memory of the driver's processes that live, see `ProcessTree`."""
        return self._tree.peak_memory_mib()

    def close(self) -> None:
        """Asks the driver to stop and kills what is left of it."""
        with contextlib.suppress(DriverError):
            if self._process.poll() is None:
                self.ask("stop", timeout_seconds=_STOP_SECONDS)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Ends the driver's processes without asking."""
        self._tree.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def _resume(self) -> None:
        """Lets the driver's processes go on."""
        if self._paused:
            self._tree.resume()
            self._paused = False

    def _line(self, timeout_seconds: float) -> bytes:
        """Returns the next line that the driver writes."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout_seconds
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while b"\n" not in self._received:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise DriverError(self._failure(f"did not answer in {timeout_seconds:g} s"))
                part = os.read(descriptor, 1 << 16)
                if not part:
                    raise DriverError(self._failure("has ended"))
                self._received += part
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _failure(self, what: str) -> str:
        """Returns the one line that says what went wrong and where to look."""
        return f"{what}; its log is {self._log_path}"
