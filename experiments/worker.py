"""Starts a TensorFlow Federated worker on this machine, for runs that are started on another one.

    python -m experiments.worker --port=8470

The run names it: --workers=this-machine:8470,… It says when it listens, who connects, and every
--status_seconds how it is. Ctrl-C or SIGTERM stops it. When the last run has left, the worker is
started afresh, so that nothing of a run stays in its memory.

Whoever reaches the port can run any computation here, without a password, and what is sent is not
encrypted: open the port to the coordinating machine alone.
"""

import dataclasses
import datetime
import signal
import time
from collections.abc import Collection
from pathlib import Path

import psutil
from absl import flags

from experiments.command_line import run_binary
from fl_research.errors import InputError
from fl_research.runtime.worker_process import WorkerError, WorkerProcess

FLAGS = flags.FLAGS

flags.DEFINE_integer("port", None, "TCP port to listen on, from 1 to 65535.")
flags.DEFINE_string(
    "log_file", None, "Takes what TensorFlow says (default: worker_PORT.log in this folder)."
)
flags.DEFINE_float("status_seconds", 60.0, "Seconds between two lines on how the worker is.")

_LOOK_SECONDS = 0.5
_LOOKS_UNTIL_LEFT = 4  # a run's first look at the worker comes shortly before its connection
_MIB = 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Health:
    """How a worker is at one moment: its peers' addresses, processor seconds, memory in bytes."""

    peers: frozenset[str]
    cpu_seconds: float
    memory_bytes: int
    time: float

    @classmethod
    def of(cls, process_id: int) -> "Health":
        """Measures a worker.

        Raises:
          psutil.NoSuchProcess: It has ended.
        """
        process = psutil.Process(process_id)
        with process.oneshot():
            cpu = process.cpu_times()
            # Not those that the other side has closed, such as our own look whether it listens.
            connected = [
                c for c in process.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED
            ]
            return cls(
                peers=frozenset(c.raddr.ip.removeprefix("::ffff:") for c in connected),
                cpu_seconds=cpu.user + cpu.system,
                memory_bytes=process.memory_info().rss,
                time=time.monotonic(),
            )

    def line(self, earlier: "Health", since: float) -> str:
        """Returns the status line.

        Args:
          earlier: The measurement of the line before, of the same worker.
          since: When the program started, on the monotonic clock.
        """
        up = datetime.timedelta(seconds=int(self.time - since))
        passed = max(self.time - earlier.time, 1e-3)
        load = (self.cpu_seconds - earlier.cpu_seconds) / passed
        peers = f"serving {', '.join(sorted(self.peers))}" if self.peers else "no run connected"
        return f"up {up}, {peers}, CPU {load:.0%}, memory {self.memory_bytes / _MIB:.0f} MiB"


def main(argv: list[str]) -> None:
    """Runs a worker until a signal stops it."""
    del argv
    port = _checked_port()
    if not FLAGS.status_seconds > 0:
        raise InputError(f"--status_seconds={FLAGS.status_seconds:g} must be above 0")
    stopped_by: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stopped_by.append(number))
    log_path = Path(FLAGS.log_file or f"worker_{port}.log")
    worker = WorkerProcess(log_path, port=port)
    try:
        worker.start()
        worker.wait_until_listening()
        _say(f"listening on port {port} of every interface, process {worker.process_id}")
        _say(f"log: {log_path.absolute()}")
        _say("no password, no encryption: let nobody but the coordinating machine reach this port")
        _serve(worker, stopped_by)
    finally:
        worker.stop()
    _say("stopped")


def _serve(worker: WorkerProcess, stopped_by: Collection[int]) -> None:
    """Watches the worker until a signal comes; starts it afresh when the last run has left."""
    started = time.monotonic()
    last = reported = _health(worker)
    has_served, looks_without = False, 0
    while not stopped_by:
        time.sleep(_LOOK_SECONDS)
        now = _health(worker)
        has_served = has_served or bool(now.peers)
        looks_without = 0 if now.peers else looks_without + 1
        if has_served and looks_without >= _LOOKS_UNTIL_LEFT:
            has_served = False
            worker.stop()
            worker.start()
            worker.wait_until_listening()
            now = reported = _health(worker)
            _say(f"the run has left; started afresh, process {worker.process_id}")
        elif now.peers != last.peers or now.time - reported.time >= FLAGS.status_seconds:
            _say(now.line(reported, started))
            reported = now
        last = now


def _health(worker: WorkerProcess) -> Health:
    """Measures the worker, which must be alive."""
    try:
        if worker.is_alive():
            return Health.of(worker.process_id)
    except psutil.NoSuchProcess:
        pass
    raise WorkerError(worker.failure("while it was serving"))


def _checked_port() -> int:
    """Returns --port."""
    port: int | None = FLAGS.port
    if port is None:
        raise InputError("--port is not given; choose a TCP port, such as --port=8470")
    if not 1 <= port <= 65535:
        raise InputError(f"--port={port} does not lie between 1 and 65535")
    return port


def _say(message: str) -> None:
    """Prints a line with the time of day, at once."""
    print(f"{time.strftime('%H:%M:%S')} {message}", flush=True)


if __name__ == "__main__":
    run_binary(main)
