"""Every epsilon against something that neither we nor the accounting library computed."""

import math

import dp_accounting
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special, stats

from fl_research.data.client_sampling import (
    ClientSampling,
)
from fl_research.errors import InputError
from fl_research.privacy import accountants, accounting, parts
from fl_research.privacy.releases import Release
from tests.privacy.accounting_cases import (
    ADD_OR_REMOVE,
    DELTA,
    FULL,
    REPLACE,
    claimed,
    epsilons,
    exact_gaussian_delta,
    exact_gaussian_epsilon,
    fixed_size,
    poisson,
    smallest_epsilon,
)

Gaussian = dp_accounting.GaussianDpEvent


@settings(max_examples=40, deadline=None)
@example(noise=0.3, releases=300, log_delta=-5.0)  # Above an epsilon of 500: the closed form.
@example(noise=0.003, releases=300, log_delta=-28.0)
@given(noise=st.floats(0.3, 50), releases=st.integers(1, 300), log_delta=st.floats(-28, -5))
def test_gaussians_without_sampling_have_their_exact_epsilon(
    noise: float, releases: int, log_delta: float
) -> None:
    delta = math.exp(log_delta)
    exact = exact_gaussian_epsilon(noise, releases, delta)
    ours = epsilons(FULL, noise, releases, delta)
    assert ours["pld"] is not None and ours["rdp"] is not None and ours["rdp_classic"] is not None
    assert exact * (1 - 1e-7) <= ours["pld"] <= exact * (1 + 1e-4) + 1e-4
    assert exact * (1 - 1e-7) <= ours["rdp"] <= ours["rdp_classic"]


def exact_poisson_epsilon(rate: float, noise: float, delta: float) -> float:
    """One release, by the areas of normal densities; the worse of adding and removing."""
    tail, below = stats.norm.sf, stats.norm.cdf

    def removed(epsilon: float) -> float:
        cut = noise**2 * math.log((math.exp(epsilon) - (1 - rate)) / rate) + 0.5
        there = (1 - rate) * tail(cut / noise) + rate * tail((cut - 1) / noise)
        return there - math.exp(epsilon) * tail(cut / noise)

    def added(epsilon: float) -> float:
        rest = math.exp(-epsilon) - (1 - rate)
        if rest <= 0:
            return 0.0
        cut = noise**2 * math.log(rest / rate) + 0.5
        there = (1 - rate) * below(cut / noise) + rate * below((cut - 1) / noise)
        return below(cut / noise) - math.exp(epsilon) * there

    return max(smallest_epsilon(removed, delta), smallest_epsilon(added, delta))


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.7])
@pytest.mark.parametrize("noise", [0.6, 1.0, 4.0])
def test_one_poisson_sampled_release_has_its_exact_epsilon(rate: float, noise: float) -> None:
    exact = exact_poisson_epsilon(rate, noise, DELTA)
    ours = epsilons(poisson(rate), noise)
    assert ours["pld"] is not None and ours["rdp"] is not None
    assert exact * (1 - 1e-7) <= ours["pld"] <= exact + 1e-4
    assert ours["rdp"] >= exact


def test_composed_poisson_sampling_agrees_with_simulated_privacy_losses() -> None:
    """delta = E[max(0, 1 - e^(epsilon - loss))] over the outputs with the unit, 400,000 draws.

    Five standard errors either way: a false alarm once in 1.7 million runs; the seed is fixed.
    """
    rate, noise, releases, delta = 0.1, 1.0, 20, 0.01
    epsilon = epsilons(poisson(rate), noise, releases, delta)["pld"]
    assert epsilon is not None
    generator = np.random.default_rng(20)
    loss = np.zeros(400_000)
    for _ in range(releases):
        there = generator.uniform(size=loss.size) < rate
        x = noise * generator.standard_normal(loss.size) + there
        loss += np.log1p(rate * np.expm1((2 * x - 1) / (2 * noise**2)))
    excess = np.maximum(0, -np.expm1(epsilon - loss))
    error = excess.std() / math.sqrt(excess.size)
    assert abs(excess.mean() - delta) < 5 * error < delta / 10


def integrated_divergence(rate: float, noise: float, order: float) -> float:
    """Rényi divergence of one Poisson-sampled release, the worse direction, on a fine grid."""
    x = np.linspace(-45 * noise, order + 45 * noise, 400_001)
    without = stats.norm.logpdf(x, scale=noise)
    there = without + np.log1p(rate * np.expm1((2 * x - 1) / (2 * noise**2)))
    step = math.log(x[1] - x[0])
    return max(
        (special.logsumexp(order * p + (1 - order) * q) + step) / (order - 1)
        for p, q in ((there, without), (without, there))
    )


@pytest.mark.parametrize("order", [2, 3, 8, 32, 2.5])
@pytest.mark.parametrize(("rate", "noise"), [(0.01, 1.1), (0.1, 0.8), (0.5, 3.0)])
def test_rdp_is_the_integral(rate: float, noise: float, order: float) -> None:
    releases = 7
    event = accounting.repeated_event(Gaussian(noise), releases, poisson(rate))
    epsilon = accountants.rdp_epsilon(event, DELTA, ADD_OR_REMOVE, orders=[order], classic=True)
    assert epsilon is not None
    divergence = (epsilon - math.log(1 / DELTA) / (order - 1)) / releases
    assert divergence == pytest.approx(integrated_divergence(rate, noise, order), rel=1e-7)


@pytest.mark.parametrize("log10_delta", [-9, -10, -11, -12, -13])
def test_rounding_of_the_fourier_transform_never_lowers_epsilon(log10_delta: int) -> None:
    """At a rate of all but 1, composition is by Fourier transform and the exact answer is known.

    The library's own number is up to 0.2 % too low here.
    """
    delta = 10.0**log10_delta
    pld = epsilons(poisson(1 - 1e-12), 30.0, 1000, delta)["pld"]
    exact = exact_gaussian_epsilon(30.0, 1000, delta)
    assert pld is None or exact * (1 - 1e-7) <= pld < 1.02 * exact
    assert (pld is None) == (log10_delta < -12)
    assert claimed(poisson(1 - 1e-12), 30.0, 1000, delta) >= exact


@pytest.mark.parametrize("noise", [20.0, 100.0, 1e4])
def test_divergences_below_rounding_never_give_less_than_the_exact_epsilon(noise: float) -> None:
    """Rates of 1e-6, where the library's divergences come out zero or negative."""
    delta = 1e-15
    rdp = epsilons(poisson(1e-6), noise, 1, delta)["rdp"]
    assert rdp is not None and rdp >= exact_poisson_epsilon(1e-6, noise, delta)


def test_fixed_size_divergence_of_order_two_by_hand() -> None:
    """Wang, Balle, Kasiviswanathan 2019, theorem 9, with a sensitivity of two clip norms."""
    noise, cohort = 3.0, 500
    event = accounting.repeated_event(Gaussian(noise), 1, fixed_size(cohort))
    epsilon = accountants.rdp_epsilon(event, DELTA, REPLACE, orders=[2], classic=True)
    assert epsilon is not None
    unsampled = 2 * 2**2 / (2 * noise**2)
    growth = min(4 * math.expm1(unsampled), 2 * math.exp(unsampled))
    expected = math.log1p((cohort / 10_000) ** 2 * growth)
    assert epsilon - math.log(1 / DELTA) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("cohort", [100, 1000, 5000, 10_000])
def test_fixed_size_epsilon_lies_between_a_real_pair_and_no_sampling(cohort: int) -> None:
    """The pair: every client sends zero, but one that sends +clip or, replaced, -clip."""
    noise, rate = 2.0, cohort / 10_000
    x = np.linspace(-30 * noise, 30 * noise, 200_001)
    apart = [
        (1 - rate) * stats.norm.pdf(x, 0, noise) + rate * stats.norm.pdf(x, shift, noise)
        for shift in (1.0, -1.0)
    ]

    def exact_delta(epsilon: float) -> float:
        excess = np.maximum(apart[0] - math.exp(epsilon) * apart[1], 0)
        return float(excess.sum() * (x[1] - x[0]))

    ours = epsilons(fixed_size(cohort), noise)
    assert ours["pld"] is None and ours["rdp"] is not None
    unsampled = epsilons(FULL, noise / 2)["rdp"]
    assert unsampled is not None
    assert smallest_epsilon(exact_delta, DELTA) <= ours["rdp"] <= unsampled * (1 + 1e-9)


@pytest.mark.parametrize(
    ("sampling", "relation", "sensitivity"),
    [
        (poisson(0.1), ADD_OR_REMOVE, 1.0),
        (FULL, ADD_OR_REMOVE, 1.0),
        (fixed_size(10), REPLACE, 2.0),
    ],
)
def test_the_relation_follows_from_the_sampler(
    sampling: ClientSampling, relation: dp_accounting.NeighboringRelation, sensitivity: float
) -> None:
    assert accounting.relation_for(sampling) == (relation, sensitivity)


def test_several_gaussians_in_a_release_cost_what_their_sum_costs() -> None:
    """Against the library's own collapsing, which only its RDP accountant has."""
    parts = dp_accounting.ComposedDpEvent([Gaussian(1.25), Gaussian(5.0)])
    event = accounting.repeated_event(parts, 50, poisson(0.02))
    ours = accounting.epsilon_by_accountant(event, DELTA, ADD_OR_REMOVE)
    theirs = dp_accounting.rdp.RdpAccountant().compose(
        dp_accounting.SelfComposedDpEvent(dp_accounting.PoissonSampledDpEvent(0.02, parts), 50)
    )
    assert ours["rdp"] == pytest.approx(theirs.get_epsilon(DELTA), rel=1e-9)
    assert ours["pld"] is not None and 0 < ours["pld"] < ours["rdp"]


def releases(*multipliers: float) -> list[Release]:
    return [Release(number, Gaussian(noise)) for number, noise in enumerate(multipliers, 1)]


def test_float32_jitter_is_one_group_at_the_least_noise() -> None:
    jittered = [1.0 + jitter for jitter in (3e-7, 0.0, -4e-7, 1e-7)]
    event = accounting.compose(releases(*jittered), poisson(0.1))
    assert parts.releases_in(event) == (
        (dp_accounting.PoissonSampledDpEvent(0.1, Gaussian(1 - 4e-7)), 4),
    )
    apart = accounting.compose(releases(2.0, 1.0, 2.0, 1.00001), FULL)
    assert parts.releases_in(apart) == (
        (Gaussian(1.0), 1),
        (Gaussian(1.00001), 1),
        (Gaussian(2.0), 2),
    )


def test_different_noise_composes_in_any_order() -> None:
    """Unsampled, against the closed form: precisions add up."""
    for noise in ((1.0, 2.0, 3.0), (3.0, 1.0, 2.0)):
        event = accounting.compose(releases(*noise), FULL)
        effective = sum(value**-2 for value in noise) ** -0.5
        pld = accounting.epsilon_by_accountant(event, DELTA, ADD_OR_REMOVE)["pld"]
        assert pld == pytest.approx(exact_gaussian_epsilon(effective, 1, DELTA), rel=1e-4)


def test_nothing_released_costs_nothing() -> None:
    event = accounting.compose([], poisson(0.1))
    costs = accounting.epsilon_by_accountant(event, DELTA, ADD_OR_REMOVE)
    assert set(costs.values()) == {0.0} and set(costs) == set(accountants.ACCOUNTANT_DESCRIPTIONS)


@pytest.mark.parametrize("sampling", [poisson(0.1), FULL, fixed_size(10)])
@pytest.mark.parametrize("event", [Gaussian(0.0), dp_accounting.NonPrivateDpEvent()])
def test_one_release_without_noise_ends_the_guarantee(
    sampling: ClientSampling, event: dp_accounting.DpEvent
) -> None:
    composed = accounting.compose([*releases(1.0, 1.0), Release(3, event)], sampling)
    relation, _ = accounting.relation_for(sampling)
    costs = accounting.epsilon_by_accountant(composed, DELTA, relation)
    assert costs["rdp"] == costs["rdp_classic"] == math.inf
    claim = accounting.claimed_epsilon(costs)
    assert claim.epsilon == math.inf and claim.accountant is None
    assert accounting.epsilon_without_amplification(composed, DELTA, relation) == math.inf


def test_the_claim_is_the_smallest_bound_that_holds() -> None:
    claim = accounting.claimed_epsilon({"pld": 2.0, "rdp": 3.0, "rdp_classic": 1.0})
    assert (claim.epsilon, claim.accountant) == (2.0, "pld") and "rdp 3" in claim.reason
    claim = accounting.claimed_epsilon({"pld": None, "rdp": 3.0, "rdp_classic": 4.0})
    assert (claim.epsilon, claim.accountant) == (3.0, "rdp") and "only" in claim.reason
    with pytest.raises(InputError):
        accounting.claimed_epsilon({"pld": None, "rdp": None})


def test_without_amplification_is_the_gaussian_with_the_same_sensitivity() -> None:
    event = accounting.repeated_event(Gaussian(10.0), 100, poisson(0.01))
    unsampled = accounting.epsilon_without_amplification(event, DELTA, ADD_OR_REMOVE)
    assert unsampled == pytest.approx(exact_gaussian_epsilon(10.0, 100, DELTA), rel=1e-6)
    event = accounting.repeated_event(Gaussian(10.0), 100, fixed_size(100))
    unsampled = accounting.epsilon_without_amplification(event, DELTA, REPLACE)
    assert unsampled == epsilons(FULL, 5.0, 100)["rdp"]


@settings(max_examples=6, deadline=None)
@given(
    name=st.sampled_from(["poisson", "full", "fixed_size"]),
    noise=st.floats(1.0, 30.0),
    count=st.integers(1, 2000),
    more=st.floats(1.01, 3.0),
)
def test_epsilon_rises_with_releases_and_falls_with_noise_and_delta(
    name: str, noise: float, count: int, more: float
) -> None:
    sampling = {"poisson": poisson(0.02), "full": FULL, "fixed_size": fixed_size(50)}[name]
    base = claimed(sampling, noise, count)
    slack = 1e-9 + 1e-5 * base  # Of the discretisation.
    assert base <= claimed(sampling, noise, math.ceil(count * more)) + slack
    assert base + slack >= claimed(sampling, noise * more, count)
    assert base + slack >= claimed(sampling, noise, count, DELTA * more)
    if name == "poisson":
        assert base <= claimed(poisson(0.02 * more), noise, count) + slack


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, 2.0, math.nan])
def test_impossible_deltas_are_refused(delta: float) -> None:
    with pytest.raises(InputError, match="delta="):
        claimed(FULL, 1.0, delta=delta)


@pytest.mark.parametrize("noise", [-0.1, math.nan])
def test_impossible_noise_is_refused(noise: float) -> None:
    with pytest.raises(InputError, match="noise_multiplier="):
        claimed(poisson(0.1), noise)


@pytest.mark.parametrize("noise", [1e-4, 0.003, 0.05, 1e3, 1e9])
@pytest.mark.parametrize("sampling", [poisson(1e-6), poisson(0.9), FULL, fixed_size(10)])
def test_extreme_noise_gets_an_answer_at_once(sampling: ClientSampling, noise: float) -> None:
    costs = epsilons(sampling, noise, 5000)
    assert costs["rdp"] is not None and costs["rdp"] >= 0 and not math.isnan(costs["rdp"])
    assert (noise < 1e-3) == math.isinf(costs["rdp"])


@settings(deadline=None)
@given(mu=st.floats(0.05, 5), epsilon=st.floats(0, 8), rate=st.floats(0, 1))
def test_no_gaussian_test_beats_the_best_true_positive_rate(
    mu: float, epsilon: float, rate: float
) -> None:
    """The best test of a Gaussian, by Neyman and Pearson, under each of its (epsilon, delta)."""
    delta = exact_gaussian_delta(mu, epsilon)
    power = stats.norm.cdf(stats.norm.ppf(rate) + mu)
    assert power <= accounting.best_true_positive_rate(epsilon, delta, rate) + 1e-12


def test_the_best_true_positive_rate_is_reached_by_randomised_response() -> None:
    rate = accounting.best_true_positive_rate(math.log(3), 0.0, 0.25)
    assert rate == pytest.approx(0.75)
    assert accounting.best_true_positive_rate(0.0, 0.0, 0.01) == pytest.approx(0.01)
    assert accounting.best_true_positive_rate(math.inf, 0.0, 0.01) == 1.0
    assert accounting.max_odds_factor(2.0) == pytest.approx(math.e**2)
    assert accounting.max_odds_factor(1e4) == math.inf
    with pytest.raises(InputError, match="false_positive_rate=2"):
        accounting.best_true_positive_rate(1.0, 0.0, 2)


def test_zcdp_bounds_the_exact_epsilon_and_is_not_amplified() -> None:
    """rho + 2 sqrt(rho log(1/delta)) bounds epsilon (Bun and Steinke 2016)."""
    event = accounting.compose(releases(*[10.0] * 100, 5.0), FULL)
    rho = accounting.zcdp_rho(event)
    assert rho == pytest.approx(100 / 200 + 1 / 50)
    exact = exact_gaussian_epsilon((100 / 100 + 1 / 25) ** -0.5, 1, DELTA)
    assert exact < rho + 2 * math.sqrt(rho * math.log(1 / DELTA)) < 1.3 * exact
    assert accounting.zcdp_rho(accounting.compose(releases(1.0), poisson(0.1))) == 0.5
    assert accounting.zcdp_rho(accounting.compose(releases(1.0), fixed_size(10))) == 2.0
    assert accounting.zcdp_rho(accounting.compose(releases(0.0), FULL)) == math.inf


@pytest.mark.parametrize("delta", [1 / 3000, 0.5])
def test_a_delta_of_one_over_the_clients_is_warned_of(delta: float) -> None:
    warning = accounting.large_delta_warning(delta, 3000)
    assert warning is not None and f"delta={delta:g} is not below 1 / 3,000" in warning
    assert accounting.large_delta_warning(1 / 3001, 3000) is None


def test_every_accountant_is_described() -> None:
    assert set(accountants.ACCOUNTANT_DESCRIPTIONS) == set(epsilons(FULL, 1.0))
    libraries = [
        name for name, text in accountants.ACCOUNTANT_DESCRIPTIONS.items() if "dp-acc" in text
    ]
    assert libraries == ["pld", "rdp", "rdp_classic"]


def test_mu_of_gaussian_dp_is_the_exact_trade_off() -> None:
    """Its delta, by Dong, Roth and Su 2022, corollary 2.13, is the one that PLD finds."""
    event = accounting.compose(releases(2.0, 3.0, 6.0), FULL)
    mu = accounting.mu_gdp(event)
    assert mu == pytest.approx(math.sqrt(1 / 4 + 1 / 9 + 1 / 36), rel=1e-14)
    epsilon = accounting.epsilon_by_accountant(event, DELTA, ADD_OR_REMOVE)["pld"]
    assert mu is not None and epsilon is not None
    assert exact_gaussian_delta(mu, epsilon) == pytest.approx(DELTA, rel=1e-3)
    assert accounting.mu_gdp(accounting.repeated_event(Gaussian(1.0), 0, FULL)) == 0.0


@pytest.mark.parametrize(
    "event",
    [
        dp_accounting.PoissonSampledDpEvent(0.5, Gaussian(1.0)),
        dp_accounting.ComposedDpEvent([Gaussian(1.0), dp_accounting.LaplaceDpEvent(1.0)]),
        dp_accounting.NonPrivateDpEvent(),
        Gaussian(0.0),
    ],
)
def test_mu_is_not_stated_where_it_is_not_exact(event: dp_accounting.DpEvent) -> None:
    assert accounting.mu_gdp(event) is None
