"""What every mechanism must hold to: events, the cost of releases, calibration, ledger."""

import functools
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dp_accounting
import numpy as np
import pytest

from fl_research.data.client_sampling import ClientSampling
from fl_research.privacy import accounting
from fl_research.privacy.accounting_rules.registry import rule_from_dict
from fl_research.privacy.accounting_rules.rule import AccountingRule
from fl_research.privacy.budget import BudgetGate
from fl_research.privacy.calibration import calibrate_noise_multiplier
from fl_research.privacy.events import event_to_json, events_agree
from fl_research.privacy.ledger import Ledger, read_ledger
from fl_research.privacy.mechanisms import registry
from fl_research.privacy.plan import PrivacyPlan
from fl_research.privacy.releases import Release
from fl_research.privacy.spending import spending_of
from fl_research.privacy.worst_case import worst_case, worst_rough_epsilon
from tests.contracts.mechanism_cases import (
    ALLOWED,
    PRIVATE,
    ROUNDS,
    SAMPLINGS,
    UPDATE,
    client,
    every_case,
    every_private_case,
    every_private_one,
    in_plain_numbers,
    make_plan,
    release,
    sampling_of,
)

DELTA = 1e-5
# The accountants take longest where cohorts are sampled.
SAMPLED = ("poisson", "fixed_size", "min_separation", "limited")


def cases(names: Sequence[str]) -> list[Any]:
    """Of these mechanisms, with the sampled ones marked slow."""
    return [
        pytest.param(name, sampler, marks=[pytest.mark.slow] * (sampler in SAMPLED))
        for name, sampler in ALLOWED
        if name in names
    ]


def emitted_events(plan: PrivacyPlan, releases: int) -> list[dp_accounting.DpEvent]:
    """What releases of one small client emit, at every live clip norm."""
    query = plan.query(UPDATE)
    state, events = query.initial_global_state(), []
    for seed in range(releases):
        _, state, event = release(query, state, [client(seed, norm=0.01)])
        events.append(in_plain_numbers(event))
    return events


def claimed(plan: PrivacyPlan, events: list[dp_accounting.DpEvent]) -> float:
    """The epsilon that a report states for releases of rounds 1, 2 ..."""
    releases = [Release(number, event) for number, event in enumerate(events, start=1)]
    of_units = plan.rule.events(releases, plan.sampling)
    return worst_case(of_units, DELTA, plan.neighboring_relation).claim.epsilon


@every_case
def test_each_release_emits_the_expected_event(name: str, sampler: str) -> None:
    """Within 1e-6 relative, at every live clip norm: the state is float32."""
    plan = make_plan(name, SAMPLINGS[sampler])
    expected = plan.expected_release_event or dp_accounting.NonPrivateDpEvent()
    for event in emitted_events(plan, 5):
        assert events_agree(event, expected, relative_tolerance=1e-6)


@every_private_case
def test_the_rule_and_the_plan_say_the_same(name: str, sampler: str) -> None:
    """Of noise, relation and sensitivity; and what is planned costs what is released."""
    plan = make_plan(name, SAMPLINGS[sampler])
    relation, in_clips = plan.rule.relation(plan.sampling)
    assert (relation, in_clips * 1.5) == (plan.neighboring_relation, plan.sensitivity)
    assert plan.rule.noise_multiplier(plan.expected_release_event) == pytest.approx(0.9)
    event = plan.rule.release_event(0.9)
    planned = plan.rule.planned_events(event, ROUNDS, plan.sampling)
    single = [Release(number + 1, event) for number in range(ROUNDS)]
    released = plan.rule.events(single, plan.sampling)
    rough = [worst_rough_epsilon(e, DELTA, relation) for e in (planned, released)]
    assert rough[0] == pytest.approx(rough[1], rel=1e-9)


@every_private_case
def test_epsilon_rises_with_releases_and_falls_with_noise(name: str, sampler: str) -> None:
    """By a bound that is quick to compute, at least 1 % each time that a client has a turn more."""
    sampling = SAMPLINGS[sampler]

    def epsilon(releases: int, noise_multiplier: float) -> float:
        plan = make_plan(name, sampling, noise_multiplier=noise_multiplier, rounds=80)
        event = plan.rule.release_event(noise_multiplier)
        events = plan.rule.planned_events(event, releases, sampling)
        return worst_rough_epsilon(events, DELTA, plan.neighboring_relation)

    by_noise = [epsilon(10, multiplier) for multiplier in (1.8, 0.9, 0.6)]
    assert all(0 < less < 0.99 * more for less, more in itertools.pairwise(by_noise))
    by_releases = [epsilon(releases, 0.9) for releases in (1, 4, 20, 80)]
    turns = [sampling.most_participations(releases) for releases in (1, 4, 20, 80)]
    for i in range(3):
        assert by_releases[i] <= by_releases[i + 1]
        if turns[i + 1] > turns[i]:
            assert by_releases[i] < 0.99 * by_releases[i + 1]


@every_private_one
def test_the_claim_rises_and_falls_too(name: str) -> None:
    """As above, with the accountant that a report uses."""
    sampling = sampling_of(name)

    def epsilon(releases: int, noise: float) -> float:
        plan = make_plan(name, sampling, noise_multiplier=noise)
        return claimed(plan, [plan.expected_release_event] * releases)

    assert 0 < epsilon(1, 0.9) < 0.99 * epsilon(ROUNDS, 0.9) < 0.98 * epsilon(ROUNDS, 0.7)


@functools.cache
def calibrated(rule: AccountingRule, sampling: ClientSampling, target: float) -> float:
    """The noise for a target; kept, for several mechanisms share a rule."""
    return calibrate_noise_multiplier(
        target_epsilon=target, delta=DELTA, sampling=sampling, rounds=ROUNDS, rule=rule
    )


@pytest.mark.parametrize(("name", "sampler"), cases(PRIVATE))
def test_calibration_round_trips(name: str, sampler: str) -> None:
    """The noise for a target meets it, 1 % less does not; and the budget gate agrees."""
    sampling, target = SAMPLINGS[sampler], 4.0
    setting = {"delta": DELTA, "sampling": sampling}
    rule = make_plan(name, sampling).rule
    noise = calibrated(rule, sampling, target)
    plan = make_plan(name, sampling, noise_multiplier=noise)
    assert plan.rule == rule  # Noise does not change how releases add up.

    def epsilon(multiplier: float) -> float:
        events = rule.planned_events(rule.release_event(multiplier), ROUNDS, sampling)
        return worst_case(events, DELTA, plan.neighboring_relation).claim.epsilon

    assert epsilon(noise) <= target < epsilon(0.99 * noise)
    gate = BudgetGate(
        expected_release_event=plan.expected_release_event,
        target_epsilon=target,
        planned_rounds=ROUNDS,
        rule=rule,
        **setting,
    )
    assert gate.allows(range(1, ROUNDS + 1))
    assert not gate.allows([*range(1, ROUNDS + 1)] * 2)


@pytest.mark.parametrize(("name", "sampler"), cases(registry.names()))
def test_a_ledger_of_its_releases_gives_their_epsilon(
    name: str, sampler: str, tmp_path: Path
) -> None:
    """What was emitted, through JSON and the rule of the plan, costs what the rule says."""
    plan = make_plan(name, SAMPLINGS[sampler])
    rule = rule_from_dict(json.loads(json.dumps(plan.rule.to_dict(), allow_nan=False)))
    assert rule == plan.rule
    expected = plan.expected_release_event
    with Ledger.open(tmp_path / "ledger.jsonl") as book:
        book.append(
            "plan",
            {
                "sampling": plan.sampling.to_dict(),
                "accounting_rule": plan.rule.to_dict(),
                "delta": DELTA if expected else None,
                "neighboring_relation": accounting.relation_name(plan.neighboring_relation),
                "expected_release_event": None if expected is None else event_to_json(expected),
            },
        )
        events = emitted_events(plan, 3)
        for number, event in enumerate(events, start=1):
            call = {"round": number, "attempt": 1}
            book.append("round_started", call)
            book.append("release", {**call, "event": event_to_json(event)})
    spent = spending_of(read_ledger(tmp_path / "ledger.jsonl"))
    assert (spent.releases, spent.repeated, spent.failed) == (3, 0, 0)
    assert spent.private == (expected is not None)
    assert spent.claim.epsilon == pytest.approx(claimed(plan, events), rel=1e-9)


@pytest.mark.parametrize("sampler", SAMPLINGS)
def test_who_takes_part_is_what_the_accounting_assumes(sampler: str) -> None:
    """In 60 rounds of three seeds: how often at most, how far apart, and whose turn it is."""
    sampling = SAMPLINGS[sampler]
    for seed in range(3):
        came: dict[int, list[int]] = {}
        for number in range(1, 61):
            for one in sampling.cohort(seed, number):
                came.setdefault(int(one), []).append(number)
        for rounds in came.values():
            assert all(np.diff(rounds) >= sampling.separation)
            for until in (1, 2, 7, 60):
                count = sum(number <= until for number in rounds)
                assert count <= sampling.most_participations(until)
