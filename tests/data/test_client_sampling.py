"""Client sampling: exact distributions, independence over rounds, purity, speed, wrong input."""

import itertools
import json
import time

import numpy as np
import pytest
from scipy import stats

from fl_research.data import client_sampling
from fl_research.data.client_sampling import FixedSizeSampling, FullParticipation, PoissonSampling
from fl_research.errors import InputError


def _subset_numbers(sampling: client_sampling.ClientSampling, rounds: int) -> np.ndarray:
    """The cohort of each round as one number, a bit for each client."""
    return np.array([np.sum(1 << sampling.cohort(7, r)) for r in range(rounds)], dtype=int)


def test_poisson_draws_every_subset_with_its_probability() -> None:
    """All 16 subsets of 4 clients in 20,000 rounds; chi-square, false alarm probability 1e-6.

    This covers the size, each client's rate and the independence of the clients at once.
    """
    sampling = PoissonSampling(population=4, sampling_rate=0.3)
    observed = np.bincount(_subset_numbers(sampling, 20_000), minlength=16)
    size = np.array([number.bit_count() for number in range(16)])
    expected = 20_000 * 0.3**size * 0.7 ** (4 - size)
    assert stats.chisquare(observed, expected).pvalue > 1e-6
    assert observed[0] > 0  # empty cohorts


def test_fixed_size_draws_every_subset_alike() -> None:
    """The 10 pairs of 5 clients in 10,000 rounds; chi-square, false alarm probability 1e-6."""
    numbers = _subset_numbers(FixedSizeSampling(population=5, cohort_size=2), 10_000)
    pairs = [(1 << a) + (1 << b) for a, b in itertools.combinations(range(5), 2)]
    observed = [np.sum(numbers == pair) for pair in pairs]
    assert sum(observed) == 10_000
    assert stats.chisquare(observed).pvalue > 1e-6


@pytest.mark.parametrize(
    "sampling",
    [
        PoissonSampling(population=3, sampling_rate=0.4),
        FixedSizeSampling(population=5, cohort_size=2),
    ],
    ids=lambda sampling: sampling.name,
)
def test_rounds_are_independent(sampling: client_sampling.ClientSampling) -> None:
    """Cohorts of rounds 2k and 2k+1 as a table; chi-square, false alarm probability 1e-6."""
    numbers = _subset_numbers(sampling, 20_000).reshape(-1, 2)
    values, codes = np.unique(numbers, return_inverse=True)
    codes = codes.reshape(-1, 2)
    table = np.zeros((len(values), len(values)))
    np.add.at(table, (codes[:, 0], codes[:, 1]), 1)
    assert stats.chi2_contingency(table)[1] > 1e-6


@pytest.mark.parametrize("rate", [0.001, 0.2])  # numpy draws subsets by two methods
def test_poisson_is_even_over_a_large_population(rate: float) -> None:
    """Counts in 20 equal ranges of index are independent binomials; false alarm 1e-6 each."""
    population, rounds = 100_000, 200
    sampling = PoissonSampling(population=population, sampling_rate=rate)
    counts = np.zeros(20)
    for round_number in range(rounds):
        cohort = sampling.cohort(11, round_number)
        assert np.all(np.diff(cohort) > 0)
        counts += np.bincount(cohort // (population // 20), minlength=20)
    trials = rounds * population / 20
    statistic = np.sum((counts - trials * rate) ** 2 / (trials * rate * (1 - rate)))
    assert 1e-6 < stats.chi2.cdf(statistic, df=20) < 1 - 1e-6


@pytest.mark.parametrize(
    "sampling",
    [
        PoissonSampling(population=1000, sampling_rate=0.05),
        FixedSizeSampling(population=1000, cohort_size=50),
        FullParticipation(population=1000),
    ],
    ids=lambda sampling: sampling.name,
)
def test_cohort_is_pure_and_a_sorted_set_of_indices(sampling) -> None:
    first = [sampling.cohort(3, r) for r in range(5)]
    backwards = [sampling.cohort(3, r) for r in reversed(range(5))][::-1]
    for a, b in zip(first, backwards, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == np.int64
        assert np.all(np.diff(a) > 0) and a[0] >= 0 and a[-1] < 1000
    if sampling.name == "full":
        assert len(first[0]) == 1000
    else:
        assert not np.array_equal(first[0], first[1])
        assert not np.array_equal(first[0], sampling.cohort(4, 0))
    restored = client_sampling.sampling_from_dict(json.loads(json.dumps(sampling.to_dict())))
    assert restored == sampling


def test_a_million_clients_take_under_five_milliseconds() -> None:
    for sampling in (
        PoissonSampling(population=1_000_000, sampling_rate=0.001),
        FixedSizeSampling(population=1_000_000, cohort_size=1000),
    ):
        seconds = []
        for round_number in range(20):
            started = time.perf_counter()
            sampling.cohort(0, round_number)
            seconds.append(time.perf_counter() - started)
        print(f"{sampling.name}: {1e3 * np.median(seconds):.2f} ms")
        assert min(seconds) < 0.005


def test_poisson_can_be_empty_and_can_be_everyone() -> None:
    assert PoissonSampling(population=5, sampling_rate=1e-9).cohort(0, 0).shape == (0,)
    everyone = PoissonSampling(population=5, sampling_rate=1.0).cohort(0, 0)
    np.testing.assert_array_equal(everyone, np.arange(5))


def test_build_from_what_a_user_says() -> None:
    build = client_sampling.build_client_sampling
    assert build("poisson", population=500, clients_per_round=50) == PoissonSampling(
        population=500, sampling_rate=0.1
    )
    assert build("poisson", population=500, sampling_rate=0.3).expected_cohort_size == 150
    assert build("fixed_size", population=500, sampling_rate=0.0251).expected_cohort_size == 13
    assert build("fixed_size", population=500, clients_per_round=50.0).cohort(0, 0).shape == (50,)
    assert build("full", population=500).expected_cohort_size == 500
    plain = build("poisson", population=np.int64(500), clients_per_round=50).to_dict()  # type: ignore[arg-type]
    assert json.loads(json.dumps(plain))["population"] == 500


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("bernoulli", {"population": 5}, "sampling='bernoulli' is unknown; choose one of poisson"),
        ("poisson", {"population": 5}, "exactly one of the two"),
        (
            "fixed_size",
            {"population": 5, "clients_per_round": 1, "sampling_rate": 0.1},
            "exactly one of the two",
        ),
        ("full", {"population": 5, "clients_per_round": 5}, "do not go with sampling='full'"),
        ("full", {"population": 0}, "population=0"),
        ("poisson", {"population": 0, "clients_per_round": 1}, "population=0"),
        ("poisson", {"population": 5, "clients_per_round": 6}, "clients_per_round=6"),
        ("fixed_size", {"population": 5, "clients_per_round": 6}, "clients_per_round=6"),
        ("fixed_size", {"population": 5, "clients_per_round": 2.5}, "not a whole number"),
        ("fixed_size", {"population": 5, "clients_per_round": float("nan")}, "clients_per_round="),
        ("fixed_size", {"population": 5, "sampling_rate": 0.01}, "clients_per_round=0"),
        ("fixed_size", {"population": 5, "sampling_rate": 1.01}, "sampling_rate=1.01"),
        ("poisson", {"population": 5, "sampling_rate": 0.0}, "sampling_rate=0.0"),
        ("poisson", {"population": 5, "sampling_rate": 1.5}, "sampling_rate=1.5"),
    ],
)
def test_wrong_input_is_refused(name: str, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        client_sampling.build_client_sampling(name, **settings)
    assert "\n" not in str(caught.value)


def test_a_wrong_dictionary_is_refused() -> None:
    with pytest.raises(InputError, match="None is unknown"):
        client_sampling.sampling_from_dict({"population": 5})
    with pytest.raises(InputError, match="not what 'poisson' takes"):
        client_sampling.sampling_from_dict({"name": "poisson", "population": 5, "rate": 0.1})
    with pytest.raises(InputError, match="sampling_rate=2"):
        client_sampling.sampling_from_dict({"name": "poisson", "population": 5, "sampling_rate": 2})
