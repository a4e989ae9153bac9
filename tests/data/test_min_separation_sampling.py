"""Sampling with a minimum separation: its promises, exact distributions, limits, wrong input."""

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fl_research.data.client_sampling import (
    ClientSampling,
    FixedSizeSampling,
    FullParticipation,
    MinSeparationSampling,
    PoissonSampling,
    build_client_sampling,
    sampling_from_dict,
)
from fl_research.errors import InputError


def sampler(
    separation: int, rate: float, limit: int | None = None, population: int = 103
) -> MinSeparationSampling:
    return MinSeparationSampling(
        population=population,
        sampling_rate=rate,
        min_separation=separation,
        max_participations=limit,
    )


SAMPLERS = [
    sampler(4, 0.1),
    sampler(4, 0.25),
    sampler(7, 0.1, limit=3),
    sampler(1, 0.3, limit=2),
    sampler(1, 1.0),
    sampler(103, 1 / 103),
    sampler(5, 0.2, limit=1),
]
every_sampler = pytest.mark.parametrize("sampling", SAMPLERS, ids=str)


def participations(sampling: ClientSampling, seed: int, rounds: int) -> dict[int, list[int]]:
    """The rounds of each client that came."""
    came: dict[int, list[int]] = {}
    for number in range(1, rounds + 1):
        for client in sampling.cohort(seed, number):
            came.setdefault(int(client), []).append(number)
    return came


@every_sampler
@pytest.mark.parametrize("seed", [0, 1, 2**40, 12345])
def test_nobody_comes_too_soon_or_too_often(sampling: MinSeparationSampling, seed: int) -> None:
    """60 rounds; up to each of them nobody came more often than the accounting assumes."""
    for rounds in participations(sampling, seed, 60).values():
        assert all(np.diff(rounds) >= sampling.min_separation)
        assert len(rounds) <= (sampling.max_participations or 60)
        for until in range(1, 61):
            count = sum(number <= until for number in rounds)
            assert count <= sampling.most_participations(until)


@every_sampler
def test_a_client_comes_in_the_turns_of_its_group_only(sampling: MinSeparationSampling) -> None:
    for rounds in participations(sampling, 3, 60).values():
        assert len({sampling.group(number) for number in rounds}) == 1
    assert [sampling.group(number) for number in range(1, 4)] == [
        (number - 1) % sampling.min_separation for number in range(1, 4)
    ]


@pytest.mark.parametrize("separation", [1, 4, 7, 50, 103])
def test_groups_are_nearly_equal_and_hold_everybody(separation: int) -> None:
    """At a turn rate of one a cohort is a whole group."""
    sampling = sampler(separation, 1 / separation)
    groups = [sampling.cohort(5, number) for number in range(1, separation + 1)]
    sizes = [len(group) for group in groups]
    assert {math.floor(103 / separation), math.ceil(103 / separation)} >= set(sizes)
    np.testing.assert_array_equal(np.sort(np.concatenate(groups)), np.arange(103))
    np.testing.assert_array_equal(sampling.cohort(5, separation + 1), groups[0])


def test_groups_are_dealt_out_by_the_seed() -> None:
    """Clients 0 and 1 share one of two groups of 2 with probability 1/3; binomial, 1e-6."""
    sampling = sampler(2, 0.5, population=4)
    together = 0
    for seed in range(3000):
        cohort = sampling.cohort(seed, 1)
        together += (0 in cohort) == (1 in cohort)
    assert stats.binomtest(together, 3000, 1 / 3).pvalue > 1e-6


def test_each_subset_of_a_group_comes_with_its_probability() -> None:
    """All 16 subsets of a group of 4 in 8,000 turns; chi-square, false alarm probability 1e-6."""
    sampling = sampler(2, 0.15, population=8)
    members = np.unique(np.concatenate([sampling.cohort(7, 2 * k + 1) for k in range(200)]))
    assert len(members) == 4
    place = {int(client): i for i, client in enumerate(members)}
    observed = np.zeros(16)
    for turn in range(8000):
        cohort = sampling.cohort(7, 2 * turn + 1)
        observed[sum(1 << place[int(client)] for client in cohort)] += 1
    size = np.array([number.bit_count() for number in range(16)])
    expected = 8000 * 0.3**size * 0.7 ** (4 - size)
    assert stats.chisquare(observed, expected).pvalue > 1e-6


def test_turns_are_independent() -> None:
    """Cohorts of two turns in a row as a table; chi-square, false alarm probability 1e-6."""
    sampling = sampler(2, 0.2, population=4)
    numbers = [int(np.sum(1 << sampling.cohort(9, 2 * k + 1))) for k in range(8000)]
    values, codes = np.unique(numbers, return_inverse=True)
    table = np.zeros((len(values), len(values)))
    np.add.at(table, (codes[::2], codes[1::2]), 1)
    assert stats.chi2_contingency(table)[1] > 1e-6


def test_a_limit_lets_the_first_turns_count() -> None:
    """Who has come often enough stays away; everybody else is drawn as without a limit."""
    free, limited = sampler(3, 0.2), sampler(3, 0.2, limit=2)
    taken = np.zeros(103, int)
    for number in range(1, 61):
        drawn = free.cohort(4, number)
        expected = drawn[taken[drawn] < 2]
        np.testing.assert_array_equal(limited.cohort(4, number), expected)
        taken[expected] += 1
    assert taken.max() == 2 and np.sum(taken == 2) > 90


@every_sampler
def test_a_cohort_follows_from_seed_and_round(sampling: MinSeparationSampling) -> None:
    """In any order of rounds, sorted, without repeats, int64."""
    forwards = [sampling.cohort(8, number) for number in range(1, 20)]
    backwards = [sampling.cohort(8, number) for number in range(19, 0, -1)][::-1]
    for one, again in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(one, again)
        assert one.dtype == np.int64 and np.all(np.diff(one) > 0)
    if sampling.turn_rate < 1:
        others = [sampling.cohort(9, number) for number in range(1, 20)]
        assert [set(cohort) for cohort in forwards] != [set(cohort) for cohort in others]


def test_sizes_are_those_that_are_expected() -> None:
    """10,000 cohorts; the mean within 5 standard errors (6e-7)."""
    sampling = sampler(4, 0.1)
    assert sampling.expected_cohort_size == pytest.approx(10.3)
    assert sampling.turn_rate == pytest.approx(0.4)
    mean = np.mean([len(sampling.cohort(1, number)) for number in range(1, 10_001)])
    assert abs(mean - 10.3) < 5 * math.sqrt(10.3 * 0.6 / 10_000)


@pytest.mark.parametrize(("rounds", "most"), [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_most_participations(rounds: int, most: int) -> None:
    """By hand, and by brute force over all patterns that the separation allows."""
    assert sampler(4, 0.1).most_participations(rounds) == most
    assert sampler(4, 0.1, limit=2).most_participations(rounds) == min(most, 2)
    patterns = itertools.product((0, 1), repeat=rounds)
    counts = [sum(p) for p in patterns if np.all(np.diff(np.flatnonzero(p)) >= 4)]
    assert max(counts) == most


def test_other_samplers_promise_no_separation() -> None:
    for sampling in (
        PoissonSampling(population=10, sampling_rate=0.1),
        FixedSizeSampling(population=10, cohort_size=2),
        FullParticipation(population=10),
    ):
        assert sampling.separation == 1
        assert sampling.most_participations(12) == 12


@every_sampler
def test_it_comes_back_from_json(sampling: MinSeparationSampling) -> None:
    assert sampling_from_dict(json.loads(json.dumps(sampling.to_dict()))) == sampling


def test_it_is_built_from_what_a_user_says() -> None:
    settings = {"population": 100, "min_separation": 5}
    by_rate = build_client_sampling("min_separation", sampling_rate=0.1, **settings)
    by_size = build_client_sampling("min_separation", clients_per_round=10, **settings)
    assert by_rate == by_size == sampler(5, 0.1, population=100)
    # Rates such as 1/3 times 3 groups are a whole group, whatever the rounding.
    whole = build_client_sampling(
        "min_separation", population=99, clients_per_round=33, min_separation=3
    )
    assert isinstance(whole, MinSeparationSampling) and whole.turn_rate == 1.0


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"min_separation": 0}, "min_separation=0"),
        ({"min_separation": 2.5}, "min_separation=2.5"),
        ({"min_separation": 104}, "leaves groups without a client; give at most.*103"),
        ({"sampling_rate": 0.0}, "sampling_rate=0 "),
        ({"sampling_rate": -0.1}, "sampling_rate=-0.1"),
        ({"sampling_rate": math.nan}, "sampling_rate=nan"),
        ({"sampling_rate": 0.26}, "at most 25.75 clients fit"),
        ({"max_participations": 0}, "max_participations=0"),
        ({"population": 0}, "population=0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], named: str) -> None:
    good = {"population": 103, "sampling_rate": 0.1, "min_separation": 4}
    MinSeparationSampling(**good)
    with pytest.raises(InputError, match=named) as raised:
        MinSeparationSampling(**{**good, **settings})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "settings", "named"),
    [
        ("min_separation", {"sampling_rate": 0.1}, "min_separation is not given"),
        ("poisson", {"sampling_rate": 0.1, "min_separation": 3}, "min_separation=3 does not go"),
        ("full", {"max_participations": 3}, "max_participations=3 does not go"),
        ("min_separation", {"min_separation": 3}, "give exactly one of the two"),
    ],
)
def test_settings_that_do_not_belong_are_refused(
    name: str, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        build_client_sampling(name, population=100, **settings)
