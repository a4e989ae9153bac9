"""Every way in which one client can take part, for brute force."""

from collections.abc import Iterator

import numpy as np


def patterns(rounds: int, max_participations: int, min_separation: int) -> Iterator[np.ndarray]:
    """Yields all 0/1 vectors over the rounds that keep to both limits."""

    def extend(chosen: tuple[int, ...], first: int) -> Iterator[np.ndarray]:
        pattern = np.zeros(rounds)
        pattern[list(chosen)] = 1
        yield pattern
        if len(chosen) < max_participations:
            for position in range(first, rounds):
                yield from extend((*chosen, position), position + min_separation)

    yield from extend((), 0)
