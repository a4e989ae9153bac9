"""What the releases cost: ε by every accountant, for other units, at other deltas, and projected.

All numbers are computed from the ledger's plan and releases.
"""

import math
from typing import Any

import dp_accounting

from fl_research.data.client_sampling import projected_sampling
from fl_research.privacy import accounting as privacy_accounting
from fl_research.privacy.accountants import ACCOUNTANT_DESCRIPTIONS
from fl_research.privacy.accounting_rules.examples import Rule as ExamplesRule
from fl_research.privacy.epsilon_curve import epsilon_curve
from fl_research.privacy.events import event_from_json
from fl_research.privacy.spending import (
    Spending,
    relation_of,
    releases_of,
    rule_of,
    sampling_of,
)
from fl_research.privacy.worst_case import worst_case
from fl_research.reports.person import person
from fl_research.reports.run_records import RunRecords


def accounting(records: RunRecords, spent: Spending) -> dict[str, Any]:
    """Returns ε by every accountant that applies, side by side, and which one is the claim.

    Args:
      records: The run's records.
      spent: What the releases cost.

    Returns:
      Plain values: `claim`, `reason`, `side_by_side`, `settings`, `zero_concentrated`,
      `gaussian_dp`, `curve` (pairs of delta and ε), `units`, `clients` (ε over clients of different
      sizes, or None) and `projection` (or None).
    """
    section: dict[str, Any] = {
        "library": f"dp-accounting {records.run.stated('versions.dp-accounting') or ''}".strip(),
        "claim": None,
        "reason": None,
        "side_by_side": [],
        "settings": dict(ACCOUNTANT_DESCRIPTIONS),
        "zero_concentrated": None,
        "gaussian_dp": None,
        "curve": [],
        "units": person(records, spent),
        "clients": None,
        "projection": None,
    }
    if not spent.private:
        return section
    relation, _ = relation_of(records.entries)
    return section | {
        "claim": spent.claim.accountant,
        "reason": spent.claim.reason,
        "side_by_side": _side_by_side(spent),
        "zero_concentrated": _zero_concentrated(spent),
        "gaussian_dp": {"mu": _largest_mu(spent)},
        "curve": _largest_curve(spent, relation),
        "clients": _over_clients(records, relation),
        "projection": _projection(records, relation),
    }


def _side_by_side(spent: Spending) -> list[dict[str, Any]]:
    """Rows of the comparison: as run, without amplification, then the other accountants."""
    others = [
        ("as run", name, value)
        for name, value in spent.epsilon_by_accountant.items()
        if name != spent.claim.accountant
    ]
    unsampled = spent.epsilon_without_amplification
    rows = [
        ("as run (the claim)", spent.claim.accountant, spent.claim.epsilon),
        ("without amplification by sampling (who was drawn is known)", None, unsampled),
        *others,
    ]
    return [
        {"name": name, "accountant": accountant, "epsilon": epsilon}
        for name, accountant, epsilon in rows
    ]


def _zero_concentrated(spent: Spending) -> dict[str, Any]:
    """zCDP of the releases; it has no amplification by sampling (Bun and Steinke 2016)."""
    return {
        "rho": spent.zcdp_rho,
        "applies_to": "the releases without amplification by sampling only"
        if spent.amplified
        else "the run as it was",
    }


def _largest_mu(spent: Spending) -> float | None:
    """Mu of Gaussian DP of the unit with the largest; None where it is not exact for all."""
    mus = [privacy_accounting.mu_gdp(event) for event in spent.events]
    exact = [mu for mu in mus if mu is not None]
    return max(exact) if len(exact) == len(mus) else None


def _largest_curve(
    spent: Spending, relation: dp_accounting.NeighboringRelation
) -> list[list[float]]:
    """Pairs of δ and the largest ε of any unit at that δ, where there is one."""
    curves = [epsilon_curve(event, relation) for event in spent.events]
    points = []
    for at_delta in zip(*curves, strict=True):
        epsilons = [epsilon for _, epsilon in at_delta if epsilon is not None]
        if len(epsilons) == len(at_delta):
            points.append([at_delta[0][0], max(epsilons)])
    return points


def _over_clients(
    records: RunRecords, relation: dp_accounting.NeighboringRelation
) -> list[dict[str, Any]] | None:
    """ε of clients of each size, where they differ; the claim is the largest."""
    rule = rule_of(records.entries)
    if not isinstance(rule, ExamplesRule):
        return None
    releases, sampling = releases_of(records.entries), sampling_of(records.entries)
    delta = records.plan.required("delta")
    rows = []
    for size in _of_representative_sizes(rule):
        event = rule.event_of_size(size, releases, sampling)
        rows.append(
            {
                "rows": size.rows,
                "clients": size.clients,
                "steps_of_a_round": size.steps,
                "sampling_rate": size.sampling_rate,
                "epsilon": worst_case([event], delta, relation).claim.epsilon,
            }
        )
    return rows


def _of_representative_sizes(rule: ExamplesRule) -> list[Any]:
    """The sizes at the 0th, 10th, 50th, 90th and 100th percentile of the clients."""
    total = sum(size.clients for size in rule.sizes)
    by_rows = sorted(rule.sizes, key=lambda size: size.rows)
    chosen = []
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        seen = 0
        for size in by_rows:
            seen += size.clients
            if seen >= share * total:
                break
        if size not in chosen:
            chosen.append(size)
    return chosen


def _projection(
    records: RunRecords, relation: dp_accounting.NeighboringRelation
) -> dict[str, Any] | None:
    """ε if more clients were sampled from, with the same noise, cohorts and rounds."""
    population = records.run.stated("projection_population")
    if population is None:
        return None
    sampling = projected_sampling(sampling_of(records.entries), int(population))
    event = event_from_json(records.plan.required("expected_release_event"))
    rounds = records.plan.required("rounds_planned")
    events = rule_of(records.entries).planned_events(event, rounds, sampling)
    epsilon = worst_case(events, records.plan.required("delta"), relation).claim.epsilon
    return {
        "population": population,
        "expected_cohort_size": sampling.expected_cohort_size,
        "rounds": rounds,
        "epsilon": epsilon if math.isfinite(epsilon) else None,
    }
