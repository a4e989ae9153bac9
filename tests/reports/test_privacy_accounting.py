"""The accounting section: other notions of privacy, other units, other populations."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import dp_accounting
import pytest

from fl_research.data.client_sampling import FullParticipation, PoissonSampling
from fl_research.errors import InputError
from fl_research.privacy import accounting as privacy_accounting
from fl_research.privacy.accounting_rules import correlated, examples, local
from fl_research.privacy.events import event_to_json
from fl_research.privacy.ledger import Ledger, read_ledger
from fl_research.privacy.spending import spending_of
from fl_research.reports import markdown_accounting
from fl_research.reports.privacy_accounting import accounting
from fl_research.reports.run_records import Record, RunRecords

DELTA = 1e-5
POISSON = PoissonSampling(population=1000, sampling_rate=0.05)
FULL = FullParticipation(population=20)


def records(folder: Path, rule: Any, sampling: Any, rounds: int = 4, **run: Any) -> RunRecords:
    """The records of rounds that each released a Gaussian of noise multiplier 3."""
    event = dp_accounting.GaussianDpEvent(3.0)
    plan = {
        "sampling": sampling.to_dict(),
        "accounting_rule": json.loads(json.dumps(rule.to_dict())),
        "delta": DELTA,
        "expected_release_event": event_to_json(event),
        "rounds_planned": rounds,
    }
    with Ledger.open(folder / "ledger.jsonl") as ledger:
        ledger.append("plan", plan)
        for number in range(1, rounds + 1):
            call = {"round": number, "attempt": 1}
            ledger.append("round_started", call)
            ledger.append("release", {**call, "event": event_to_json(event)})
    return RunRecords(
        entries=read_ledger(folder / "ledger.jsonl"),
        run=Record(file="run.json", values=run),
        metrics=[],
        evaluation=Record(file="evaluation.json", values={}),
    )


def section(found: RunRecords) -> dict[str, Any]:
    return accounting(found, spending_of(found.entries))


def epsilon(event: dp_accounting.DpEvent) -> float:
    relation = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    return privacy_accounting.claimed_epsilon(
        privacy_accounting.epsilon_by_accountant(event, DELTA, relation)
    ).epsilon


def test_gaussian_dp_is_stated_where_it_is_exact(tmp_path: Path) -> None:
    """Tree over 4 rounds, everybody in each: 4 * 1 + 2 * 4 + 16 = 28."""
    found = section(records(tmp_path, correlated.Rule(rounds=4, restart_every=4), FULL))
    mu = math.sqrt(28) / 3
    assert found["gaussian_dp"]["mu"] == pytest.approx(mu)
    assert found["zero_concentrated"] == {
        "rho": pytest.approx(mu**2 / 2),
        "applies_to": "the run as it was",
    }
    by_delta = dict(found["curve"])
    nearest = min(by_delta, key=lambda delta: abs(math.log(delta / DELTA)))
    assert by_delta[nearest] == pytest.approx(
        epsilon(dp_accounting.GaussianDpEvent(1 / mu)), rel=1e-3
    )


def test_a_person_in_several_clients_has_a_larger_epsilon(tmp_path: Path) -> None:
    """Without sampling k clients are k times the shift: exactly the noise divided by k."""
    from fl_research.privacy.accounting_rules.independent import Rule

    found = section(records(tmp_path, Rule(), FULL, data={"clients_per_person": 3}))
    rows = {row["unit"]: row["epsilon"] for row in found["units"]["rows"]}
    alone = epsilon(dp_accounting.GaussianDpEvent(3 / 2))  # Four releases: 3 / sqrt(4).
    assert rows["one client"] == pytest.approx(alone)
    # A record can turn its client's update into the opposite one: half the noise.
    changed = epsilon(dp_accounting.GaussianDpEvent(3 / 2 / 2))
    assert rows["one record of one client"] == pytest.approx(changed, rel=1e-6)
    person = epsilon(dp_accounting.GaussianDpEvent(3 / 2 / 3))
    assert rows["one person in up to 3 clients"] == pytest.approx(person, rel=1e-6)
    assert found["units"]["known_from"].startswith("declared by the user")


def test_the_claim_over_clients_of_several_sizes_is_the_largest(tmp_path: Path) -> None:
    sizes = tuple(
        examples.ClientSize(rows=rows, clients=rows, steps=steps, sampling_rate=rate)
        for rows, steps, rate in ((2, 1, 1.0), (16, 2, 0.5), (80, 10, 0.1))
    )
    found = records(tmp_path, examples.Rule(sizes=sizes), FULL)
    spent = spending_of(found.entries)
    rows = accounting(found, spent)["clients"]
    assert [row["rows"] for row in rows] == [2, 16, 80]
    for row, size in zip(rows, sizes, strict=True):
        step = dp_accounting.GaussianDpEvent(3.0)
        if size.sampling_rate < 1:
            step = dp_accounting.PoissonSampledDpEvent(size.sampling_rate, step)
        alone = epsilon(dp_accounting.SelfComposedDpEvent(step, 4 * size.steps))
        assert row["epsilon"] == pytest.approx(alone)
    assert spent.claim.epsilon == pytest.approx(max(row["epsilon"] for row in rows))
    assert spent.unit == "record" and spent.amplified
    # Without sampling it is the largest client, whose steps are most, that has the largest epsilon.
    steps = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(3.0), 4 * 10)
    assert spent.epsilon_without_amplification == pytest.approx(epsilon(steps))
    assert spent.zcdp_rho == pytest.approx(40 / 18)


def test_the_projection_keeps_noise_and_cohorts(tmp_path: Path) -> None:
    from fl_research.privacy.accounting_rules.independent import Rule

    found = section(records(tmp_path, Rule(), POISSON, projection_population=50_000))["projection"]
    sampled = dp_accounting.PoissonSampledDpEvent(0.001, dp_accounting.GaussianDpEvent(3.0))
    assert found["epsilon"] == pytest.approx(epsilon(dp_accounting.SelfComposedDpEvent(sampled, 4)))
    assert found["expected_cohort_size"] == pytest.approx(50)
    with pytest.raises(InputError, match="projection_population=10 is below"):
        section(records(_folder(tmp_path, "b"), Rule(), POISSON, projection_population=10))


def test_a_local_mechanism_counts_every_round_and_no_sampling(tmp_path: Path) -> None:
    found = records(tmp_path, local.Rule(), POISSON)
    spent = spending_of(found.entries)
    assert spent.claim.epsilon == pytest.approx(
        epsilon(dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(1.5), 4))
    )
    assert not spent.amplified
    assert (spent.relation, spent.sensitivity_in_clips) == ("replace_one", 2.0)


@pytest.mark.parametrize(("exceeds", "words"), [(False, "ε is at least"), (True, "**ABOVE")])
def test_the_audit_stands_beside_the_claim(exceeds: bool, words: str) -> None:
    audit = {
        "exceeds_claim": exceeds,
        "epsilon_lower": 0.5,
        "confidence": 0.95,
        "epsilon_estimate": 1.25,
        "canaries": 100,
        "statistic": "final model",
        "bounded_by": "thresholds",
    }
    ledger = dict.fromkeys(
        ("releases", "repeated", "started_without_release", "resumed", "recovered"), 1
    )
    report = {
        "privacy": {"epsilon": 2.0},
        "evidence": {
            "ledger": ledger | {"head": "f00"},
            "noise_self_test": None,
            "audit": audit,
            "verify": "",
            "limits": "",
        },
    }
    row = next(line for line in markdown_accounting.evidence(report) if "Audit" in line)
    assert words in row and "claimed at most 2" in row and "point estimate 1.25" in row


def _folder(parent: Path, name: str) -> Path:
    """A new folder."""
    (parent / name).mkdir()
    return parent / name


def test_rules_are_plain_dataclasses() -> None:
    """A rule goes through JSON and comes back equal, or the ledger could not hold it."""
    from fl_research.privacy.accounting_rules.registry import rule_from_dict

    for rule in (
        local.Rule(),
        correlated.Rule(rounds=3, coefficients=(0.9, 0.4)),
        correlated.Rule(rounds=3, buffers=((0.4, 0.9), (0.1, 0.5))),
        examples.Rule(sizes=(examples.ClientSize(rows=1, clients=2, steps=1, sampling_rate=1.0),)),
    ):
        assert dataclasses.is_dataclass(rule)
        # A run that goes on compares its plan with the ledger's.
        assert json.loads(json.dumps(rule.to_dict())) == rule.to_dict()
        assert rule_from_dict(rule.to_dict()) == rule
