"""Workers that stand for those on other machines."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fl_research.runtime.worker_process import WorkerProcess

StartWorkers = Callable[[int], list[WorkerProcess]]


@pytest.fixture
def start_workers(tmp_path: Path) -> Iterator[StartWorkers]:
    """Starts workers that nobody has a context on; stops them at the end."""
    workers: list[WorkerProcess] = []

    def start(number: int) -> list[WorkerProcess]:
        new = [WorkerProcess(tmp_path / f"worker_{len(workers) + i}.log") for i in range(number)]
        workers.extend(new)
        for worker in new:
            worker.start()
        for worker in new:
            worker.wait_until_listening()
        return new

    yield start
    for worker in workers:
        worker.stop(grace_seconds=0.5)
