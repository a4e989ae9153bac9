"""The repeated-run audit of a plan: its statistics have the law that theory gives, and it bites."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fl_research.audit.worst_case import (
    WorstCaseAudit,
    audit_worst_case,
    participations,
    statistic_weights,
)
from fl_research.data.client_sampling import (
    ClientSampling,
    FixedSizeSampling,
    FullParticipation,
    MinSeparationSampling,
    PoissonSampling,
)
from fl_research.errors import InputError
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.privacy.mechanisms import registry
from fl_research.privacy.plan import PlanSetting, PrivacyPlan

FULL = FullParticipation(population=40)
ROUNDS = 3
RUNS = 400


def _plan(
    mechanism: str = "gaussian", sampling: ClientSampling = FULL, **config: Any
) -> PrivacyPlan:
    """A plan with a clip of 0.7 and as much noise."""
    module = registry.load(mechanism)
    setting = PlanSetting(
        sampling=sampling,
        rounds=ROUNDS,
        noise_key=(1, 2),
        client_update=ClientUpdateConfig(batch_size=4),
        clients_by_rows={5: sampling.population},
    )
    if mechanism != "none":
        config = {"clip_norm": 0.7, "noise_multiplier": 1.0} | config
    return module.make_plan(module.Config(**config), setting)


def _audit(plan: PrivacyPlan, runs: int = RUNS) -> WorstCaseAudit:
    """Its audit with a fixed seed."""
    return audit_worst_case(plan, rounds=ROUNDS, runs=runs, delta=1e-5, seed=3)


def _is_normal(values: np.ndarray, mean: float, variance: float) -> bool:
    """Kolmogorov-Smirnov; wrongly False with probability 1e-6."""
    return bool(stats.kstest(values, stats.norm(mean, math.sqrt(variance)).cdf).pvalue > 1e-6)


def test_gaussian_statistics_have_their_law() -> None:
    """Three releases of one clip norm each, noise multiplier 1: N(3, 3) against N(0, 3)."""
    found = _audit(_plan())
    assert _is_normal(found.in_statistics, 3, 3) and _is_normal(found.out_statistics, 0, 3)
    # Runs do not share noise: 5.5 deviations of a correlation over 400 runs, false alarm < 4e-8.
    assert abs(np.corrcoef(found.out_statistics[:-1], found.out_statistics[1:])[0, 1]) < 0.28
    assert abs(np.corrcoef(found.in_statistics, found.out_statistics)[0, 1]) < 0.28
    assert 0 < found.audit.epsilon_lower < found.claimed_epsilon


@pytest.mark.parametrize("mechanism", ["tree_aggregation", "buffered_toeplitz"])
def test_correlated_noise_is_whitened(mechanism: str) -> None:
    """Mean and variance of the best linear statistic: both m' C^-1 m, at noise multiplier 1."""
    plan = _plan(mechanism)
    assert plan.noise_covariance is not None
    covariance = plan.noise_covariance(ROUNDS)
    power = float(np.ones(ROUNDS) @ np.linalg.inv(covariance) @ np.ones(ROUNDS))
    found = _audit(plan)
    assert _is_normal(found.in_statistics, power, power)
    assert _is_normal(found.out_statistics, 0, power)
    assert found.audit.epsilon_lower < found.claimed_epsilon
    # No other weights part the two better.
    weights = statistic_weights(plan, np.ones(ROUNDS))
    signal = weights.sum() / math.sqrt(weights @ covariance @ weights)
    assert signal >= ROUNDS / math.sqrt(covariance.sum()) - 1e-9
    assert signal == pytest.approx(math.sqrt(power))


def test_replacing_one_client_moves_twice_as_far() -> None:
    """Fixed-size cohorts of everybody: N(3, 3) against N(-3, 3)."""
    found = _audit(_plan(sampling=FixedSizeSampling(population=5, cohort_size=5)))
    assert found.relation == "replace_one"
    assert _is_normal(found.in_statistics, 3, 3) and _is_normal(found.out_statistics, -3, 3)


def test_local_noise_is_told_apart_by_the_opposite_update() -> None:
    """What the server sees of one client: N(3, 3) against N(-3, 3)."""
    found = _audit(_plan("local_gaussian"))
    assert found.relation == "replace_one"
    assert _is_normal(found.in_statistics, 3, 3) and _is_normal(found.out_statistics, -3, 3)


@pytest.mark.parametrize("mechanism", ["laplace", "adaptive_gaussian"])
def test_other_mechanisms_stay_within_their_claim(mechanism: str) -> None:
    """A pure function of the seed; over seeds the bound is wrong with at most 5 %."""
    found = _audit(_plan(mechanism, PoissonSampling(population=40, sampling_rate=0.5)))
    assert found.audit.epsilon_lower < found.claimed_epsilon < math.inf
    assert found.in_statistics.mean() > found.out_statistics.mean()


def test_too_little_noise_is_found() -> None:
    """A query with a tenth of the noise that the accounting was told of."""
    broken = dataclasses.replace(_plan(), query_for=_plan(noise_multiplier=0.4).query_for)
    found = _audit(dataclasses.replace(broken, expected_release_event=_event(4.0)))
    assert found.claimed_epsilon < found.audit.epsilon_lower and found.exceeds_claim


def _event(noise_multiplier: float) -> Any:
    """What the accounting is told."""
    import dp_accounting

    return dp_accounting.GaussianDpEvent(noise_multiplier)


def test_no_noise_has_no_claim_to_contradict() -> None:
    """The plain mean tells the client in every run: as much as so many runs can show."""
    found = _audit(_plan("none"), runs=100)
    assert math.isinf(found.claimed_epsilon) and not found.exceeds_claim
    assert found.audit.epsilon_lower == pytest.approx(found.detectable)


def test_records_are_refused() -> None:
    """DP-SGD at the clients protects records."""
    with pytest.raises(InputError, match="client_dpsgd.*one record"):
        _audit(_plan("client_dpsgd"))


def test_participations() -> None:
    """Rates by 5.5 deviations (false alarm < 4e-8); turns at their places, and never too many."""
    random = np.random.default_rng(0)
    poisson = participations(PoissonSampling(population=10, sampling_rate=0.3), 4, 5000, random)
    assert abs(poisson.mean() - 0.3) < 5.5 * math.sqrt(0.21 / 20_000)
    assert participations(FULL, 4, 10, random).all()
    turns = MinSeparationSampling(
        population=40, sampling_rate=0.25, min_separation=4, max_participations=2
    )
    drawn = participations(turns, 12, 10, random)
    assert (drawn == np.isin(np.arange(12), (0, 4))).all()
