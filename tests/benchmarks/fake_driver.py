"""A driver of a made-up system, for tests of the harness: `fake_driver.py NAME BEHAVIOUR RECORD`.

It appends every round it runs to the file RECORD, as `name threads round pid states`, the states
being those of the drivers that wrote there before.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.systems.protocol import System, serve
from benchmarks.workloads import Workload

NAME, BEHAVIOUR, RECORD = sys.argv[1], sys.argv[2], Path(sys.argv[3])


class FakeSystem(System):
    """Adds 0.01 to every weight in a round, in a few milliseconds."""

    may_pause = BEHAVIOUR != "restless"

    def start(self, workload: Workload, threads: int) -> Mapping[str, str]:
        print("a library talks on standard output")
        subprocess.run(["echo", "so does a child"], check=True)
        if BEHAVIOUR == "no_start":
            raise RuntimeError("cannot\nstart")
        if BEHAVIOUR == "with_child":
            # Its parent ends, as that of a daemon does.
            daemon = (
                f"{sys.executable} -c 'import time; held = bytearray(96 << 20); time.sleep(60)'"
            )
            subprocess.run(["sh", "-c", f"{daemon} {RECORD} & sleep 0.5"], check=True)
        self.threads = threads
        return {"version": f"{NAME} 1.0", "note": workload.name}

    def run_round(self, round_number: int) -> None:
        if BEHAVIOUR == "no_round_4" and round_number == 4:
            raise RuntimeError("round 4 is too much")
        if BEHAVIOUR == "dies" and round_number == 1:
            os._exit(3)
        text = RECORD.read_text() if RECORD.exists() else ""
        others = {line.split()[3] for line in text.splitlines()} - {str(os.getpid())}
        states = "".join(map(_state, sorted(others))) or "-"
        with open(RECORD, "a") as file:
            file.write(f"{NAME} {self.threads} {round_number} {os.getpid()} {states}\n")
        if round_number < 2:
            time.sleep(0.1)  # warm-up
        time.sleep(0.02 if self.threads == 2 else 0.005)

    def check(self, workload: Workload) -> dict[str, np.ndarray]:
        if BEHAVIOUR == "no_check":
            raise RuntimeError("no check")
        step = 0.0101 if BEHAVIOUR == "other_work" else 0.01
        return {name: weights + step for name, weights in workload.initial_weights.items()}


def _state(process: str) -> str:
    """Returns the state of a process: T is stopped, X gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


if __name__ == "__main__":
    serve(FakeSystem())
