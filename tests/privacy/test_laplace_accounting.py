"""Laplace noise: every epsilon against closed forms, enumeration and integration."""

import itertools
import math

import dp_accounting
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from fl_research.errors import InputError
from fl_research.privacy import accounting, pure_dp
from fl_research.privacy.accountants import epsilon_by_accountant, rdp_epsilon, rough_epsilon
from fl_research.privacy.parts import releases_in
from tests.privacy.accounting_cases import (
    ADD_OR_REMOVE,
    DELTA,
    REPLACE,
    ZERO_OUT,
    Gaussian,
    smallest_epsilon,
)

Laplace = dp_accounting.LaplaceDpEvent
Poisson = dp_accounting.PoissonSampledDpEvent
FixedSize = dp_accounting.SampledWithoutReplacementDpEvent
Composed = dp_accounting.ComposedDpEvent
SelfComposed = dp_accounting.SelfComposedDpEvent


def one_delta(pure: float, epsilon: float) -> float:
    """The exact delta of one Laplace release at any epsilon, also below zero."""
    if epsilon > pure:
        return 0.0
    return -math.expm1((epsilon - pure) / 2 if epsilon >= -pure else epsilon)


def two_deltas(pure: float, epsilon: float) -> float:
    """The same of two: a loss is `pure` or `-pure`, or spread between with weight e^(loss / 2)."""
    ends = one_delta(pure, epsilon - pure) + math.exp(-pure) * one_delta(pure, epsilon + pure)
    between, _ = integrate.quad(
        lambda loss: math.exp((loss - pure) / 2) * one_delta(pure, epsilon - loss),
        -pure,
        pure,
        points=sorted({min(max(epsilon + shift, -pure), pure) for shift in (-pure, pure)}),
        epsabs=1e-14,
        limit=200,
    )
    return ends / 2 + between / 4


@pytest.mark.parametrize("scale", [0.05, 0.5, 2.0, 30.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-8])
def test_one_and_two_releases_have_their_exact_epsilon(scale: float, delta: float) -> None:
    for count, exact_delta in ((1, one_delta), (2, two_deltas)):
        exact = smallest_epsilon(lambda x, of=exact_delta: of(1 / scale, x), delta)
        ours = epsilon_by_accountant(SelfComposed(Laplace(scale), count), delta, ADD_OR_REMOVE)
        pld = ours["pld"]
        assert pld is not None and exact * (1 - 1e-7) <= pld <= exact * (1 + 1e-4) + 1e-4 * count
        for name in ("rdp", "rdp_classic", "advanced", "basic"):
            value = ours[name]
            assert value is not None and exact * (1 - 1e-9) <= value <= count / scale + 20
        assert ours["basic"] == pytest.approx(count / scale, rel=1e-15)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.7])
@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_one_poisson_sampled_release_has_its_exact_epsilon(rate: float, scale: float) -> None:
    """The worse of removing and adding a unit, each by the delta without sampling."""

    def removed(epsilon: float) -> float:
        return rate * one_delta(1 / scale, math.log1p(math.expm1(epsilon) / rate))

    def added(epsilon: float) -> float:
        weight = 1 - math.exp(epsilon) * (1 - rate)
        if weight <= 0:
            return 0.0
        return weight * one_delta(1 / scale, math.log(rate / weight) + epsilon)

    exact = max(smallest_epsilon(removed, DELTA), smallest_epsilon(added, DELTA))
    ours = epsilon_by_accountant(Poisson(rate, Laplace(scale)), DELTA, ADD_OR_REMOVE)
    assert ours["pld"] is not None and ours["rdp"] is not None and ours["basic"] is not None
    assert exact * (1 - 1e-7) <= ours["pld"] <= exact + 1e-4
    assert min(ours["rdp"], ours["basic"]) >= exact
    assert ours["basic"] == pytest.approx(math.log1p(rate * math.expm1(1 / scale)), rel=1e-12)


def randomised_response_epsilon(epsilons: list[float], delta: float) -> float:
    """The exact epsilon of truthful answers with odds e^epsilon, over all their combinations."""
    pairs = [
        (math.prod(p), math.prod(q))
        for p, q in (
            zip(*combination, strict=True)
            for combination in itertools.product(
                *[
                    (
                        (1 / (1 + math.exp(-e)), 1 / (1 + math.exp(e))),
                        (1 / (1 + math.exp(e)), 1 / (1 + math.exp(-e))),
                    )
                    for e in epsilons
                ]
            )
        )
    ]
    return smallest_epsilon(
        lambda x: math.fsum(max(p - math.exp(x) * q, 0.0) for p, q in pairs), delta
    )


@pytest.mark.parametrize("delta", [0.2, 1e-2, 1e-6])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
@pytest.mark.parametrize("pure", [0.05, 0.5, 2.0])
def test_advanced_composition_of_equal_releases_is_randomised_response(
    pure: float, count: int, delta: float
) -> None:
    parts = releases_in(SelfComposed(Laplace(1 / pure), count))
    exact = randomised_response_epsilon([pure] * count, delta)
    ours = pure_dp.advanced_epsilon(parts, delta, ADD_OR_REMOVE)
    assert ours is not None and exact - 1e-9 <= ours <= exact + 1e-7


def test_advanced_composition_at_the_deltas_of_theorem_3_3() -> None:
    """Kairouz, Oh, Viswanath 2015: epsilon (k - 2i) at a delta that is a sum of binomials."""
    pure, count = 0.1, 30
    for i in (1, 5, 10):
        delta = (
            math.fsum(
                math.comb(count, j)
                * (math.exp((count - j) * pure) - math.exp((count - 2 * i + j) * pure))
                for j in range(i)
            )
            / (1 + math.exp(pure)) ** count
        )
        parts = releases_in(SelfComposed(Laplace(1 / pure), count))
        ours = pure_dp.advanced_epsilon(parts, delta, ADD_OR_REMOVE)
        assert ours == pytest.approx((count - 2 * i) * pure, rel=1e-6)


def test_advanced_composition_of_different_releases_is_a_bound() -> None:
    epsilons = [0.1, 0.1, 0.3, 0.2, 0.05, 0.3, 0.2]
    parts = releases_in(Composed([Laplace(1 / pure) for pure in epsilons]))
    for delta in (0.1, 1e-3, 1e-6):
        ours = pure_dp.advanced_epsilon(parts, delta, ADD_OR_REMOVE)
        assert ours is not None
        assert randomised_response_epsilon(epsilons, delta) <= ours <= sum(epsilons) + 1e-12
    many = releases_in(Composed([SelfComposed(Laplace(z), 5000) for z in (100.0, 200.0)]))
    ours = pure_dp.advanced_epsilon(many, 1e-6, ADD_OR_REMOVE)
    squares, mean = (
        5000 * (1e-4 + 0.25e-4),
        5000 * (0.01 * math.tanh(0.005) + 0.005 * math.tanh(0.0025)),
    )
    assert ours == pytest.approx(mean + math.sqrt(2 * squares * math.log(1e6)), rel=1e-9)
    assert ours is not None and ours < 0.2 * (50 + 25)


@settings(max_examples=15, deadline=None)
@given(
    scale=st.floats(0.5, 50),
    count=st.integers(1, 300),
    rate=st.sampled_from([0.01, 0.3, 1.0]),
    log10_delta=st.floats(-9, -2),
)
def test_loss_distributions_are_within_advanced_within_basic(
    scale: float, count: int, rate: float, log10_delta: float
) -> None:
    event = SelfComposed(Laplace(scale) if rate == 1 else Poisson(rate, Laplace(scale)), count)
    ours = epsilon_by_accountant(event, 10**log10_delta, ADD_OR_REMOVE)
    assert ours["advanced"] is not None and ours["basic"] is not None
    assert ours["advanced"] <= ours["basic"] * (1 + 1e-12)
    if ours["pld"] is not None:
        assert ours["pld"] <= ours["advanced"] * (1 + 1e-3) + 1e-4
    rough = rough_epsilon(event, 10**log10_delta, ADD_OR_REMOVE)
    assert rough >= accounting.claimed_epsilon(ours).epsilon * (1 - 1e-9)


def test_composed_sampled_laplace_agrees_with_simulated_privacy_losses() -> None:
    """delta = E[max(0, 1 - e^(epsilon - loss))] over the outputs with the unit, 400,000 draws.

    Five standard errors either way: a false alarm once in 1.7 million runs; the seed is fixed.
    """
    rate, scale, count, delta = 0.2, 1.0, 20, 0.01
    event = SelfComposed(Poisson(rate, Laplace(scale)), count)
    epsilon = epsilon_by_accountant(event, delta, ADD_OR_REMOVE)["pld"]
    assert epsilon is not None
    generator = np.random.default_rng(21)
    loss = np.zeros(400_000)
    for _ in range(count):
        x = generator.laplace(0, scale, loss.size) + (generator.uniform(size=loss.size) < rate)
        loss += np.log1p(rate * np.expm1((np.abs(x) - np.abs(x - 1)) / scale))
    excess = np.maximum(0, -np.expm1(epsilon - loss))
    error = excess.std() / math.sqrt(excess.size)
    assert abs(excess.mean() - delta) < 5 * error < delta / 10


def test_renyi_divergences_are_the_librarys_and_not_below_the_integral() -> None:
    event = SelfComposed(Laplace(3.0), 12)
    theirs = dp_accounting.rdp.RdpAccountant().compose(event).get_epsilon(DELTA)
    assert rdp_epsilon(event, DELTA, ADD_OR_REMOVE) == pytest.approx(theirs, rel=1e-12)
    x = np.linspace(-40.0, 41.0, 400_001)
    without, there = np.exp(-np.abs(x)) / 2, np.exp(-np.abs(x - 1)) / 2
    for rate, order in itertools.product((0.05, 0.5), (1.5, 4, 32)):
        mixed = (1 - rate) * without + rate * there
        exact = max(
            math.log((p * (p / q) ** (order - 1)).sum() * (x[1] - x[0])) / (order - 1)
            for p, q in ((mixed, without), (without, mixed))
        )
        epsilon = rdp_epsilon(
            Poisson(rate, Laplace(1.0)), DELTA, ADD_OR_REMOVE, orders=[order], classic=True
        )
        assert epsilon is not None
        assert exact < epsilon - math.log(1 / DELTA) / (order - 1) < 4 * exact


def test_a_gaussian_beside_it_leaves_loss_distributions_and_renyi() -> None:
    """Against the library's own composition."""
    event = Composed([SelfComposed(Poisson(0.1, Laplace(2.0)), 30), SelfComposed(Gaussian(8.0), 9)])
    ours = epsilon_by_accountant(event, DELTA, ADD_OR_REMOVE)
    theirs = dp_accounting.pld.PLDAccountant().compose(event).get_epsilon(DELTA)
    assert ours["pld"] == pytest.approx(theirs, rel=1e-6)
    assert ours["basic"] is None and ours["advanced"] is None
    assert ours["rdp"] is not None and ours["rdp"] > theirs


def test_the_claim_can_be_a_sum_and_says_so() -> None:
    """At a delta that rounding errors of the convolution would hide, and an epsilon above 500."""
    event = SelfComposed(Laplace(0.02), 12)
    ours = epsilon_by_accountant(event, 1e-15, ADD_OR_REMOVE)
    claim = accounting.claimed_epsilon(ours)
    assert ours["pld"] is None and ours["basic"] == pytest.approx(600)
    assert claim.accountant == "advanced" and 590 < claim.epsilon <= 600
    assert "3 upper bounds that all hold" in claim.reason
    assert accounting.claimed_epsilon({"basic": 2.0, "advanced": 2.5}).accountant == "basic"


def test_fixed_size_samples_are_accounted_by_pure_epsilon() -> None:
    """Balle, Barthe, Gaboardi 2018, theorem 9, checked on the pair of one replaced client."""
    ours = epsilon_by_accountant(FixedSize(100, 10, Laplace(0.5)), DELTA, REPLACE)
    assert ours["basic"] == pytest.approx(math.log1p(0.1 * math.expm1(2)), rel=1e-12)
    assert ours["pld"] is None and ours["rdp"] is not None
    x = np.linspace(-20, 20, 4001)
    apart = [0.9 * np.exp(-np.abs(x)) + 0.1 * np.exp(-np.abs(x - shift)) for shift in (1.0, -1.0)]
    real = float(np.max(np.log(apart[0] / apart[1])))
    assert ours["basic"] is not None and 0.1 < real <= ours["basic"]
    for wrong in (FixedSize(100, 10, Laplace(0.5)), Poisson(0.1, Laplace(0.5))):
        relation = ADD_OR_REMOVE if isinstance(wrong, FixedSize) else REPLACE
        assert set(epsilon_by_accountant(wrong, DELTA, relation).values()) == {None}


@pytest.mark.parametrize(
    "event",
    [
        SelfComposed(Poisson(0.02, Gaussian(1.1)), 200),
        SelfComposed(Poisson(0.02, Laplace(1.1)), 200),
        Composed([Gaussian(2.0), Laplace(3.0)]),
    ],
)
def test_zeroing_out_is_adding_or_removing(event: dp_accounting.DpEvent) -> None:
    ours = epsilon_by_accountant(event, DELTA, ZERO_OUT)
    assert ours == epsilon_by_accountant(event, DELTA, ADD_OR_REMOVE)
    assert ours["pld"] is not None and ours["rdp"] is not None


def test_fixed_size_samples_are_not_accounted_when_zeroing_out() -> None:
    ours = epsilon_by_accountant(FixedSize(100, 10, Gaussian(1.0)), DELTA, ZERO_OUT)
    assert set(ours.values()) == {None}
    with pytest.raises(InputError, match="no accountant applies"):
        accounting.claimed_epsilon(ours)


def test_several_releases_of_one_sample_are_one_of_a_longer_vector() -> None:
    together = releases_in(Poisson(0.1, Composed([Laplace(2.0), SelfComposed(Laplace(4.0), 2)])))
    assert together == ((Poisson(0.1, Laplace(1.0)), 1),)
    apart = releases_in(SelfComposed(Composed([Laplace(2.0), Laplace(4.0)]), 3))
    assert apart == ((Laplace(2.0), 3), (Laplace(4.0), 3))
    assert releases_in(Poisson(0.0, Laplace(2.0))) == ()
    assert releases_in(Poisson(0.1, Laplace(0.0)))[0][0] == dp_accounting.NonPrivateDpEvent()
    with pytest.raises(InputError, match="cannot be accounted"):
        releases_in(Poisson(0.1, Composed([Laplace(2.0), Gaussian(2.0)])))


@pytest.mark.parametrize("epsilon", [0.0, 0.2, 0.7, 1.1, 1.4])
def test_one_longer_vector_is_easier_to_tell_apart_than_two_releases(epsilon: float) -> None:
    """Why they may become one: its exact delta is not below that of the two."""
    assert two_deltas(0.75, epsilon) <= one_delta(1.5, epsilon)


def test_zcdp_of_laplace_noise_is_that_of_its_pure_epsilon() -> None:
    """rho = epsilon^2 / 2 (Bun and Steinke 2016, proposition 1.4)."""
    event = Composed([SelfComposed(Poisson(0.1, Laplace(4.0)), 8), Gaussian(2.0)])
    assert accounting.zcdp_rho(event) == pytest.approx(8 / 32 + 1 / 8, rel=1e-14)


@pytest.mark.parametrize("scale", [1e-4, 1.001e-3, 0.01, 1e3, 1e9])
@pytest.mark.parametrize("rate", [1e-6, 0.9, 1.0])
def test_extreme_noise_gets_an_answer_at_once(scale: float, rate: float) -> None:
    for count in (1, 5000):
        event = SelfComposed(Poisson(rate, Laplace(scale)), count)
        costs = epsilon_by_accountant(event, DELTA, ADD_OR_REMOVE)
        for name in ("rdp", "basic", "advanced"):
            value = costs[name]
            assert value is not None and value >= 0 and (scale < 1e-3) == math.isinf(value)
