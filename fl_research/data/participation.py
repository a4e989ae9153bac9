"""How often clients really took part, counted from the cohorts drawn again."""

from collections.abc import Sequence

import numpy as np

from fl_research.data.client_sampling import ClientSampling


def realised_participation(
    sampling: ClientSampling, seed: int, rounds: Sequence[int]
) -> dict[str, int | None]:
    """Counts how often clients took part in the released rounds.

    Args:
      sampling: The sampler, which is pure in (seed, round).
      seed: The seed that the cohorts were drawn from.
      rounds: The round of each release, in order.

    Returns:
      `highest`: the largest number of rounds of any client; `smallest_separation`: the fewest
      rounds between two participations of one client, None where nobody took part twice.
    """
    counts = np.zeros(sampling.population, np.int64)
    last_seen = np.full(sampling.population, -1, np.int64)
    smallest: int | None = None
    for round_number in sorted(set(rounds)):  # A repeated round has the same cohort.
        cohort = sampling.cohort(seed, round_number)
        counts[cohort] += 1
        seen = last_seen[cohort]
        gaps = round_number - seen[seen >= 0]
        if gaps.size:
            smallest = int(gaps.min()) if smallest is None else min(smallest, int(gaps.min()))
        last_seen[cohort] = round_number
    return {"highest": int(counts.max(initial=0)), "smallest_separation": smallest}
