"""The one-shot canary audit: cosines, the law they are drawn from, the paper's check, wrong input.

Real vectors are drawn here; the simulated law has to agree with them.
"""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from fl_research.audit import one_shot
from fl_research.audit.canaries import rademacher_chunks
from fl_research.audit.gaussian_epsilon import epsilon_between_normals
from fl_research.audit.one_shot import OneShotEstimate, cosines, one_shot_estimate
from fl_research.audit.simulated_canaries import simulated_cosines
from fl_research.errors import InputError
from fl_research.randomness import generator


def _unit_rows(random: np.random.Generator, rows: int, dimension: int) -> np.ndarray:
    """Uniform directions."""
    vectors = random.standard_normal((rows, dimension), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _estimates(sigma: float, repetitions: int) -> list[OneShotEstimate]:
    """The paper's Gaussian mechanism: 1,000 canaries, a million dimensions, delta 1e-6."""
    random = generator(4, f"paper_{sigma}")
    return [
        one_shot_estimate(
            simulated_cosines(random, canaries=1000, dimension=10**6, noise_std=sigma),
            dimension=10**6,
            delta=1e-6,
        )
        for _ in range(repetitions)
    ]


def test_cosines_of_an_array_and_of_chunks_are_the_plain_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = generator(0, "cosines")
    canaries = 3 * random.standard_normal((23, 40)).astype(np.float32)
    released = random.standard_normal(40)
    plain = np.array(
        [row @ released / np.linalg.norm(row) / np.linalg.norm(released) for row in canaries]
    )
    np.testing.assert_allclose(cosines(released, canaries), plain, rtol=1e-5)
    monkeypatch.setattr(one_shot, "_NUMBERS_AT_ONCE", 100)
    np.testing.assert_allclose(cosines(released, canaries), plain, rtol=1e-5)

    def chunks() -> Iterator[np.ndarray]:
        yield canaries[:9]
        yield canaries[9:9]
        yield canaries[9:]

    np.testing.assert_allclose(cosines(released.astype(np.float32), chunks()), plain, rtol=1e-5)
    assert cosines(released, -2 * released[np.newaxis])[0] == pytest.approx(-1, abs=1e-12)


def test_only_some_rows_are_converted_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes 1,000 canaries of a million numbers fit."""
    seen = []
    inner = one_shot._cosines_of_rows

    def watched(unit: np.ndarray, rows: np.ndarray) -> np.ndarray:
        seen.append(rows.size)
        return inner(unit, rows)

    monkeypatch.setattr(one_shot, "_cosines_of_rows", watched)
    one_million = np.ones((20, 1_000_000), np.float32)
    np.testing.assert_allclose(cosines(one_million[0], one_million), 1, rtol=1e-12)
    assert max(seen) * 8 <= 64e6 and sum(seen) == 20_000_000


@pytest.mark.parametrize(
    ("canaries", "dimension", "noise_std", "repetitions"),
    [
        pytest.param(200, 20_000, 1.54, 6, id="many dimensions"),
        pytest.param(60, 90, 0.7, 800, id="canaries fill the space"),
        pytest.param(60, 61, 0.0, 800, id="no noise"),
    ],
)
def test_the_simulated_law_is_that_of_real_vectors(
    canaries: int, dimension: int, noise_std: float, repetitions: int
) -> None:
    """Draws the vectors themselves; false alarm 1e-6 a case (three Kolmogorov-Smirnov tests).

    Per draw one cosine, and the mean and the standard deviation of all, which feel how the cosines
    of one draw depend on each other.
    """
    random = generator(1, f"real_vectors_{dimension}")
    real = []
    for _ in range(repetitions):
        rows = _unit_rows(random, canaries, dimension)
        released = rows.sum(axis=0) + noise_std * random.standard_normal(dimension)
        real.append(cosines(released, rows))
    drawn = [
        simulated_cosines(random, canaries=canaries, dimension=dimension, noise_std=noise_std)
        for _ in range(800)
    ]
    for summary in (np.mean, np.std):
        sides = [[summary(one) for one in side] for side in (real, drawn)]
        assert stats.ks_2samp(*sides).pvalue > 3e-7
    first = [np.array(side)[:, 0] for side in (real, drawn)]
    assert stats.ks_2samp(*first).pvalue > 3e-7


def test_the_test_of_the_law_would_see_a_wrong_noise() -> None:
    """The comparison above rejects a noise that is wrong by a fifth."""
    random = generator(2, "wrong_noise")
    means = [
        [
            np.mean(simulated_cosines(random, canaries=60, dimension=90, noise_std=noise_std))
            for _ in range(800)
        ]
        for noise_std in (0.7, 0.84)
    ]
    assert stats.ks_2samp(*means).pvalue < 3e-7


@pytest.mark.parametrize("repetitions", [5, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("sigma", "paper", "spread"), [(4.22, 1.4, 0.34), (1.54, 3.5, 0.38), (0.541, 10.7, 0.55)]
)
def test_the_papers_check_comes_out(
    sigma: float, paper: float, spread: float, repetitions: int
) -> None:
    """The mean of the point estimates is the paper's value, as rounded there.

    Allows half of the last digit and, at a false alarm of 1e-6, five standard errors of our own
    mean, from the spread that 200 repetitions had.
    """
    epsilons = np.array([one.epsilon for one in _estimates(sigma, repetitions)])
    assert abs(epsilons.mean() - paper) < 0.05 + 5 * spread / math.sqrt(repetitions)
    if repetitions >= 100:
        assert epsilons.std(ddof=1) == pytest.approx(spread, rel=0.45)
        assert epsilons.mean() > epsilon_between_normals(0, sigma, 1, sigma, 1e-6)


def test_the_estimate_is_exact_for_exact_moments() -> None:
    """Two cosines with the mean and spread that the mechanism has: the analytic epsilon."""
    dimension, sigma = 10**6, 1.54
    mean, std = 1 / sigma / 1000, 1 / 1000
    pair = np.array([mean - std / math.sqrt(2), mean + std / math.sqrt(2)])
    estimate = one_shot_estimate(pair, dimension=dimension, delta=1e-6)
    assert estimate.mean == pytest.approx(mean) and estimate.std == pytest.approx(std)
    assert estimate.epsilon == pytest.approx(
        epsilon_between_normals(0, sigma, 1, sigma, 1e-6), rel=1e-6
    )
    assert (estimate.null_mean, estimate.null_std) == (0.0, 1e-3)


def test_canaries_that_took_no_part_show_nothing() -> None:
    """False alarm 1e-9: that is the error which the bounds are given."""
    rows = _unit_rows(generator(5, "nothing"), 200, 2000)
    released = generator(6, "nothing").standard_normal(2000)
    estimate = one_shot_estimate(
        cosines(released, rows), dimension=2000, delta=1e-6, confidence=1 - 1e-9
    )
    assert estimate.epsilon_lower == 0
    assert estimate.epsilon_lower_if_normal < 0.5
    assert estimate.canaries == 200 and estimate.held_out == 0
    assert "assumes no normal law" in estimate.bounded_by


def test_too_little_noise_is_caught() -> None:
    """A third of the noise of epsilon = 3 passes the claim in 10 of 10 runs, by both bounds.

    The bound by thresholds lies at about 5.9 with a standard deviation of 0.5 then.
    """
    random = generator(7, "too_little_noise")
    for _ in range(10):
        observed = simulated_cosines(random, canaries=1000, dimension=10**5, noise_std=1.54 / 3)
        estimate = one_shot_estimate(observed, dimension=10**5, delta=1e-6)
        assert estimate.epsilon_lower > 3
        assert estimate.epsilon_lower_if_normal > 3


def test_no_noise_at_all_gives_a_huge_bound() -> None:
    observed = simulated_cosines(
        generator(8, "no_noise"), canaries=100, dimension=10**6, noise_std=0.0
    )
    estimate = one_shot_estimate(observed, dimension=10**6, delta=1e-6)
    # A cosine of 0.1 is 100 standard deviations: 64 on the grid, P(normal > 64) = exp(-2053).
    assert estimate.epsilon_lower > 2000
    assert estimate.threshold.exceeding == 100
    assert math.isfinite(estimate.epsilon)


def test_random_signs_in_a_real_sum() -> None:
    """Rademacher canaries without noise are caught, and with a lot of noise nothing is claimed."""
    dimension, count = 5000, 60
    released = np.zeros(dimension)
    for chunk in rademacher_chunks(3, range(count), dimension):
        released += chunk.sum(axis=0)
    noise = generator(10, "random_signs").standard_normal(dimension)
    arguments = {"dimension": dimension, "delta": 1e-6, "directions": "rademacher"}
    found = [
        one_shot_estimate(
            cosines(released + noise_std * noise, rademacher_chunks(3, range(count), dimension)),
            confidence=1 - 1e-9,
            **arguments,
        )
        for noise_std in (0.0, 100.0)
    ]
    # The cosines without noise are about 1 / sqrt(60), 9 standard deviations: 6 or 8 on the grid.
    assert found[0].epsilon_lower > 15
    assert found[1].epsilon_lower == 0
    assert "random signs" in found[0].bounded_by


def test_the_largest_over_rounds_with_held_out_canaries() -> None:
    """Independent rounds of a Gaussian mechanism; the truth is the analytic epsilon of them all.

    The bounds hold in each of 10 repetitions (false alarm 1e-6 altogether), and a canary without
    noise in a single round is seen.
    """
    dimension, rounds, sigma = 2000, 10, 3.0
    truth = epsilon_between_normals(
        0, sigma / math.sqrt(rounds), 1, sigma / math.sqrt(rounds), 1e-5
    )
    for repetition in range(10):
        random = generator(9, "rounds", repetition)
        rows = _unit_rows(random, 300, dimension)
        largest = np.full(300, -1.0)
        for noise_std in [sigma] * rounds:
            released = rows[:100].sum(axis=0) + noise_std * random.standard_normal(dimension)
            largest = np.maximum(largest, cosines(released, rows))
        arguments = {"dimension": dimension, "delta": 1e-5, "rounds": rounds}
        estimate = one_shot_estimate(
            largest[:100], held_out=largest[100:], confidence=1 - 1e-7, **arguments
        )
        assert estimate.epsilon_lower <= truth
        assert estimate.held_out == 200 and "held-out" in estimate.bounded_by
        assert estimate.null_mean == pytest.approx(largest[100:].mean())
    largest = np.maximum(largest, cosines(rows[:100].sum(axis=0), rows))
    broken = one_shot_estimate(largest[:100], held_out=largest[100:], **arguments)
    assert broken.epsilon_lower > 2 and broken.epsilon_lower_if_normal > 2
    with pytest.raises(InputError, match="rounds=10 needs held_out"):
        one_shot_estimate(largest[:100], **arguments)


_GOOD = np.array([0.1, 0.2, 0.15])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"observed": _GOOD[:1]}, r"observed has shape \[1\]"),
        ({"observed": np.array([0.1, 1.5])}, "observed has values outside"),
        ({"observed": np.array([0.1, np.nan])}, "observed has values outside"),
        ({"observed": np.array([0.1, 0.1])}, "observed has 2 equal cosines"),
        ({"held_out": _GOOD[:1]}, r"held_out has shape \[1\]"),
        ({"dimension": 1}, "dimension=1"),
        ({"delta": 0.0}, "delta=0.0"),
        ({"confidence": 95}, "confidence=95"),
        ({"rounds": 0}, "rounds=0"),
        ({"directions": "cube"}, "directions='cube'"),
    ],
)
def test_wrong_input_is_refused(changes: dict, named: str) -> None:
    arguments = {"observed": _GOOD, "dimension": 100, "delta": 1e-6} | changes
    with pytest.raises(InputError, match=named):
        one_shot_estimate(arguments.pop("observed"), **arguments)


@pytest.mark.parametrize(
    ("released", "canaries", "named"),
    [
        (np.ones((2, 2)), np.ones((2, 2)), r"released has shape \[2, 2\]"),
        (np.zeros(2), np.ones((2, 2)), "released has the length 0"),
        (np.array([1, np.nan]), np.ones((2, 2)), "released has the length nan"),
        (np.ones(2), np.ones((2, 3)), r"shape \[2, 3\]"),
        (np.ones(2), np.zeros((1, 2)), "zero or not finite"),
        (np.ones(2), np.full((1, 2), np.inf), "zero or not finite"),
    ],
)
def test_vectors_that_have_no_cosine_are_refused(
    released: np.ndarray, canaries: np.ndarray, named: str
) -> None:
    with pytest.raises(InputError, match=named):
        cosines(released, canaries)


def test_a_simulation_needs_more_dimensions_than_canaries() -> None:
    with pytest.raises(InputError, match="dimension=5"):
        simulated_cosines(generator(0, "small"), canaries=5, dimension=5, noise_std=1.0)
