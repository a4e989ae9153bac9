"""The one-shot lower bounds: how often they hold, by simulation, and their arithmetic by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from fl_research.audit.binomial_bounds import lower_bound, upper_bound
from fl_research.audit.gaussian_epsilon import (
    epsilon_between_normals,
    epsilons_between_normals,
)
from fl_research.audit.one_shot_bounds import THRESHOLD_GRID, normal_bound, threshold_bound
from fl_research.audit.simulated_canaries import simulated_cosines
from fl_research.randomness import generator


def test_both_bounds_hold_for_the_gaussian_mechanism_as_often_as_stated() -> None:
    """40 runs at 80 %: more misses than a fair bound has with probability 1e-6 fail."""
    repetitions, error, dimension, sigma = 40, 0.2, 20_000, 1.0
    random = generator(0, "coverage")
    truth = epsilon_between_normals(0, sigma, 1, sigma, 1e-4)
    misses = np.zeros(2)
    bounds = []
    for _ in range(repetitions):
        observed = simulated_cosines(random, canaries=100, dimension=dimension, noise_std=sigma)
        arguments = {"dimension": dimension, "delta": 1e-4, "error": error}
        pair = (
            threshold_bound(observed, **arguments).epsilon_lower,
            normal_bound(observed, **arguments),
        )
        misses += np.array(pair) > truth
        bounds.append(pair)
    assert misses.max() <= stats.binom.isf(1e-6, repetitions, error)
    # They are no trivial bounds either.
    assert np.median(bounds, axis=0)[0] > 0.3 * truth
    assert np.median(bounds, axis=0)[1] > 0.6 * truth


@pytest.mark.parametrize("error", [0.3, 0.05])
def test_the_bound_by_thresholds_holds_where_it_is_tight(error: float) -> None:
    """Canaries lie just above one threshold with probability p; 600 draws, false alarm 1e-6.

    Then the truth is known: the best event is "above", with P_in = p. This is no normal law.
    """
    dimension, delta, canaries, repetitions = 10_000, 1e-6, 60, 600
    probability, score = 0.3, 5.0
    threshold = score / math.sqrt(dimension)
    truth = math.log((probability - delta) / float(stats.norm.sf(score)))
    random = generator(1, "two_points")
    misses, exceeded = 0, []
    for _ in range(repetitions):
        above = random.random(canaries) < probability
        found = threshold_bound(
            np.where(above, threshold + 1e-6, -0.03), dimension=dimension, delta=delta, error=error
        )
        # The law of a direction's cosine is a little below the normal one at d = 10,000.
        exact = math.log(probability - delta) - found.log_false_positive_rate_upper
        misses += found.epsilon_lower > exact
        exceeded.append(found.exceeding == above.sum())
        assert found.threshold < threshold + 1e-6 and abs(exact - truth) < 0.1 + 10 * (
            found.threshold < 0.9 * threshold
        )
    assert misses <= stats.binom.isf(1e-6, repetitions, error)
    assert np.mean(exceeded) > 0.99


def test_the_bound_by_thresholds_by_hand() -> None:
    """All of 50 canaries at 4.5 standard deviations: the event is "above 4"."""
    dimension, delta, error = 1_000_000, 1e-6, 0.05
    found = threshold_bound(np.full(50, 4.5e-3), dimension=dimension, delta=delta, error=error)
    share = error / len(THRESHOLD_GRID)
    tpr = share ** (1 / 50)
    assert found.threshold == 4e-3 and found.exceeding == 50 and not found.by_complement
    assert found.epsilon_lower == pytest.approx(
        math.log(tpr - delta) - stats.norm.logsf(4), abs=1e-3
    )
    assert found.held_out_exceeding is None


def test_the_complement_counts_where_canaries_are_never_low() -> None:
    """A thousand canaries just above zero: "not above 0" is what gives them away."""
    found = threshold_bound(np.full(1000, 1e-6), dimension=1_000_000, delta=1e-6, error=0.05)
    missed = -math.expm1(math.log(0.05 / len(THRESHOLD_GRID)) / 1000)
    assert found.by_complement and found.threshold == 0
    assert found.epsilon_lower == pytest.approx(math.log((0.5 - 1e-6) / missed), rel=1e-6)


def test_held_out_canaries_serve_where_they_say_more_than_the_union_bound() -> None:
    """Over 1,000 rounds the union bound says nothing at 3; 400 of 400 held-out ones below do."""
    observed, held_out = np.full(100, 3.5e-3), np.full(400, 2.5e-3)
    arguments = {"dimension": 1_000_000, "delta": 1e-6, "error": 0.05, "rounds": 1000}
    found = threshold_bound(observed, held_out=held_out, **arguments)
    share = 0.05 / len(THRESHOLD_GRID) / 2
    assert found.threshold == 3e-3 and found.held_out_exceeding == 0
    rates = lower_bound(100, 100, share), upper_bound(0, 400, share)
    assert found.epsilon_lower == pytest.approx(
        max(
            math.log((rates[0] - 1e-6) / rates[1]),
            math.log((1 - rates[1] - 1e-6) / (1 - rates[0])),
        )
    )
    assert threshold_bound(observed, **arguments).epsilon_lower < found.epsilon_lower


def test_random_signs_cost_at_most_their_factor() -> None:
    observed = np.full(50, 4.5e-3)
    arguments = {"dimension": 1_000_000, "delta": 1e-6, "error": 0.05}
    sphere = threshold_bound(observed, **arguments).epsilon_lower
    signs = threshold_bound(observed, directions="rademacher", **arguments).epsilon_lower
    assert sphere - signs == pytest.approx(math.log(3.178), abs=2e-3)


def test_grid_points_beyond_a_cosine_of_one_are_left_out() -> None:
    found = threshold_bound(np.array([0.9, 0.95]), dimension=2, delta=1e-6, error=0.05)
    assert 0 <= found.epsilon_lower < 2


@pytest.mark.parametrize("held_out", [0, 60])
def test_the_bound_by_a_fit_holds_for_normal_cosines(held_out: int) -> None:
    """Other variances in and out; 40 runs at 70 %, false alarm 1e-6."""
    dimension, delta, error, repetitions = 10_000, 1e-5, 0.3, 40
    random = generator(2, "normal_cosines", held_out)
    null_mean, null_std = (0.02, 0.006) if held_out else (0.0, 0.01)
    truth = epsilon_between_normals(null_mean, null_std, 0.035, 0.012, delta)
    bounds = []
    for _ in range(repetitions):
        null = null_mean + null_std * random.standard_normal(held_out) if held_out else None
        observed = 0.035 + 0.012 * random.standard_normal(60)
        bounds.append(
            normal_bound(observed, dimension=dimension, delta=delta, error=error, held_out=null)
        )
    assert np.sum(np.array(bounds) > truth) <= stats.binom.isf(1e-6, repetitions, error)
    assert np.median(bounds) > 0.3 * truth


def test_unequal_participation_fools_the_fit_but_not_the_thresholds() -> None:
    """Why the bound by thresholds is the headline: half of the canaries are never sampled.

    Those that are have a cosine of 3 standard deviations. Without the sampling epsilon would be
    that of a normal at 3, so it is no higher; the fit, whose normal law is wrong here, is. False
    alarm below 1e-6: the bound by thresholds has an error of 1e-7.
    """
    dimension, delta = 1_000_000, 1e-6
    truth = epsilon_between_normals(0, 1, 3, 1, delta)
    random = generator(4, "participation")
    shifts = 3.0 * (random.random(1000) < 0.5)
    observed = (shifts + random.standard_normal(1000)) / math.sqrt(dimension)
    arguments = {"dimension": dimension, "delta": delta}
    by_thresholds = threshold_bound(observed, error=1e-7, **arguments).epsilon_lower
    assert 0.2 * truth < by_thresholds <= truth
    assert normal_bound(observed, error=1e-7, **arguments) > 1.2 * truth


def test_the_bound_by_a_fit_is_the_least_over_its_rectangle() -> None:
    """Against a fine search over the same bounds, made here."""
    observed = 0.01 + 0.013 * generator(3, "rectangle").standard_normal(80)
    found = normal_bound(observed, dimension=10_000, delta=1e-6, error=0.06)
    count, mean, std = 80, observed.mean(), observed.std(ddof=1)
    lowest_mean = mean - stats.t.isf(0.02, count - 1) * std / math.sqrt(count)
    low = std * math.sqrt((count - 1) / stats.chi2.isf(0.02, count - 1))
    high = std * math.sqrt((count - 1) / stats.chi2.ppf(0.02, count - 1))
    fine = epsilons_between_normals(0, 0.01, lowest_mean, np.linspace(low, high, 4000), 1e-6).min()
    assert found == pytest.approx(fine, abs=1e-3) and found <= fine + 1e-6
