"""The cost of a search against the paper's closed forms and the library; the number of trials."""

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import dp_event, rdp
from scipy import stats

from fl_research.errors import InputError
from fl_research.privacy import selection
from fl_research.privacy.accountants import claimed_epsilon, epsilon_by_accountant
from fl_research.privacy.selection import FixedTrials, RandomTrials, selection_epsilon
from tests.privacy.accounting_cases import ADD_OR_REMOVE, DELTA, REPLACE, ZERO_OUT, Gaussian

Laplace = dp_accounting.LaplaceDpEvent
Poisson = dp_accounting.PoissonSampledDpEvent
SelfComposed = dp_accounting.SelfComposedDpEvent

TRIAL = SelfComposed(Poisson(0.1, Gaussian(2.0)), 50)


def random_search(event: dp_accounting.DpEvent, mean: float, shape: float) -> float:
    trials = RandomTrials(mean=mean, shape=shape)
    return selection_epsilon(event, delta=DELTA, relation=ADD_OR_REMOVE, trials=trials)


@pytest.mark.parametrize("shape", [0.0, 0.5, 1.0, 5.0, math.inf])
@pytest.mark.parametrize("mean", [1.5, 10.0, 1e4])
@pytest.mark.parametrize("event", [TRIAL, Gaussian(3.0), SelfComposed(Gaussian(30.0), 10)])
def test_random_searches_cost_what_the_library_says(
    event: dp_accounting.DpEvent, mean: float, shape: float
) -> None:
    accountant = rdp.RdpAccountant()
    trials = RandomTrials(mean=mean, shape=shape)
    accountant.compose(selection.selection_event(event, trials))
    assert random_search(event, mean, shape) == pytest.approx(
        accountant.get_epsilon(DELTA), rel=1e-6
    )


@pytest.mark.parametrize("shape", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("gamma", [0.5, 0.01])
def test_gaussian_searches_have_the_divergences_of_corollary_4(shape: float, gamma: float) -> None:
    """Papernot and Steinke 2022, at orders that hold the best one of either step."""
    rho = 0.02
    log_inverse = -math.log(gamma)
    mean = (1 / gamma - 1) * (shape / (1 - gamma**shape) if shape else 1 / log_inverse)
    orders = tuple(
        sorted([1.5, 4.0, math.sqrt(log_inverse / rho), 1 + math.sqrt(math.log(mean) / rho), 90.0])
    )
    ours = selection.selection_divergences(
        rho * np.array(orders), orders, RandomTrials(mean=mean, shape=shape)
    )
    for order, divergence in zip(orders, ours, strict=True):
        least = max(order, 1 + math.sqrt(math.log(mean) / rho))
        expected = rho * (least - 1) + math.log(mean) / (least - 1) - shape * rho
        expected += 2 * (1 + shape) * math.sqrt(rho * log_inverse)
        assert divergence == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [0.0, 0.5, 1.0, 2.0])
def test_pure_epsilon_grows_by_two_plus_shape_whatever_the_mean(shape: float) -> None:
    """Corollary 3; geometric: three times (Liu and Talwar 2019)."""
    for mean in (1.5, 100.0, 1e6):
        assert random_search(Laplace(1.0), mean, shape) <= (2 + shape) * (1 + 1e-12)
    assert random_search(Laplace(1.0), 1e6, shape) == pytest.approx(2 + shape)


def exact_search_delta(pure: float, mean: float, epsilon: float) -> float:
    """The delta of a geometric search, enumerated, for trials that score 0, 1 or 2.

    A trial is randomised response that puts the winning score on the side of the unit.
    """
    likely = 1 / (1 + math.exp(-pure))
    scores = np.array([[0.9, 0.1 * (1 - likely), 0.1 * likely], [0.9, 0.1 * likely, 0.0]])
    scores[1, 2] = 1 - scores[1, :2].sum()
    best = []
    for p in scores:
        reached = np.cumsum(p)
        none_above = (reached / mean) / (1 - (1 - 1 / mean) * reached)  # E[reached^K], geometric.
        best.append(np.diff(none_above, prepend=0.0))
    there, instead = best
    return max(
        float(np.maximum(there - math.exp(epsilon) * instead, 0).sum()),
        float(np.maximum(instead - math.exp(epsilon) * there, 0).sum()),
    )


@pytest.mark.parametrize("mean", [2.0, 20.0, 300.0])
def test_a_real_search_loses_more_than_one_trial_and_less_than_the_bound(mean: float) -> None:
    """By enumeration: a rare best score, a common worst one."""
    pure = 1.0
    assert exact_search_delta(pure, 1.0, pure) <= 1e-15
    bound = random_search(Laplace(1 / pure), mean, 1.0)
    assert exact_search_delta(pure, mean, bound) <= DELTA
    assert mean < 20 or exact_search_delta(pure, mean, 1.05 * pure) > 1e-3


def test_a_known_number_of_trials_costs_all_of_them() -> None:
    ours = selection_epsilon(
        TRIAL, delta=DELTA, relation=ADD_OR_REMOVE, trials=FixedTrials(count=8)
    )
    event = SelfComposed(Poisson(0.1, Gaussian(2.0)), 400)
    assert ours == claimed_epsilon(epsilon_by_accountant(event, DELTA, ADD_OR_REMOVE)).epsilon
    one = selection_epsilon(TRIAL, delta=DELTA, relation=ADD_OR_REMOVE, trials=FixedTrials(count=1))
    assert random_search(TRIAL, 1.0, 1.0) == one < random_search(TRIAL, 8.0, 0.0) < ours


def test_searches_under_other_relations() -> None:
    trials = RandomTrials(mean=5, shape=1)
    zero_out = selection_epsilon(TRIAL, delta=DELTA, relation=ZERO_OUT, trials=trials)
    assert zero_out == random_search(TRIAL, 5, 1)
    fixed_size = dp_accounting.SampledWithoutReplacementDpEvent(1000, 10, Gaussian(2.0))
    replaced = selection_epsilon(fixed_size, delta=DELTA, relation=REPLACE, trials=trials)
    assert math.isfinite(replaced) and replaced > 0
    with pytest.raises(InputError, match="no accountant applies"):
        selection_epsilon(fixed_size, delta=DELTA, relation=ADD_OR_REMOVE, trials=trials)


def test_a_leaking_trial_makes_a_leaking_search() -> None:
    assert random_search(dp_accounting.NonPrivateDpEvent(), 5.0, 1.0) == math.inf


def probabilities(mean: float, shape: float, upto: int) -> np.ndarray:
    """P[K = k] for k = 0 ... upto, by SciPy's distributions and a search for gamma."""
    k = np.arange(upto + 1)
    if math.isinf(shape):
        return stats.poisson.pmf(k, mean)
    if shape == 1:
        return stats.geom.pmf(k, 1 / mean)
    low, high = 1e-9, 1 - 1e-9
    for _ in range(200):
        gamma = math.sqrt(low * high)
        if shape == 0:
            average = float(stats.logser.mean(1 - gamma))
        else:
            average = shape * (1 - gamma) / gamma / (1 - gamma**shape)
        low, high = (gamma, high) if average > mean else (low, gamma)
    if shape == 0:
        return stats.logser.pmf(k, 1 - gamma)
    with np.errstate(divide="ignore"):  # Probabilities too small for a number are 0.
        positive = stats.nbinom.pmf(k[1:], shape, gamma) / (1 - gamma**shape)
    return np.concatenate([[0.0], positive])


@pytest.mark.parametrize("shape", [0.0, 0.3, 1.0, 3.0, 100.0, math.inf])
@pytest.mark.parametrize("mean", [1.3, 12.0])
def test_the_number_of_trials_has_its_distribution(mean: float, shape: float) -> None:
    """Chi-square over 20,000 draws, cells of 20 and more; false alarms below 1e-7, seed fixed."""
    generator = np.random.default_rng(7)
    draws = [selection.draw_trials(generator, mean, shape) for _ in range(20_000)]
    expected = 20_000 * probabilities(mean, shape, 2000)
    assert expected.sum() > 20_000 * (1 - 1e-6)
    counted = np.bincount(np.minimum(draws, 2000), minlength=2001)
    assert counted[expected == 0].sum() == 0
    cells: list[list[float]] = [[0.0, 0.0]]
    for seen, wanted in zip(counted, expected, strict=True):
        cells[-1][0] += seen
        cells[-1][1] += wanted
        if cells[-1][1] >= 20:
            cells.append([0.0, 0.0])
    last = cells.pop()
    cells[-1][0] += last[0]
    cells[-1][1] += last[1]
    chi_square = sum((seen - wanted) ** 2 / wanted for seen, wanted in cells)
    assert chi_square < stats.chi2.isf(1e-8, len(cells) - 1)


def test_one_trial_on_average_is_always_one() -> None:
    generator = np.random.default_rng(8)
    assert {selection.draw_trials(generator, 1, shape) for shape in (0, 0.5, 1, 9)} == {1}


@pytest.mark.parametrize(
    ("mean", "shape", "names"),
    [
        (0.5, 1, "mean=0.5"),
        (math.nan, 1, "mean=nan"),
        (1e7, 1, "mean="),
        (3, -0.1, "shape=-0.1"),
        (3, math.nan, "shape=nan"),
        (3, 1000, "shape=1000"),
    ],
)
def test_impossible_searches_are_refused(mean: float, shape: float, names: str) -> None:
    with pytest.raises(InputError, match=names):
        selection.draw_trials(np.random.default_rng(9), mean, shape)
    with pytest.raises(InputError, match="count=0"):
        FixedTrials(count=0)


def test_the_event_of_a_search_is_the_librarys() -> None:
    event = selection.selection_event(TRIAL, RandomTrials(mean=7, shape=0.5))
    assert event == dp_event.RepeatAndSelectDpEvent(TRIAL, 7, 0.5)
    assert selection.selection_event(TRIAL, FixedTrials(count=7)) == SelfComposed(TRIAL, 7)
