"""The cost of a search against the library's composition and RepeatAndSelect, and brute force."""

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import dp_event, pld, rdp

from fl_research.errors import InputError
from fl_research.privacy.accountants import DEFAULT_ORDERS
from fl_research.privacy.events import event_to_json
from fl_research.privacy.search_spending import (
    Events,
    SearchSpending,
    planned_events,
    relation_named,
    spending_of_trials,
)
from fl_research.privacy.selection import FixedTrials, RandomTrials
from tests.privacy.accounting_cases import ADD_OR_REMOVE, DELTA, Gaussian
from tests.run import search_example

Poisson = dp_accounting.PoissonSampledDpEvent
SelfComposed = dp_accounting.SelfComposedDpEvent

CHEAP = SelfComposed(Poisson(0.05, Gaussian(1.5)), 30)
"""Costs less than `FLAT` at some orders and more at others: neither bounds the other."""
FLAT = Gaussian(2.2)


def written(*events: dp_accounting.DpEvent) -> Events:
    return [event_to_json(event) for event in events]


def spent(
    costs: list[Events], trials: FixedTrials | RandomTrials, delta: float | None = DELTA
) -> SearchSpending:
    return spending_of_trials(costs, trials=trials, delta=delta, relation=ADD_OR_REMOVE)


def library_rdp(event: dp_accounting.DpEvent) -> np.ndarray:
    accountant = rdp.RdpAccountant(DEFAULT_ORDERS)
    return np.array(accountant.compose(event).rdp)


@pytest.mark.parametrize("event", [CHEAP, FLAT])
def test_a_grid_costs_what_the_library_says_of_all_trials(event: dp_accounting.DpEvent) -> None:
    accountant = pld.PLDAccountant()
    accountant.compose(SelfComposed(event, 3))
    ours = spent([written(event)] * 3, FixedTrials(count=3))
    assert ours.epsilon == pytest.approx(accountant.get_epsilon(DELTA), rel=2e-3)


def test_a_grid_of_different_trials_costs_their_composition() -> None:
    accountant = pld.PLDAccountant()
    accountant.compose(CHEAP).compose(FLAT)
    ours = spent([written(CHEAP), written(FLAT)], FixedTrials(count=2))
    assert ours.epsilon == pytest.approx(accountant.get_epsilon(DELTA), rel=2e-3)


@pytest.mark.parametrize("shape", [0.0, 1.0, math.inf])
@pytest.mark.parametrize("mean", [2.0, 8.0, 100.0])
def test_a_random_search_costs_what_the_library_says(mean: float, shape: float) -> None:
    accountant = rdp.RdpAccountant(DEFAULT_ORDERS)
    accountant.compose(dp_event.RepeatAndSelectDpEvent(CHEAP, mean, shape))
    ours = spent([written(CHEAP)] * 4, RandomTrials(mean=mean, shape=shape))
    assert ours.epsilon == pytest.approx(accountant.get_epsilon(DELTA), rel=1e-6)


@pytest.mark.parametrize("mean", [1.0, 8.0])
def test_points_that_differ_are_bounded_at_each_order(mean: float) -> None:
    """Theorem 2 at the largest divergence of each order, in a few lines of numpy.

    Neither point alone is that bound: each is cheaper at some order.
    """
    curves = np.stack([library_rdp(CHEAP), library_rdp(FLAT)])
    assert set(np.argmax(curves, axis=0)) == {0, 1}
    worst, orders = curves.max(axis=0), np.array(DEFAULT_ORDERS)
    together = worst
    if mean > 1:  # Geometric: the mean is 1 / gamma.
        price = np.min((1 - 1 / orders) * worst + math.log(mean) / orders)
        together = worst + math.log(mean) / (orders - 1) + 2 * price
    expected = rdp.rdp_privacy_accountant.compute_epsilon(orders, together, DELTA)[0]
    trials = RandomTrials(mean=mean, shape=1.0)
    both = spent([written(CHEAP), written(FLAT)], trials).epsilon
    assert both == pytest.approx(expected, rel=1e-6)
    assert both >= max(spent([written(e)], trials).epsilon for e in (CHEAP, FLAT)) - 1e-9


def test_units_that_differ_between_trials_are_bounded_for_each() -> None:
    """A unit that is the worst in both trials costs no more than stated."""
    costs = [written(CHEAP, FLAT), written(FLAT)]
    worst = np.maximum(library_rdp(CHEAP), library_rdp(FLAT)) + library_rdp(FLAT)
    expected = rdp.rdp_privacy_accountant.compute_epsilon(DEFAULT_ORDERS, worst, DELTA)[0]
    assert spent(costs, FixedTrials(count=2)).epsilon == pytest.approx(expected, rel=1e-6)


def test_pure_trials_that_differ_cost_a_few_times_the_worst() -> None:
    """Papernot and Steinke 2022, corollary 3: (2 + shape) times, however many trials."""
    costs = [written(dp_accounting.LaplaceDpEvent(noise)) for noise in (20.0, 10.0)]
    assert spent(costs, RandomTrials(mean=1e5, shape=1.0)).epsilon <= 3 / 10 * (1 + 1e-9)


def test_a_trial_without_noise_leaves_no_guarantee() -> None:
    open_trial = written(dp_accounting.NonPrivateDpEvent())
    both: list[FixedTrials | RandomTrials] = [FixedTrials(count=2), RandomTrials(mean=5, shape=1)]
    for trials in both:
        assert math.isinf(spent([written(FLAT), open_trial], trials).epsilon)
        assert math.isinf(spent([written(FLAT), written(FLAT)], trials, delta=None).epsilon)


def test_each_trial_of_a_grid_needs_its_cost() -> None:
    with pytest.raises(InputError, match="count=3 trials have 2 costs"):
        spent([written(FLAT)] * 2, FixedTrials(count=3))


def test_a_plan_costs_all_of_its_rounds() -> None:
    event = SelfComposed(Gaussian(3.0), search_example.ROUNDS)
    assert planned_events(search_example.plan(3.0)) == written(event)


def test_relations_are_found_by_the_name_that_records_write() -> None:
    assert relation_named("zero_out") is dp_accounting.NeighboringRelation.REPLACE_SPECIAL
    with pytest.raises(InputError, match="relation='odd' is unknown"):
        relation_named("odd")
