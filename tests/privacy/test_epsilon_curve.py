"""The curve says at each delta what the claim says, and is quick."""

import math

import dp_accounting
import pytest

from fl_research.errors import InputError
from fl_research.privacy.accountants import claimed_epsilon, epsilon_by_accountant
from fl_research.privacy.epsilon_curve import DEFAULT_DELTAS, epsilon_curve
from tests.privacy.accounting_cases import (
    ADD_OR_REMOVE,
    REPLACE,
    ZERO_OUT,
    Gaussian,
    exact_gaussian_epsilon,
)

Laplace = dp_accounting.LaplaceDpEvent
Poisson = dp_accounting.PoissonSampledDpEvent
FixedSize = dp_accounting.SampledWithoutReplacementDpEvent
SelfComposed = dp_accounting.SelfComposedDpEvent
Composed = dp_accounting.ComposedDpEvent


def test_the_deltas_are_spread_evenly_over_the_powers_of_ten() -> None:
    assert len(DEFAULT_DELTAS) == 17 and DEFAULT_DELTAS[::2] == tuple(
        float(f"1e-{x}") for x in range(10, 1, -1)
    )


@pytest.mark.parametrize(
    ("event", "relation"),
    [
        (SelfComposed(Poisson(0.02, Gaussian(1.0)), 500), ADD_OR_REMOVE),
        (SelfComposed(Poisson(0.02, Gaussian(0.4)), 2000), ZERO_OUT),
        (SelfComposed(Poisson(0.1, Laplace(2.0)), 100), ADD_OR_REMOVE),
        (Composed([SelfComposed(Laplace(5.0), 10), Gaussian(3.0)]), ADD_OR_REMOVE),
        (SelfComposed(FixedSize(1000, 50, Gaussian(2.0)), 100), REPLACE),
    ],
)
def test_each_point_is_the_claim(
    event: dp_accounting.DpEvent, relation: dp_accounting.NeighboringRelation
) -> None:
    for delta, epsilon in epsilon_curve(event, relation, DEFAULT_DELTAS[::8]):
        exact = claimed_epsilon(epsilon_by_accountant(event, delta, relation)).epsilon
        assert epsilon is not None
        assert exact * (1 - 1e-6) <= epsilon <= exact * (1 + 2e-3) + 3e-4


def test_the_curve_of_a_gaussian_is_exact_and_falls() -> None:
    curve = epsilon_curve(Gaussian(2.0), ADD_OR_REMOVE)
    epsilons = [epsilon for _, epsilon in curve if epsilon is not None]
    assert len(epsilons) == 17 and epsilons == sorted(epsilons, reverse=True)
    for delta, epsilon in curve:
        exact = exact_gaussian_epsilon(2.0, 1, delta)
        assert epsilon is not None and exact * (1 - 1e-7) <= epsilon <= exact + 5e-4


def test_above_an_epsilon_of_500_some_deltas_have_a_closed_form() -> None:
    """The bound that decides lies above 500 at the small deltas and below at the large ones."""
    noise = 0.0351
    curve = epsilon_curve(Gaussian(noise), ADD_OR_REMOVE)
    for delta, epsilon in curve:
        exact = exact_gaussian_epsilon(noise, 1, delta)
        assert epsilon is not None and exact * (1 - 1e-6) <= epsilon <= exact * (1 + 1e-3)
    epsilons = [epsilon for _, epsilon in curve if epsilon is not None]
    assert max(epsilons) > 520 and min(epsilons) < 480


def test_points_without_a_bound_are_none() -> None:
    leaking = Composed([Gaussian(1.0), dp_accounting.NonPrivateDpEvent()])
    assert epsilon_curve(leaking, ADD_OR_REMOVE, [1e-5, 1e-3]) == [(1e-5, None), (1e-3, None)]
    assert epsilon_curve(FixedSize(9, 3, Gaussian(1.0)), ADD_OR_REMOVE, [0.1]) == [(0.1, None)]
    assert epsilon_curve(dp_accounting.NoOpDpEvent(), ADD_OR_REMOVE, [0.1]) == [(0.1, 0.0)]


@pytest.mark.parametrize("deltas", [[], [0.0], [1e-5, 1.0], [math.nan]])
def test_impossible_deltas_are_refused(deltas: list[float]) -> None:
    with pytest.raises(InputError, match="delta"):
        epsilon_curve(Gaussian(1.0), ADD_OR_REMOVE, deltas)
