"""The TFF worker as a process of our own, which cannot outlive the program.

TFF runs computations in a C++ binary, `worker_binary`, that it reaches over gRPC. Stock TFF starts
it on the program's standard output and forgets it, so it stays behind as an orphan that holds the
terminal or a pipe open. Here the worker writes to a log file, sits in a session of its own (Ctrl-C
goes to the program alone, which then stops the worker), and is tied to the program's life by the
kernel (`PR_SET_PDEATHSIG`), which holds even when the program is killed with SIGKILL.

The binary listens on every network interface and asks for no password; it has no option for either.
On a machine that strangers can reach, close its ports to them with a firewall.
"""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from fl_research.runtime import interrupts

# Runs in a fresh interpreter between fork and the worker: asks the kernel to send SIGKILL when the
# parent ends, looks whether that has already happened, and becomes the worker. An interpreter
# instead of a `preexec_fn`, which may deadlock after a fork of a process with threads.
_EXEC_WRAPPER = """
import os, sys
if sys.platform == "linux":
    import ctypes, signal
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the program ended before its worker started")
os.execv(sys.argv[2], sys.argv[2:])
"""

_DEFAULT_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "1"}


class WorkerError(RuntimeError):
    """The worker could not be started, died, or does not answer: one line with the way out."""


def worker_binary() -> Path:
    """Returns the path of TFF's worker binary, found without importing TFF.

    Raises:
      WorkerError: TFF is not installed, or has no worker binary for this machine.
    """
    spec = importlib.util.find_spec("tensorflow_federated")
    if spec is None or not spec.submodule_search_locations:
        raise WorkerError("tensorflow_federated is not installed: install requirements.txt")
    path = Path(spec.submodule_search_locations[0]) / "data" / "worker_binary"
    if not os.access(path, os.X_OK):
        raise WorkerError(f"tensorflow_federated has no worker at {path}: install it again")
    return path


class WorkerProcess:
    """One worker, listening on a port of this machine; `start`, then always `stop`.

    The kernel ties the worker to the *thread* that started it. That is the thread that TFF's
    context belongs to as well (TFF keeps its contexts per thread), so start it where it is used.
    """

    def __init__(self, log_path: Path, *, port: int = 0) -> None:
        """Remembers where to log and listen.

        Args:
          log_path: Takes what the worker prints; appended to.
          port: Where to listen; 0 takes a free port.
        """
        self._log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None
        self._reservation: socket.socket | None = None
        self._wanted_port = port
        self._port = port

    @property
    def address(self) -> str:
        """Returns `host:port`, for a gRPC channel."""
        return f"127.0.0.1:{self._port}"

    @property
    def process_id(self) -> int:
        """Returns the worker's process id; 0 before it was started."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Starts the worker and returns at once; see `wait_until_listening`.

        Raises:
          WorkerError: The worker or its log could not be opened, or the port is taken.
        """
        binary = worker_binary()
        with interrupts.deferred():
            self._reservation = _reserved_port(self._wanted_port)
            self._port = self._reservation.getsockname()[1]
            command = [sys.executable, "-I", "-S", "-c", _EXEC_WRAPPER, str(os.getpid())]
            command += [
                str(binary),
                f"--port={self._port}",
                "--max_concurrent_computation_calls=-1",
            ]
            try:
                with open(self._log_path, "ab") as log:
                    self._process = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        env={**_DEFAULT_ENVIRONMENT, **os.environ},
                        start_new_session=True,
                    )
            except OSError as error:
                raise WorkerError(
                    f"cannot start the TFF worker with its log at {self._log_path}: {error}"
                ) from error

    def wait_until_listening(self, timeout_seconds: float = 60.0) -> None:
        """Returns when the worker accepts connections.

        Raises:
          WorkerError: It ended, or did not listen within `timeout_seconds`.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1.0).close()
                return
            except OSError:
                if not self.is_alive() or time.monotonic() > deadline:
                    raise WorkerError(self.failure("while starting")) from None
                time.sleep(0.005)

    def is_alive(self, grace_seconds: float = 0.0) -> bool:
        """Returns whether the worker runs, and still does after `grace_seconds`."""
        if self._process is None:
            return False
        try:
            self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def failure(self, when: str) -> str:
        """Returns the one line that says how the worker failed and what to do."""
        code = self._process.returncode if self._process is not None else None
        if code is None:
            what = "does not answer"
        elif code < 0:
            hint = ", often for want of memory" if -code == signal.SIGKILL else ""
            what = f"was ended by {signal.Signals(-code).name}{hint},"
        else:
            what = f"exited with code {code}"
        return (
            f"the TFF worker {what} {when}; its log is {self._log_path}; "
            "run the same command again to resume"
        )

    def stop(self, grace_seconds: float = 3.0) -> None:
        """Ends the worker and waits for it: SIGTERM, then SIGKILL after `grace_seconds`."""
        with interrupts.deferred():
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()
                if self.is_alive(grace_seconds):
                    self._process.kill()
                    self._process.wait()
            if self._reservation is not None:
                self._reservation.close()
                self._reservation = None


def _reserved_port(port: int) -> socket.socket:
    """Returns a bound socket that never listens: it keeps the port for our worker.

    The worker binds with SO_REUSEPORT as well, so that it still gets the port. Without this, two
    programs could share one port, and answers would come from the wrong worker.
    """
    try:
        if port:
            # Without SO_REUSEPORT the port is refused if anyone, another worker too, has it.
            with socket.socket() as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(("", port))
        reservation = socket.socket()
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reservation.bind(("", port))
    except OSError as error:
        raise WorkerError(
            f"cannot listen on port {port}: {error.strerror}; choose another port"
        ) from error
    return reservation
