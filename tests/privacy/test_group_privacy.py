"""A person in several clients: exact where nothing is sampled, a bound on a real pair elsewhere."""

import math

import dp_accounting
import numpy as np
import pytest
from scipy import stats

from fl_research.errors import InputError
from fl_research.privacy import group_privacy
from fl_research.privacy.accountants import claimed_epsilon, epsilon_by_accountant
from fl_research.privacy.group_privacy import group_epsilon, group_event, person_epsilon
from fl_research.privacy.parts import releases_in
from tests.privacy.accounting_cases import (
    ADD_OR_REMOVE,
    DELTA,
    REPLACE,
    ZERO_OUT,
    Gaussian,
    exact_gaussian_epsilon,
    smallest_epsilon,
)

Laplace = dp_accounting.LaplaceDpEvent
Poisson = dp_accounting.PoissonSampledDpEvent
FixedSize = dp_accounting.SampledWithoutReplacementDpEvent
SelfComposed = dp_accounting.SelfComposedDpEvent

EVENTS = [
    (SelfComposed(Gaussian(8.0), 10), ADD_OR_REMOVE),
    (SelfComposed(Laplace(20.0), 10), ADD_OR_REMOVE),
    (SelfComposed(Poisson(0.01, Gaussian(1.5)), 100), ZERO_OUT),
    (SelfComposed(Poisson(0.05, Laplace(3.0)), 20), ADD_OR_REMOVE),
    (SelfComposed(FixedSize(1000, 20, Gaussian(2.0)), 50), REPLACE),
]


def claim(event: dp_accounting.DpEvent, relation: dp_accounting.NeighboringRelation) -> float:
    return claimed_epsilon(epsilon_by_accountant(event, DELTA, relation)).epsilon


@pytest.mark.parametrize("clients", [1, 2, 5])
def test_gaussians_without_sampling_are_exact(clients: int) -> None:
    exact = exact_gaussian_epsilon(8.0 / clients, 10, DELTA)
    ours = person_epsilon(SelfComposed(Gaussian(8.0), 10), DELTA, ADD_OR_REMOVE, clients)
    assert exact * (1 - 1e-7) <= ours <= exact * (1 + 1e-4)


def test_one_laplace_release_is_exact() -> None:
    """epsilon + 2 log(1 - delta), of three times the pure epsilon."""
    ours = person_epsilon(Laplace(6.0), 0.01, ADD_OR_REMOVE, 3)
    exact = 3 / 6 + 2 * math.log(0.99)
    assert exact * (1 - 1e-9) <= ours <= exact + 1e-4


@pytest.mark.parametrize(("event", "relation"), EVENTS)
def test_a_person_pays_at_least_as_much_as_a_client_and_more_with_more_clients(
    event: dp_accounting.DpEvent, relation: dp_accounting.NeighboringRelation
) -> None:
    one = claim(event, relation)
    assert person_epsilon(event, DELTA, relation, 1) == one
    by_clients = [one, *(person_epsilon(event, DELTA, relation, k) for k in (2, 3))]
    assert by_clients == sorted(by_clients) and 1.5 * one < by_clients[1] < by_clients[2] < math.inf


def exact_group_delta(
    noise: stats.rv_continuous, scale: float, rate: float, clients: int, epsilon: float
) -> float:
    """One release: clients that all push the same way, each drawn by itself, on a fine grid."""
    x = np.linspace(-14 * scale, clients + 14 * scale, 20_001)
    weights = stats.binom.pmf(np.arange(clients + 1), clients, rate)
    there = sum(w * noise.pdf(x, k, scale) for k, w in enumerate(weights))
    instead = noise.pdf(x, 0, scale)
    step = x[1] - x[0]
    return max(
        float(np.maximum(p - math.exp(epsilon) * q, 0).sum() * step)
        for p, q in ((there, instead), (instead, there))
    )


@pytest.mark.parametrize(("rate", "clients"), [(0.01, 2), (0.3, 4), (0.9, 2)])
@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
def test_both_bounds_hold_for_a_sampled_release(kind: str, clients: int, rate: float) -> None:
    """Against the exact pair of clients that push the same way."""
    scale, delta = (2.0, 1e-5) if kind == "gaussian" else (3.0, 1e-3)
    noise = stats.norm if kind == "gaussian" else stats.laplace
    event = Poisson(rate, Gaussian(scale) if kind == "gaussian" else Laplace(scale))
    exact = smallest_epsilon(
        lambda epsilon: exact_group_delta(noise, scale, rate, clients, epsilon), delta
    )
    together = claimed_epsilon(
        epsilon_by_accountant(group_event(event, clients), delta, ADD_OR_REMOVE)
    ).epsilon
    steps = group_privacy.epsilon_by_steps(releases_in(event), delta, ADD_OR_REMOVE, clients)
    assert exact <= together + 1e-6 and exact <= steps + 1e-6
    assert group_epsilon(event, delta, ADD_OR_REMOVE, clients) == min(together, steps)
    assert min(together, steps) < 3 * exact


def test_steps_lead_to_the_wanted_delta() -> None:
    """Vadhan 2017, lemma 2.2: no larger delta of one step would do."""
    event, clients = SelfComposed(Poisson(0.01, Gaussian(1.5)), 100), 3
    ours = group_privacy.epsilon_by_steps(releases_in(event), DELTA, ADD_OR_REMOVE, clients)
    step = ours / clients
    delta_of_step = DELTA * math.expm1(step) / math.expm1(clients * step)
    exact = claimed_epsilon(epsilon_by_accountant(event, delta_of_step, ADD_OR_REMOVE)).epsilon
    assert exact <= step * (1 + 1e-5) and step <= exact * 1.002


def test_fixed_size_samples_hold_for_a_person() -> None:
    """Two of the clients that send +1 are replaced by ones that send -1; the others send zero."""
    population, cohort, noise = 20, 4, 3.0
    event = FixedSize(population, cohort, Gaussian(noise / 2))
    x = np.linspace(-40, 40, 20_001)
    weights = stats.hypergeom.pmf(np.arange(3), population, 2, cohort)
    there = sum(w * stats.norm.pdf(x, k, noise) for k, w in enumerate(weights))
    instead = there[::-1]

    def exact_delta(epsilon: float) -> float:
        excess = np.maximum(there - math.exp(epsilon) * instead, 0)
        return float(excess.sum() * (x[1] - x[0]))

    ours = person_epsilon(event, DELTA, REPLACE, 2)
    unsampled = claim(Gaussian(noise / 4), REPLACE)
    assert smallest_epsilon(exact_delta, DELTA) <= ours <= unsampled * (1 + 1e-9)


def test_the_event_of_a_group_by_hand() -> None:
    event = dp_accounting.ComposedDpEvent([Poisson(0.1, Gaussian(3.0)), Laplace(6.0)])
    assert releases_in(group_event(event, 3)) == (
        (Poisson(pytest.approx(1 - 0.9**3, rel=1e-12), Gaussian(1.0)), 1),
        (Laplace(2.0), 1),
    )
    assert group_event(event, 1) is event


def test_without_noise_nobody_has_a_guarantee() -> None:
    event = Poisson(0.1, Gaussian(0.0))
    assert person_epsilon(event, DELTA, ADD_OR_REMOVE, 4) == math.inf


def test_impossible_groups_are_refused() -> None:
    with pytest.raises(InputError, match="clients=0"):
        person_epsilon(Gaussian(1.0), DELTA, ADD_OR_REMOVE, 0)
    with pytest.raises(InputError, match="delta=0"):
        group_epsilon(Gaussian(1.0), 0.0, ADD_OR_REMOVE, 2)


@pytest.mark.parametrize(("rate", "noise"), [(1.0, 1.0), (0.5, 1.0), (0.1, 2.0)])
def test_a_changed_client_is_covered(rate: float, noise: float) -> None:
    """Against the exact divergence of the two mixtures, by numerical integration.

    With probability q the sum is moved by +1 under the one data set and by -1 under the other.
    """
    x = np.linspace(-40, 40, 400_001)
    one, none, other = (np.exp(-((x - m) ** 2) / (2 * noise**2)) for m in (1.0, 0.0, -1.0))
    scale = (x[1] - x[0]) / (noise * math.sqrt(2 * math.pi))
    p, q = (1 - rate) * none + rate * one, (1 - rate) * none + rate * other
    event = (
        Gaussian(noise) if rate == 1 else dp_accounting.PoissonSampledDpEvent(rate, Gaussian(noise))
    )
    relation = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    stated = group_privacy.changed_client_epsilon(event, 1e-5, relation)
    exact_delta = float(np.sum(np.maximum(p - math.exp(stated) * q, 0)) * scale)
    assert exact_delta <= 1e-5 * (1 + 1e-3)
    if rate == 1:
        assert exact_delta == pytest.approx(1e-5, rel=1e-2)
