"""Flower as a system of the benchmark: its simulation on Ray with clients in PyTorch.

See `flower_simulation.py`. Clients do not shuffle their rows, since Flower leaves the reading of
data to them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.systems import protocol
from benchmarks.workloads import Workload

if TYPE_CHECKING:
    from benchmarks.systems.flower_simulation import Simulation

_ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning
}


class Flower(protocol.System):
    """Flower with one actor a core."""

    _simulation: Simulation | None = None

    def start(self, workload: Workload, threads: int) -> Mapping[str, str]:
        """See `protocol.System.start`."""
        self._simulation = _start(workload, threads)
        from importlib.metadata import version

        return {
            "version": f"{version('flwr')}, ray {version('ray')}, torch {version('torch')}",
            "note": f"start_simulation, {threads} actors of one core; "
            "DifferentialPrivacyClientSideFixedClipping around FedAvg of updates, each sent as one "
            "vector; plain SGD and clip in PyTorch, rows not shuffled",
        }

    def run_round(self, round_number: int) -> None:
        """See `protocol.System.run_round`."""
        assert self._simulation is not None
        self._simulation.run_round(round_number)

    def check(self, workload: Workload) -> dict[str, np.ndarray]:
        """See `protocol.System.check`."""
        if self._simulation is not None:
            raise RuntimeError("a process holds one simulation at a time: check in another one")
        simulation = _start(workload, len(os.sched_getaffinity(0)))
        try:
            simulation.run_round(protocol.CHECK_ROUND)
            return simulation.weights()
        finally:
            simulation.stop()

    def stop(self) -> None:
        """See `protocol.System.stop`."""
        if self._simulation is not None:
            self._simulation.stop()
            self._simulation = None


def _start(workload: Workload, actors: int) -> Simulation:
    """Imports the libraries and starts a simulation."""
    os.environ.update(_ENVIRONMENT)
    from benchmarks.systems.flower_simulation import Simulation

    logging.getLogger("flwr").setLevel(logging.ERROR)
    return Simulation(workload, actors)


if __name__ == "__main__":
    protocol.serve(Flower())
