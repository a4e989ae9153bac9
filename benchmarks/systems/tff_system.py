"""What the systems on TensorFlow Federated have in common: the runtime and the server state."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.systems.protocol import CHECK_ROUND, System
from benchmarks.workloads import Workload

# Takes a round's number and gives what the learning process takes as that round's cohort.
CohortOfRound = Callable[[int], Any]


class TffSystem(System):
    """A learning process in a runtime that starts when it is first needed."""

    def __init__(self) -> None:
        """Starts nothing yet."""
        self._resources: contextlib.ExitStack | None = None
        self._process: Any = None
        self._cohort_of_round: CohortOfRound | None = None
        self._state: Any = None

    def build(self, workload: Workload, threads: int) -> tuple[Any, CohortOfRound]:
        """Returns a learning process and its cohorts; called with the runtime running."""
        raise NotImplementedError

    def runtime(self) -> contextlib.AbstractContextManager[Any]:
        """Returns where TFF computes."""
        raise NotImplementedError

    def note(self, workload: Workload) -> str:
        """Returns how a workload is run, in a few words."""
        raise NotImplementedError

    def start(self, workload: Workload, threads: int) -> Mapping[str, str]:
        """Starts the runtime and builds the process."""
        self._start_runtime()
        self._process, self._cohort_of_round = self.build(workload, threads)
        self._state = self._process.initialize()
        return {"version": _versions(), "note": self.note(workload)}

    def run_round(self, round_number: int) -> None:
        """Runs a round; TFF returns when the new state is in this process."""
        assert self._cohort_of_round is not None
        cohort = self._cohort_of_round(round_number)
        self._state = self._process.next(self._state, cohort).state

    def check(self, workload: Workload) -> dict[str, np.ndarray]:
        """Runs one round of a process of its own."""
        self._start_runtime()
        process, cohort_of_round = self.build(workload, 2)
        state = process.next(process.initialize(), cohort_of_round(CHECK_ROUND)).state
        trainable = process.get_model_weights(state).trainable
        names = workload.initial_weights
        return {name: np.asarray(w) for name, w in zip(names, trainable, strict=True)}

    def stop(self) -> None:
        """Ends the runtime."""
        if self._resources is not None:
            self._resources.close()

    def _start_runtime(self) -> None:
        """Starts the runtime unless it runs."""
        if self._resources is None:
            self._resources = contextlib.ExitStack()
            self._resources.enter_context(self.runtime())


def _versions() -> str:
    """Returns the versions of TFF and TensorFlow."""
    import tensorflow as tf
    import tensorflow_federated as tff

    return f"TFF {tff.__version__}, TensorFlow {tf.__version__}"
