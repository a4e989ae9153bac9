"""The one-shot audit of a run: participations, refusals, the record, and alarms."""

import math
from typing import Any

import numpy as np
import pytest

from fl_research.audit import run_audit
from fl_research.audit.canary_query import canary_directions
from fl_research.audit.run_audit import AuditFailedError
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

KEY = (5, 6)
DIMENSION = 2000


def _plan(sampling: ClientSampling, mechanism: str = "gaussian", **config: Any) -> PrivacyPlan:
    """A plan with this sampler."""
    module = registry.load(mechanism)
    setting = PlanSetting(
        sampling=sampling,
        rounds=12,
        noise_key=(1, 2),
        client_update=ClientUpdateConfig(batch_size=4),
        clients_by_rows={5: sampling.population},
    )
    config = config or {"clip_norm": 1.0, "noise_multiplier": 1.0}
    return module.make_plan(module.Config(**config), setting)


@pytest.mark.parametrize(
    "sampling",
    [
        PoissonSampling(population=500, sampling_rate=0.2),
        FixedSizeSampling(population=500, cohort_size=100),
    ],
)
def test_canaries_come_as_often_as_clients(sampling: ClientSampling) -> None:
    """The count over 200 rounds of 100 canaries is binomial; 5.5 deviations: false alarm < 4e-8."""
    table = run_audit.plan_canaries(
        _plan(sampling), canaries=100, rounds=200, seed=1
    ).participations
    deviation = math.sqrt(200 * 100 * 0.2 * 0.8)
    assert abs(table.sum() - 4000) < 5.5 * deviation
    # No canary and no round is fixed: 200 draws of 0.2 are between 8 and 80 but for 1e-8.
    assert table.sum(axis=0).min() > 8 and table.sum(axis=0).max() < 80


def test_full_participation_and_turns() -> None:
    """Full: always. With a separation: never two participations of a canary closer than that."""
    full = run_audit.plan_canaries(
        _plan(FullParticipation(population=9)), canaries=4, rounds=3, seed=0
    )
    assert full.participations.all()
    turns = MinSeparationSampling(population=40, sampling_rate=0.25, min_separation=4)
    table = run_audit.plan_canaries(
        _plan(turns, "banded_matrix_factorization"), canaries=10, rounds=12, seed=0
    ).participations
    assert (table.sum(axis=0) == 3).all()
    assert (table[0:4].sum(axis=0) == 1).all() and (table[3:7].sum(axis=0) == 1).all()


def test_key_and_participations_follow_from_the_seed() -> None:
    """The same seed gives the same canaries, another seed others."""
    plan = _plan(PoissonSampling(population=500, sampling_rate=0.2))
    one, same, other = (
        run_audit.plan_canaries(plan, canaries=20, rounds=30, seed=seed) for seed in (7, 7, 8)
    )
    assert one.key == same.key != other.key
    np.testing.assert_array_equal(one.participations, same.participations)
    assert (one.participations != other.participations).any()
    # More rounds do not change the first ones.
    longer = run_audit.plan_canaries(plan, canaries=20, rounds=40, seed=7)
    np.testing.assert_array_equal(longer.participations[:30], one.participations)


def test_refusals() -> None:
    """A count below zero, one canary, mechanisms for records, more groups than canaries."""
    for canaries, pattern in ((-1, "audit_canaries=-1"), (1, "audit_canaries=1")):
        with pytest.raises(InputError, match=pattern):
            run_audit.require_canaries(canaries)
    run_audit.require_canaries(0)
    records = _plan(FullParticipation(population=9), "client_dpsgd")
    with pytest.raises(InputError, match=r"audit_canaries=5 .*client_dpsgd.*one record"):
        run_audit.plan_canaries(records, canaries=5, rounds=2, seed=0)
    turns = MinSeparationSampling(population=40, sampling_rate=0.25, min_separation=4)
    plan = _plan(turns, "banded_matrix_factorization")
    with pytest.raises(InputError, match=r"audit_canaries=3 leaves some of the min_separation=4"):
        run_audit.plan_canaries(plan, canaries=3, rounds=2, seed=0)


def test_crowding_is_said() -> None:
    """100 canaries hide each other in 25 numbers, not in a million; without noise, no matter."""
    warning = run_audit.crowding_warning(100, dimension=25, noise_multiplier=2.0)
    assert warning is not None and "audit_canaries=100" in warning
    assert run_audit.crowding_warning(100, dimension=10**6, noise_multiplier=2.0) is None
    assert run_audit.crowding_warning(100, dimension=25, noise_multiplier=None) is None


def _audit(noise: float, claimed: float, canaries: int = 100) -> dict[str, Any]:
    """The audit of one release of all canaries with normal noise, with a fixed generator."""
    directions = np.concatenate(list(canary_directions(KEY, canaries, DIMENSION)))
    random = np.random.default_rng(11)
    released = directions.sum(axis=0) + noise * random.standard_normal(DIMENSION)
    return run_audit.audit_release(
        [released[:500].reshape(20, 25), released[500:]],
        canary_directions(KEY, canaries, DIMENSION),
        participations=np.ones((1, canaries), bool),
        delta=1e-5,
        claimed_epsilon=claimed,
    )


def test_an_honest_release_stays_within_its_claim() -> None:
    """Noise multiplier 1, one release: 4.377 by Balle and Wang 2018; a pure function of the seeds.

    So it has no false alarm of its own; over other seeds the bound is wrong with at most 5 %.
    """
    audit = _audit(noise=1.0, claimed=4.377)
    assert 0 < audit["epsilon_lower"] < 4.377 and not audit["exceeds_claim"]
    assert audit["participations"] == {"mean": 1.0, "least": 1, "most": 1}
    run_audit.require_within_claim({"audit": audit})


def test_noise_that_is_ten_times_too_small_fails_loudly() -> None:
    """The same claim, a tenth of the noise."""
    audit = _audit(noise=0.1, claimed=4.377)
    assert audit["exceeds_claim"] and audit["epsilon_lower"] > 10
    with pytest.raises(AuditFailedError, match="noise or the accounting .* is broken"):
        run_audit.require_within_claim({"audit": audit})


def test_without_a_claim_nothing_is_contradicted() -> None:
    """No noise at all: a large bound, and no alarm; a run without an audit has none either."""
    audit = _audit(noise=0.0, claimed=math.inf)
    assert audit["claimed_epsilon"] is None and not audit["exceeds_claim"]
    run_audit.require_within_claim({"audit": audit})
    run_audit.require_within_claim({})


def test_held_out_canaries_look_like_chance() -> None:
    """Cosines of canaries that took no part have the law N(0, 1/d) nearly.

    Their mean over 100 is within 5.5 deviations: false alarm < 4e-8.
    """
    from fl_research.audit.one_shot import cosines

    directions = np.concatenate(list(canary_directions(KEY, 200, DIMENSION)))
    random = np.random.default_rng(12)
    released = directions[:100].sum(axis=0) + random.standard_normal(DIMENSION)
    found = cosines(released, canary_directions(KEY, 200, DIMENSION))
    assert abs(found[100:].mean()) < 5.5 / math.sqrt(100 * DIMENSION)
    assert found[:100].mean() > 5.5 / math.sqrt(100 * DIMENSION)
