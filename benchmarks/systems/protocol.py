"""The driver's side of the benchmark: one system, asked by the harness in lines of JSON.

A driver is a process in the system's own Python environment, started in the repository's root as
`python -m benchmarks.systems.<system>` (with `-m`, so that a driver may have the name of the
package that it imports). It reads requests from standard input and answers each with one line on
what was standard output when it started; whatever libraries print goes to standard error.

    {"command": "start", "workload": "mlp", "threads": 2}
        -> {"ok": true, "build_seconds": 4.1, "first_round_seconds": 2.0,
            "version": "1.2", "note": "...", "may_pause": true}
    {"command": "round", "round": 7}        -> {"ok": true, "seconds": 0.0123}
    {"command": "check", "workload": "mlp", "clip_norm": 0.3, "path": "/tmp/x.npz"} -> {"ok": true}
    {"command": "stop"}                     -> {"ok": true}

A request that fails is answered with `{"ok": false, "error": "one line"}`, and the traceback goes
to standard error. A process gets `start` for one workload at most; `check` may come for several
workloads, in a process that is never started. This file needs numpy and Python 3.9 alone.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any, TextIO

import numpy as np

from benchmarks import workloads
from benchmarks.workloads import Workload

FIRST_ROUND = 0  # the round that `start` runs; the harness counts from 1
CHECK_ROUND = 1


class System:
    """What a driver implements. It imports its heavy libraries when it is first used."""

    # Whether the harness may stop the process for a while (SIGSTOP) when another system runs.
    may_pause = True

    def start(self, workload: Workload, threads: int) -> Mapping[str, str]:
        """Builds everything that is built once: libraries, data as the system takes it, the model.

        Args:
          workload: What to run.
          threads: Cores that it may use.

        Returns:
          `version` of the system, and `note`: how it is run, in a few words for the report.
        """
        raise NotImplementedError

    def run_round(self, round_number: int) -> None:
        """Runs a round on `workload.cohort(round_number)` from the weights of the round before.

        Returns when the new global weights exist in memory. What a system must do in every round
        with a fresh cohort (gathering its rows, say) belongs in here.
        """
        raise NotImplementedError

    def check(self, workload: Workload) -> dict[str, np.ndarray]:
        """Runs round `CHECK_ROUND` once from the initial weights, rows in their order.

        Called apart from `start`, possibly in a process of its own.

        Args:
          workload: With `noise_multiplier` 0; its `clip_norm` is not the one of the timed rounds
            and must be obeyed.

        Returns:
          The new global weights, by canonical name and in the canonical shape.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """Ends what it started; called once at the end."""


def serve(system: System) -> None:
    """Answers requests until `stop` or the end of standard input."""
    _end_with_the_harness()
    requests, answers = _take_standard_streams()
    with requests, answers:
        for line in requests:
            request = json.loads(line)
            try:
                answer = {"ok": True, **_answer(system, request)}
            except Exception as error:
                traceback.print_exc()
                words = " ".join(str(error).split())
                answer = {"ok": False, "error": f"{type(error).__name__}: {words}"[:1000]}
            print(json.dumps(answer), file=answers, flush=True)
            if request["command"] == "stop":
                return
        system.stop()


def _end_with_the_harness() -> None:
    """Asks the kernel to end this process with its parent, which may have paused it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _take_standard_streams() -> tuple[TextIO, TextIO]:
    """Keeps standard input and output for the protocol and gives libraries others instead."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout.flush()
    os.dup2(2, 1)
    return requests, answers


def _answer(system: System, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Does what a request says and returns what the answer tells beside `ok`."""
    command = request["command"]
    if command == "start":
        workload = workloads.load(request["workload"])
        begin = time.perf_counter()
        described = system.start(workload, request["threads"])
        build_seconds = time.perf_counter() - begin
        return {
            "build_seconds": build_seconds,
            "first_round_seconds": _timed_round(system, FIRST_ROUND),
            "version": described["version"],
            "note": described["note"],
            "may_pause": system.may_pause,
        }
    if command == "round":
        return {"seconds": _timed_round(system, request["round"])}
    if command == "check":
        workload = workloads.load(request["workload"]).for_check(request["clip_norm"])
        np.savez(request["path"], **system.check(workload))
        return {}
    if command == "stop":
        system.stop()
        return {}
    raise ValueError(f"command={command!r} is not known; give start, round, check or stop")


def _timed_round(system: System, round_number: int) -> float:
    """Runs a round and returns its seconds."""
    begin = time.perf_counter()
    system.run_round(round_number)
    return time.perf_counter() - begin
