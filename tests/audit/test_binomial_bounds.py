"""Clopper-Pearson: closed forms, the defining equation, and coverage summed up exactly."""

import numpy as np
import pytest
from scipy import stats

from fl_research.audit import binomial_bounds
from fl_research.errors import InputError


@pytest.mark.parametrize("trials", [1, 7, 1000, 500_000])
@pytest.mark.parametrize("error", [0.05, 1e-8])
def test_all_or_nothing_has_a_closed_form(trials: int, error: float) -> None:
    root = error ** (1 / trials)
    assert binomial_bounds.lower_bound(trials, trials, error) == pytest.approx(root, rel=1e-9)
    assert binomial_bounds.upper_bound(0, trials, error) == pytest.approx(1 - root, rel=1e-7)
    assert binomial_bounds.lower_bound(0, trials, error) == 0
    assert binomial_bounds.upper_bound(trials, trials, error) == 1


@pytest.mark.parametrize("error", [0.3, 0.025, 1e-6])
def test_the_bound_makes_the_count_as_likely_as_the_error(error: float) -> None:
    trials = 50
    counts = np.arange(1, trials)
    lower = binomial_bounds.lower_bound(counts, trials, error)
    upper = binomial_bounds.upper_bound(counts, trials, error)
    np.testing.assert_allclose(stats.binom.sf(counts - 1, trials, lower), error, rtol=1e-6)
    np.testing.assert_allclose(stats.binom.cdf(counts, trials, upper), error, rtol=1e-6)
    assert np.all(lower < counts / trials) and np.all(counts / trials < upper)


@pytest.mark.parametrize("trials", [1, 5, 40])
@pytest.mark.parametrize("error", [0.1, 0.01])
def test_coverage_is_never_less_than_stated_and_is_reached(trials: int, error: float) -> None:
    """Sums the probability of every count whose bound is wrong; nothing is drawn."""
    counts = np.arange(trials + 1)
    lower = binomial_bounds.lower_bound(counts, trials, error)
    upper = binomial_bounds.upper_bound(counts, trials, error)
    worst = [0.0, 0.0]
    for truth in np.concatenate([np.linspace(0.001, 0.999, 999), lower[1:] - 1e-9]):
        mass = stats.binom.pmf(counts, trials, truth)
        missed = mass[lower > truth].sum(), mass[upper < truth].sum()
        assert max(missed) <= error * (1 + 1e-9)
        worst = [max(pair) for pair in zip(worst, missed, strict=True)]
    assert min(worst) > 0.9 * error


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((3, 2, 0.05), "successes=3"),
        ((-1, 2, 0.05), "successes=-1"),
        ((0, 0, 0.05), "trials=0"),
        ((1.5, 2, 0.05), "successes=1.5"),
        ((1, 2, 0.0), "error=0.0"),
        ((1, 2, 1.0), "error=1.0"),
    ],
)
def test_wrong_input_is_refused(arguments: tuple, named: str) -> None:
    for bound in (binomial_bounds.lower_bound, binomial_bounds.upper_bound):
        with pytest.raises(InputError, match=named):
            bound(*arguments)


def test_a_confidence_is_a_probability() -> None:
    assert binomial_bounds.error_of(0.95) == pytest.approx(0.05)
    for confidence in (0, 1, 95, "0.95"):
        with pytest.raises(InputError, match="confidence="):
            binomial_bounds.error_of(confidence)
