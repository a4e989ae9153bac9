"""A process that opens a population, draws cohorts, cuts them into blocks, and measures itself.

`benchmarks.population` starts it afresh for each population, as
`python -m benchmarks.population_probe FOLDER COHORT ROUNDS`; it prints one line of JSON.
"""

import json
import os
import sys
import time
from pathlib import Path

from benchmarks.process_memory import memory_of
from fl_research.data.blocks import cut_into_blocks
from fl_research.data.client_sampling import PoissonSampling
from fl_research.data.population import open_population

_BLOCKS = 2
_COLD_ROUNDS = 5


def main(folder: Path, cohort_size: float, rounds: int) -> None:
    """Measures and prints."""
    imported = memory_of()
    started = time.perf_counter()
    population = open_population(folder)
    opened = time.perf_counter()
    # As a run does: the training clients are a split, here of everybody.
    clients, _, _ = population.clients.split(validation_fraction=0, test_fraction=0, seed=0)
    split = time.perf_counter()
    sampling = PoissonSampling(
        population=clients.num_clients, sampling_rate=cohort_size / clients.num_clients
    )
    seconds, memory, cohorts = [], [], []

    def run_round(number: int) -> None:
        """Draws and cuts one cohort."""
        begun = time.perf_counter()
        cohort = sampling.cohort(0, number)
        blocks = cut_into_blocks(clients, cohort, num_blocks=_BLOCKS, seed=0, round_number=number)
        seconds.append(time.perf_counter() - begun)
        memory.append(memory_of())
        cohorts.append(len(cohort))
        assert sum(len(block["labels"]) for block in blocks) > 0

    for number in range(1, rounds + 1):
        run_round(number)
    for number in range(rounds + 1, rounds + 1 + _COLD_ROUNDS):
        _forget(folder)
        run_round(number)
    print(
        json.dumps(
            {
                "clients": clients.num_clients,
                "cohort": sum(cohorts) / len(cohorts),
                "open_seconds": opened - started,
                "split_seconds": split - opened,
                "first_seconds": seconds[0],
                "warm_seconds": seconds[1:rounds],
                "cold_seconds": seconds[rounds:],
                "imported_mib": imported.own,
                "own_mib": max(m.own for m in memory),
                "files_mib": max(m.files for m in memory) - imported.files,
                "peak_mib": memory_of().peak,
            }
        )
    )


def _forget(folder: Path) -> None:
    """Drops the folder's files from the page cache, so that the next read goes to the disk."""
    for path in folder.rglob("*.npy"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
