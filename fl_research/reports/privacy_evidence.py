"""What ran: mechanism and sampling, and the evidence for them.

The numbers come from the ledger's plan and releases. Where one can change from round to round (an
adaptive clip, a Poisson cohort), its first and last or its lowest and highest value are stated.
"""

from collections.abc import Sequence
from typing import Any

from fl_research.data.client_sampling import sampling_from_dict
from fl_research.privacy.composition import turn_rate
from fl_research.privacy.ledger import Entry, payloads
from fl_research.privacy.spending import Spending, releases_of, rule_of, sampling_of
from fl_research.reports import wording
from fl_research.reports.run_records import RunRecords

VERIFY_COMMAND = "python -m experiments.verify_report --run=FOLDER"

_SAMPLERS = {
    "min_separation": "the clients are dealt out into as many groups as the separation has rounds; "
    "in its group's turn each client is drawn on its own, with the same probability",
    "poisson": "each training client is drawn for a round on its own, with the same probability",
    "fixed_size": "each round draws the same number of training clients, without replacement",
    "full": "every training client takes part in every round; nothing is drawn",
}


def mechanism(records: RunRecords) -> dict[str, Any]:
    """The query, its clip and its noise, as planned and as released."""
    plan, released = records.plan, payloads(records.entries, "release")
    expected = sampling_from_dict(plan.required("sampling")).expected_cohort_size
    stddevs = [payload.get("noise_stddev_of_sum") for payload in released]
    sizes = [int(payload["cohort_size"]) for payload in released]
    details = plan.required("details")
    return {
        "name": plan.required("mechanism"),
        "parameters": details.get("parameters") or {},
        "references": details.get("references") or [],
        "private_metrics": details.get("private_metrics"),
        "clip_norm": _first_last([payload.get("clip_norm") for payload in released]),
        "noise_multiplier": details.get("noise_multiplier"),
        "least_noise_multiplier_released": _least_multiplier(records.entries),
        "noise_stddev_of_sum": _first_last(stddevs),
        "noise_stddev_of_mean": _first_last(
            [None if stddev is None else stddev / expected for stddev in stddevs]
        ),
        "expected_cohort_size": expected,
        "cohort_size": {
            "lowest": min(sizes, default=None),
            "mean": sum(sizes) / len(sizes) if sizes else None,
            "highest": max(sizes, default=None),
        },
    }


def sampling(records: RunRecords) -> dict[str, Any]:
    """The sampler that ran, its seed, and how often clients took part."""
    declared = dict(records.plan.required("sampling"))
    name = declared.pop("name")
    sampler = sampling_of(records.entries)
    return {
        "name": name,
        "meaning": _SAMPLERS.get(name, wording.NOT_STATED),
        **declared,
        "expected_cohort_size": sampler.expected_cohort_size,
        "turn_rate": turn_rate(sampler) if name == "min_separation" else None,
        "most_participations": sampler.most_participations(records.plan.required("rounds_planned")),
        "seed_policy": "nothing is drawn"
        if name == "full"
        else "drawn anew for each round from (--seed, round); must be secret, see Seeds"
        if records.plan.required("seeds.cohorts") == "from --seed"
        else "drawn anew for each round from (secret seed, round), see Seeds",
        "highest_participation": records.run.required("participation.highest"),
        "smallest_separation": records.run.stated("participation.smallest_separation"),
    }


def evidence(records: RunRecords, spent: Spending) -> dict[str, Any]:
    """The ledger, the noise self-test and the audit."""
    return {
        "ledger": {
            "entries": len(records.entries),
            "releases": spent.releases,
            "repeated": spent.repeated,
            "started_without_release": spent.failed,
            "resumed": len(payloads(records.entries, "resumed")),
            "recovered": len(payloads(records.entries, "recovered")),
            "head": records.entries[-1].hash,
        },
        "verify": VERIFY_COMMAND,
        "limits": "The hashes show an edit, a missing and a reordered entry. They are not signed: "
        "who can write the folder can write a new ledger. Keep the hash of the last entry "
        "somewhere else to notice that.",
        "noise_self_test": records.evaluation.stated("noise_self_test"),
        "audit": records.evaluation.stated("audit"),
    }


def _least_multiplier(entries: Sequence[Entry]) -> float | None:
    """The smallest noise multiplier that any release emitted."""
    rule = rule_of(entries)
    return min(
        (rule.noise_multiplier(release.event) for release in releases_of(entries)), default=None
    )


def _first_last(values: Sequence[float | None]) -> dict[str, float | None]:
    """The first and the last value."""
    return {"first": values[0] if values else None, "last": values[-1] if values else None}
