"""The privacy part of a report: the sentence, and everything that a reader needs to defend it.

ε is recomputed from the ledger; nothing here takes an ε from another record. What one unit's
presence can change is put in words by two bounds that (ε, δ)-DP implies: the factor e^ε on an
attacker's odds, and the best true positive rate of a membership test at a false positive rate
(Kairouz, Oh, Viswanath 2015). What has to be stated follows Ponomareva et al. 2023, "How to DP-fy
ML", and NIST SP 800-226.
"""

import math
from typing import Any

from fl_research.privacy import accounting
from fl_research.privacy.accounting_rules.examples import Rule as ExamplesRule
from fl_research.privacy.rounding import rounded_up
from fl_research.privacy.spending import Spending, rule_of, sampling_of
from fl_research.reports import wording
from fl_research.reports.person import person_statement
from fl_research.reports.run_records import RunRecords
from fl_research.run import cohort_seed

FALSE_POSITIVE_RATE = 0.01
NO_GUARANTEE = (
    "No differential privacy: this run added no noise, so there is no ε and no guarantee for "
    "anyone whose records it used."
)

_RELATIONS = {
    "add_or_remove_one": "two data sets are neighbours if one is the other with {unit} added or "
    "removed",
    "replace_one": "two data sets are neighbours if they are of one size and differ in {unit}",
    "zero_out": "two data sets are neighbours if one is the other with the data of {unit} taken "
    "out; its place stays, and with it all that follows from how many there are",
}
_HYPOTHESES = {
    "add_or_remove_one": "{unit} was or was not in the training data",
    "replace_one": "{unit} and not a given other was in the training data",
    "zero_out": "the data of {unit} was or was not in the training data",
}
_RELEASED = {
    "central": "the model of every round ({releases}) and so of the final model",
    "local": "all that a client sends to the server in {releases}, and so of every model that is "
    "made from it",
}


def privacy(records: RunRecords, spent: Spending) -> dict[str, Any]:
    """The claim: the sentence, its meaning in plain words, its numbers, and warnings.

    Args:
      records: The run's records.
      spent: What the ledger's releases cost.

    Raises:
      InputError: A record does not state what the sentence needs.
    """
    unit = unit_of(records)
    section = {
        "guarantee": spent.private,
        "sentence": NO_GUARANTEE,
        "plain_words": [],
        "warnings": _warnings(records, spent),
        "epsilon": None,
        "delta": None,
        "unit": unit,
        "neighboring_relation": spent.relation,
        "accountant": None,
        "accountant_reason": None,
        "noise_multiplier": records.plan.stated("details.noise_multiplier"),
        "target_epsilon": records.plan.stated("target_epsilon"),
        "releases": spent.releases,
        "epsilon_by_accountant": spent.epsilon_by_accountant,
        "epsilon_without_amplification": None,
    }
    return section | _claim(records, spent, unit) if spent.private else section


def _claim(records: RunRecords, spent: Spending, unit: str) -> dict[str, Any]:
    """What there is to state only where there is a guarantee."""
    epsilon, delta = spent.claim.epsilon, records.plan.required("delta")
    factor = accounting.max_odds_factor(epsilon)
    rate = accounting.best_true_positive_rate(epsilon, delta, FALSE_POSITIVE_RATE)
    return {
        "sentence": (
            f"(ε, δ)-DP with ε = {rounded_up(epsilon)}, δ = {wording.probability(delta)}, "
            f"for {unit}, under {wording.relation(spent.relation)}, for the release of "
            f"{_released(records, spent)}."
        ),
        "plain_words": [
            *_plain_words(unit, spent.relation, factor, rate),
            *_reliance(spent),
        ],
        "epsilon": epsilon,
        "delta": delta,
        "accountant": spent.claim.accountant,
        "accountant_reason": spent.claim.reason,
        "noise_multiplier": records.plan.required("details.noise_multiplier"),
        "epsilon_without_amplification": spent.epsilon_without_amplification,
        "odds_factor": factor,
        "false_positive_rate": FALSE_POSITIVE_RATE,
        "true_positive_rate_at_most": rate,
    }


def unit_of(records: RunRecords) -> str:
    """Returns what the guarantee is for: the unit of the plan, such as "one customer".

    Args:
      records: The run's records.
    """
    return str(records.plan.stated("unit") or records.run.required("data.unit"))


def _released(records: RunRecords, spent: Spending) -> str:
    """What the guarantee is about."""
    trust = rule_of(records.entries).trust
    released = _RELEASED[trust].format(
        releases=wording.count(spent.releases, "round" if trust == "local" else "release")
    )
    if records.plan.stated("details.private_metrics"):
        released += ", and of the noised training metrics of every round"
    return released


def _plain_words(unit: str, relation: str, factor: float, rate: float) -> list[str]:
    """The claim for a reader without the mathematics."""
    hypothesis = _HYPOTHESES[relation].format(unit=unit.replace("one ", "a given ", 1))
    if math.isinf(factor):
        odds = "by a factor with hundreds of digits: ε is so large that it limits nothing"
    else:
        odds = f"by at most the factor e^ε = {rounded_up(factor)}, up or down"
    return [
        f"Whatever an attacker knows already, all releases together can change the odds that "
        f"{hypothesis} {odds}, apart from a failure of probability about δ.",
        "A test of membership that wrongly names 1 % of the others finds at most "
        f"{wording.percent_up(rate)} of the members. (Guessing finds 1 %.)",
    ]


def _reliance(spent: Spending) -> list[str]:
    """How much of the claim rests on nobody knowing who was drawn."""
    if not spent.amplified:
        return [
            "This relies on no secret but the noise: who took part in which round may be known."
        ]
    unsampled = rounded_up(spent.epsilon_without_amplification)
    drawn = (
        "which record was in which step"
        if spent.unit == "record"
        else ("who took part in which round")
    )
    return [
        f"This relies on nobody learning {drawn}; for someone who does, ε is {unsampled} (see "
        "Seeds)."
    ]


def _warnings(records: RunRecords, spent: Spending) -> list[str]:
    """What a reader must not overlook."""
    lines = []
    status = records.run.required("status")
    if status in ("running", "interrupted", "failed"):
        lines.append(f"The run has not ended properly (status: {status}).")
    if records.run.required("data.schema_inferred"):
        lines.append(
            "The schema was inferred: bounds and categories were read off the private records, "
            "and ε does not cover that."
        )
    if not spent.releases:
        lines.append("No round was released: the model is the one that training starts from.")
    self_test = records.evaluation.stated("noise_self_test")
    if self_test and not self_test["passed"]:
        lines.append(
            "The noise self-test FAILED: the noise measured is not the noise declared. Do not rely "
            "on ε."
        )
    if not spent.private:
        return lines
    lines += _participation_warning(records)
    if records.plan.stated("early_finish"):
        lines.append(
            "The run could finish early, by a rule that looks at the released models; ε therefore "
            "counts all planned rounds, whether they ran or not."
        )
    delta = records.plan.required("delta")
    units = records.run.required("data.split.train_clients")
    rule = rule_of(records.entries)
    if isinstance(rule, ExamplesRule):
        units = sum(size.rows * size.clients for size in rule.sizes)
    if large_delta := accounting.large_delta_warning(delta, units, f"{rule.unit}s"):
        lines.append(f"{large_delta}.")
    target = records.plan.stated("target_epsilon")
    if target is not None and spent.claim.epsilon > target:
        lines.append(
            f"ε = {rounded_up(spent.claim.epsilon)} is above the target of {target:g} that "
            "the run was planned for."
        )
    if records.run.stated("seeds.noise_seed") is not None:
        lines.append(
            "The noise came from a noise seed that the records hold: whoever knows it can take the "
            "noise off. ε holds for a release only if the seed stays secret for ever."
        )
    return lines


_TRUST = {
    "central": {
        "model": "central; federated training simulated on one party's machines",
        "trusted_party": "The party that runs this program is trusted with everything: it holds "
        "all raw records, sees every client's update, and knows the seeds, the cohorts and the "
        "noise. There is no secure aggregation and no noise at the clients.",
    },
    "local": {
        "model": "local; the server is not trusted. Federated training simulated on one party's "
        "machines",
        "trusted_party": "Nobody but the client itself would be trusted: what a client sends is "
        "noised before it leaves. In this simulation the clients are part of one program, so the "
        "party that runs it holds all raw records and draws the clients' noise; the guarantee is "
        "the one that real clients would have against their server.",
    },
}
_SEES = {
    "central": "Sees every release listed below.",
    "local": "Is the server, or anybody who sees what clients send to it.",
}


def _participation_warning(records: RunRecords) -> list[str]:
    """What is wrong if clients took part more often, or closer together, than is accounted for."""
    sampling = sampling_of(records.entries)
    highest = records.run.required("participation.highest")
    separation = records.run.stated("participation.smallest_separation")
    most = sampling.most_participations(records.plan.required("rounds_planned"))
    if highest <= most and (separation is None or separation >= sampling.separation):
        return []
    return [
        f"A client took part in {wording.count(highest, 'round')}, the closest "
        f"{wording.count(separation, 'round')} apart, where the accounting assumes at most {most} "
        f"rounds, {sampling.separation} apart. Do not rely on ε."
    ]


def setting(records: RunRecords, spent: Spending) -> dict[str, Any]:
    """Central, local or distributed, and who is trusted with what."""
    rule = rule_of(records.entries)
    hidden = ", nor which clients were in which cohort" if spent.amplified else ""
    if rule.unit == "record":
        hidden = ", nor which records were in which step"
    return {
        **_TRUST[rule.trust],
        "attacker": _SEES[rule.trust] + " Knows this program and its settings but for the seeds, "
        f"and may know all records but those of one unit. Does not know the noise{hidden}.",
        "simulation": "Clients are groups of records on the same machines, not separate devices; "
        "what a network, a device or a server operator could see is not part of this statement.",
    }


def unit(records: RunRecords) -> dict[str, Any]:
    """The unit of privacy and how much one unit can contribute."""
    run = records.run
    rule = rule_of(records.entries)
    cap = run.stated("data.max_rows_per_client")
    clip = records.plan.stated("details.clip_norm")
    contains = run.required("data.unit_contains")
    if rule.unit == "record":
        contains = f"one row; a client holds {contains}, and its other rows are not part of it"
    return {
        "unit": unit_of(records),
        "protected": rule.unit,
        "contains": contains,
        "max_rows_per_client": cap,
        "largest_client_rows": run.stated("data.largest_client_rows"),
        "bound": [
            "rows: no cap"
            if cap is None
            else f"rows: at most {cap:,} a client; a client with more keeps a random choice",
            "update: not bounded" if clip is None else _bound_of_update(records, rule.unit),
            "rounds: " + _bound_of_rounds(records),
        ],
        "several_clients": person_statement(records),
    }


def _bound_of_update(records: RunRecords, protected: str) -> str:
    """What one unit can contribute to a release or a step."""
    if protected == "record":
        return (
            "gradient: the L2 norm of each record's own gradient is clipped before it is added; a "
            "client's update as a whole is not bounded, and the client is not protected as such"
        )
    norm = records.plan.stated("details.parameters.norm_of_clip") or "L2"
    return (
        f"update: the {norm} norm of a client's whole update is clipped before it is added; this "
        "is what bounds the contribution, however many rows a client has"
    )


def _bound_of_rounds(records: RunRecords) -> str:
    """In how many rounds one client can take part."""
    sampling = sampling_of(records.entries)
    most = sampling.most_participations(records.plan.required("rounds_planned"))
    if sampling.separation > 1:
        return (
            f"a client takes part at most once in any {sampling.separation} rounds in a row, and "
            f"so in {wording.count(most, 'round')} at most; the sampler makes sure of it"
        )
    return "each round in which a client takes part is accounted for"


def adjacency(records: RunRecords, spent: Spending) -> dict[str, Any]:
    """The neighbouring relation and the sensitivity that follows from it."""
    meaning = _RELATIONS[spent.relation].format(unit=unit_of(records))
    clip = records.plan.stated("details.clip_norm")
    return {
        "relation": spent.relation,
        "meaning": meaning,
        "sensitivity_in_clips": spent.sensitivity_in_clips if clip is not None else None,
        "sensitivity": None if clip is None else spent.sensitivity_in_clips * clip,
        "norm": records.plan.stated("details.parameters.norm_of_clip") or "L2",
        "sensitivity_meaning": _sensitivity_meaning(records),
        "squared_sensitivity_of_all_rounds": records.plan.stated(
            "details.parameters.squared_sensitivity_of_all_rounds"
        ),
    }


def _sensitivity_meaning(records: RunRecords) -> str:
    """What the sensitivity is a distance of."""
    of = {
        ("central", "client"): "the sums of one round of two neighbours",
        ("local", "client"): "what one client sends in one round for any two data sets of its own",
        ("local", "record"): "a step's sums of gradients of two neighbours",
    }
    rule = rule_of(records.entries)
    return (
        f"largest distance between {of[rule.trust, rule.unit]}, before noise, at the initial clip "
        "norm"
    )


def seeds(records: RunRecords, spent: Spending) -> dict[str, Any]:
    """What is reproducible, and what has to stay secret."""
    seed = records.run.required("seeds.seed")
    noise_seed = records.run.stated("seeds.noise_seed")
    from_seed = records.plan.required("seeds.cohorts") == "from --seed"
    lines = [
        f"--seed={seed} fixes the split and the model's start"
        + (", the order of local examples and the cohort of every round." if from_seed else ".")
    ]
    if spent.private:
        lines.append(
            "Noise: fresh entropy of the operating system; the run cannot be repeated to the bit, "
            "and nobody can draw the noise again."
            if noise_seed is None
            else "Noise: from --noise_seed; with it the run can be repeated to the bit. A "
            "published noise seed VOIDS the claim: whoever knows it can take the noise off. For a "
            "real release run without one."
        )
        lines += _secrecy(records, spent)
    elif noise_seed is None:
        lines.append(
            "No noise was drawn. The cohorts come from fresh entropy; with --noise_seed they "
            "follow from --seed, and the run can be repeated to the bit on the same machine."
        )
    return {"seed": seed, "noise_seed_given": noise_seed is not None, "statements": lines}


def _secrecy(records: RunRecords, spent: Spending) -> list[str]:
    """What an attacker must not know, and attacks that are left out."""
    lines = []
    if rule_of(records.entries).unit == "record":
        lines.append(
            "Which record is in which step follows from the secret noise key. Amplification by "
            "sampling holds only while that stays unknown."
        )
    elif spent.amplified:
        lines.append(
            "The cohorts are drawn from --seed, because a noise seed was given. Amplification by "
            "sampling holds only while the cohorts stay secret; this report, run.json, flags.txt "
            "and ledger.jsonl name the seed. Once it is known, the ε that holds is the one without "
            "amplification by sampling."
            if records.plan.required("seeds.cohorts") == "from --seed"
            else f"The cohorts are drawn from 128 random bits that stay in {cohort_seed.FILE_NAME} "
            "in the run's folder; no other record holds them, the ledger only their SHA-256. "
            "Amplification by sampling holds only while the cohorts stay secret: do not publish "
            "that file. Once it is known, the ε that holds is the one without amplification by "
            "sampling."
        )
    return [
        *lines,
        "The noise generator is not cryptographic. Attacks on random generators and on "
        "floating-point arithmetic (Mironov 2012) are out of scope.",
    ]
