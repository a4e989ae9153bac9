"""Realised participation against counting client by client."""

from fl_research.data.client_sampling import MinSeparationSampling, PoissonSampling
from fl_research.data.participation import realised_participation

SAMPLING = PoissonSampling(population=40, sampling_rate=0.3)


def test_realised_participation_by_counting() -> None:
    """The same figures as counting cohorts one by one."""
    rounds = [1, 2, 3, 3, 4]
    cohorts = [set(SAMPLING.cohort(1, r).tolist()) for r in (1, 2, 3, 4)]
    highest = max(sum(client in cohort for cohort in cohorts) for client in range(40))
    gaps = [
        later - earlier
        for client in range(40)
        for earlier in range(4)
        for later in range(earlier + 1, 4)
        if client in cohorts[earlier] and client in cohorts[later]
    ]
    found = realised_participation(SAMPLING, 1, rounds)
    assert found == {"highest": highest, "smallest_separation": min(gaps)}
    assert realised_participation(SAMPLING, 1, []) == {"highest": 0, "smallest_separation": None}


def test_a_repeated_round_is_one_participation() -> None:
    sampling = MinSeparationSampling(
        population=12, sampling_rate=0.25, min_separation=4, max_participations=2
    )
    rounds = [1, 2, 3, 4, 5, 5, 6, 7, 8]
    found = realised_participation(sampling, 3, rounds)
    assert found == {"highest": 2, "smallest_separation": 4}
