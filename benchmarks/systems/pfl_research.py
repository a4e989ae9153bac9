"""pfl-research as a system of the benchmark, on PyTorch, with a worker process for each thread.

Workers are pfl-research's own way to use several cores: each trains a part of the cohort, and
`torch.distributed` adds up their sums. This process is the first of them; it starts the others,
which run this module too, and tells them what to do in lines of JSON. One worker with several
threads is slower, because most operations are too small to be shared.

    python -m benchmarks.systems.pfl_research           speaks the protocol
    python -m benchmarks.systems.pfl_research worker    is a further worker
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import workloads
from benchmarks.systems import protocol
from benchmarks.workloads import Workload

if TYPE_CHECKING:
    from benchmarks.systems.pfl_research_averaging import Averaging

_WORKER = "worker"
_CHECK_WORKERS = 2
_STOP_SECONDS = 10.0


class PflResearch(protocol.System):
    """pfl-research's simulated backend with one worker or several."""

    def __init__(self) -> None:
        """Starts no worker yet."""
        self._others: list[subprocess.Popen[str]] | None = None
        self._averaging: Averaging | None = None

    def start(self, workload: Workload, threads: int) -> Mapping[str, str]:
        """See `protocol.System.start`."""
        self._start_workers(threads)
        self._averaging = self._build(workload)
        workers = "1 worker" if threads == 1 else f"{threads} workers"
        note = f"{workers} of 1 thread; batches cut in advance, not shuffled"
        if workload.name == "gru":
            from benchmarks.systems import pfl_research_models

            compiled = pfl_research_models.compiles_gru()
            note += f"; {'GRU by torch.compile' if compiled else 'GRU of torch, no C++ compiler'}"
        return {"version": f"{version('pfl')}, torch {version('torch')}", "note": note}

    def run_round(self, round_number: int) -> None:
        """See `protocol.System.run_round`."""
        assert self._averaging is not None
        self._run(self._averaging, round_number)

    def check(self, workload: Workload) -> dict[str, np.ndarray]:
        """See `protocol.System.check`. Needs a process that is not started."""
        if self._averaging is not None:
            raise RuntimeError("the workers run timed rounds; check in another process")
        self._start_workers(_CHECK_WORKERS)
        averaging = self._build(workload)
        self._run(averaging, protocol.CHECK_ROUND)
        return averaging.weights()

    def stop(self) -> None:
        """See `protocol.System.stop`."""
        for other in self._others or ():
            assert other.stdin is not None
            other.stdin.close()  # a worker ends where its input does
            try:
                other.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                other.kill()
        self._others = None

    def _start_workers(self, workers: int) -> None:
        """Starts the other workers and makes this process the first, unless that is done.

        pfl-research reads the variables when it is imported, and waits for all workers then.
        `torch.compile` would otherwise keep processes of its own for further compilations.
        """
        if self._others is not None:
            return
        variables = {"PFL_PYTORCH_DEVICE": "cpu", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        if workers > 1:
            address = f"127.0.0.1:{_free_port()}"  # of the first worker; the others' are not used
            variables["PFL_WORKER_ADDRESSES"] = ",".join([address] * workers)
            variables["GLOO_SOCKET_IFNAME"] = "lo"
        os.environ.update(variables, PFL_WORKER_RANK="0")
        self._others = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.systems.pfl_research", _WORKER],
                stdin=subprocess.PIPE,
                text=True,
                env={**os.environ, "PFL_WORKER_RANK": str(rank)},
            )
            for rank in range(1, workers)
        ]

    def _build(self, workload: Workload) -> Averaging:
        """Builds the workload's rounds in every worker."""
        seed = secrets.randbits(32)
        changed = {"clip_norm": workload.clip_norm, "noise_multiplier": workload.noise_multiplier}
        self._tell({"workload": workload.name, "changed": changed, "seed": seed})
        from benchmarks.systems.pfl_research_averaging import Averaging

        return Averaging(workload, seed)

    def _run(self, averaging: Averaging, round_number: int) -> None:
        """Runs a round in every worker."""
        self._tell({"round": round_number})
        averaging.run_round(round_number)

    def _tell(self, request: Mapping[str, Any]) -> None:
        """Sends the other workers a request."""
        for other in self._others or ():
            assert other.stdin is not None
            other.stdin.write(json.dumps(request) + "\n")
            other.stdin.flush()


def run_worker() -> None:
    """Does what the first worker tells, until the end of standard input."""
    averaging: Averaging | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if "round" in request:
            assert averaging is not None
            averaging.run_round(request["round"])
        else:
            from benchmarks.systems.pfl_research_averaging import Averaging

            workload = workloads.load(request["workload"])
            workload = dataclasses.replace(workload, **request["changed"])
            averaging = Averaging(workload, request["seed"])


def _free_port() -> int:
    """Returns a port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    if sys.argv[1:] == [_WORKER]:
        run_worker()
    else:
        protocol.serve(PflResearch())
