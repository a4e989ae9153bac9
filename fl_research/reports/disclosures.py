"""What a run released with noise, what it released without, and what its ε leaves out.

An ε speaks only of what went through the mechanism. Everything else that was computed from private
records and written down is listed here, one line each, so that nobody has to find it.
"""

from collections.abc import Mapping
from typing import Any

from fl_research.privacy.ledger import payloads
from fl_research.privacy.spending import rule_of
from fl_research.reports.findings import registry as findings
from fl_research.reports.run_records import RunRecords


def released(records: RunRecords, *, private: bool) -> dict[str, list[str]]:
    """What left the run, with and without noise.

    Args:
      records: The run's records.
      private: Whether the mechanism adds noise.

    Returns:
      `with_noise` and `without_noise`: lists of one line each.
    """
    models = "the model of every round, and so the final model"
    if rule_of(records.entries).trust == "local":
        models = "what a client sends in each round it takes part in, and so every model made of it"
    return {
        "with_noise": [*_noised(records, models)] if private else [],
        "without_noise": _not_noised(records, [] if private else [models]),
    }


def _noised(records: RunRecords, models: str) -> list[str]:
    """What the guarantee is about."""
    lines = [f"{models} (checkpoints/, final_model/)"]
    norms = {payload.get("clip_norm") for payload in payloads(records.entries, "release")}
    if len(norms) > 1:
        lines.append("the clip norm of every round, which was adapted by a noised quantile")
    metrics = _private_metrics(records)
    if metrics:
        lines.append(
            f"training loss and number of clients of every round, for {metrics['share']:.3g} of "
            "the noise's precision, which is 1 / variance (noise multiplier "
            f"{metrics['noise_multiplier']:.4g}; {metrics['update_noise_multiplier']:.4g} for the "
            f"update): each client's mean loss is clipped to [0, {metrics['loss_bound']:g}] "
            "(metrics.csv, tensorboard/, beside the model in checkpoints/)"
        )
    return lines


def _private_metrics(records: RunRecords) -> dict[str, Any]:
    """Share, noise and bound of the training metrics; empty where they have no noise."""
    return dict(records.plan.stated("details.private_metrics") or {})


def _training_lines(records: RunRecords) -> list[str]:
    """What was written down of the cohorts without noise."""
    if _private_metrics(records):
        return [
            "cohort size of every round (metrics.csv, tensorboard/, ledger.jsonl, checkpoints/)"
        ]
    return [
        "training loss of every round, over the cohort's own records (metrics.csv, tensorboard/, "
        "beside the model in checkpoints/)",
        "cohort size and number of training examples of every round, and how many updates were "
        "not finite (metrics.csv, ledger.jsonl, checkpoints/)",
    ]


def _not_noised(records: RunRecords, lines: list[str]) -> list[str]:
    """Everything else that was computed from private records and written down."""
    run, evaluation = records.run, records.evaluation
    lines = [
        *lines,
        *_training_lines(records),
        "how long each round took, which follows from the rows of its cohort (metrics.csv, "
        "tensorboard/, checkpoints/)",
        _validation_line(records),
        "test metrics, their percentiles and histograms over clients: from the records of "
        f"{run.required('data.split.test_clients'):,} {_evaluated_clients(records, 'test')} "
        "(evaluation.json, plots/, this report)",
        *(
            f"{findings.load(name).released(finding)} (evaluation.json, plots/, this report)"
            for name, finding in (evaluation.stated("findings") or {}).items()
        ),
    ]
    if evaluation.stated("baselines"):
        lines.append(
            "test metrics of the baselines; the baselines were trained on the same training "
            "records without noise (evaluation.json, this report)"
        )
    lines.append(
        "numbers of clients and examples, size of the largest client, realised participation "
        "(run.json, this report)"
    )
    if run.required("data.schema_inferred"):
        lines.append(
            "kinds, bounds and categories of the columns, read off the records "
            "(final_model/model.json)"
        )
    lines += [f"{line} (run.json, this report)" for line in run.stated("data.disclosed") or []]
    if run.stated("data.cleaning"):
        lines.append("counts of the cleaning rules (run.json, run.log, this report)")
    if run.stated("data.sha256"):
        lines.append(
            "checksum of the data: whoever guesses the whole file can confirm the guess "
            "(run.json, this report)"
        )
    return lines


def _evaluated_clients(records: RunRecords, split: str) -> str:
    """Who the clients of a split are, and whether they have the guarantee."""
    if records.run.stated("data.test_clients_train"):
        return (
            "clients who train too: the guarantee is about the model that their other records "
            "trained, and these figures are outside it"
        )
    return f"{split} clients, who get no guarantee"


def _validation_line(records: RunRecords) -> str:
    """Evaluation on validation clients, and whether it decided anything."""
    clients = int(records.run.stated("data.split.validation_clients") or 0)
    if not clients:
        return "no validation metrics: no clients were kept for validation"
    use = (
        "they also decided when training ended (early finish was on)"
        if records.run.stated("early_finish")
        else "they did not decide when training ended (early finish was off)"
    )
    rounds = records.run.stated("evaluation_schedule") or "at intervals not stated"
    return (
        f"validation metrics {rounds}, from the records of {clients:,} "
        f"{_evaluated_clients(records, 'validation')}; {use} (metrics.csv, tensorboard/, plots/)"
    )


def not_covered(records: RunRecords, selected: Mapping[str, Any] | None) -> list[str]:
    """Returns what ε does not speak of, one line each.

    Args:
      records: The run's records.
      selected: What the report says of the hyperparameter search that the run belongs to, if any.
    """
    run = records.run
    lines = [_encoding_line(records), _cleaning_line(records)]
    unit = run.required("data.unit")
    if rule_of(records.entries).trust == "local":
        lines.append(
            "That a client takes part in a round, and how many records it has: the server sees who "
            "sends something, and a client without records sends nothing."
        )
    lines += [
        "Vocabularies and encodings: none was learned from records beyond what is said above."
        if not run.required("data.schema_inferred")
        else "Vocabularies and encodings: the categories come from the inferred schema.",
        *_choice_lines(selected),
        _split_line(records),
        "Numbers taken as public: the number of training clients, and the expected cohort size.",
        "Everything under 'released without noise'. Publish it only if that is acceptable without "
        "a guarantee.",
        "Other runs on the same records, repeated runs and trials included: their ε add up with "
        "this one.",
        f"Facts about {unit} that others' records tell too: the guarantee limits what taking part "
        "adds, not what can be learned from the population.",
        "Attacks on floating-point arithmetic and on the random generators (see Seeds).",
    ]
    return lines


def _choice_lines(selected: Mapping[str, Any] | None) -> list[str]:
    """How the hyperparameters were chosen, and what of that ε does not cover."""
    if selected is None:
        return [
            "Choice of hyperparameters (learning rates, clip norm, rounds, model): how they were "
            "chosen is not stated. If they were tuned on these records, each trial adds to ε."
        ]
    if not selected["chosen"]:
        return [f"Choice of hyperparameters: {selected['statement']}"]
    return [
        f"Choice of hyperparameters by the search {selected['name']}: see the claim for ε of the "
        "selection as a whole.",
        *selected["conditions"],
    ]


def _split_line(records: RunRecords) -> str:
    """Whom the guarantee is for, and whom not."""
    trained = f"{records.run.required('data.split.train_clients'):,} training clients"
    if records.run.stated("data.test_clients_train"):
        return (
            f"Validation and test records: they are of the {trained}, but were kept out of the "
            "training; metrics on them are outside the guarantee. The split is taken as fixed."
        )
    return (
        "Validation and test clients: they get no guarantee. ε is about the "
        f"{trained}; the split is taken as fixed."
    )


def _encoding_line(records: RunRecords) -> str:
    """Where bounds, categories and other encodings come from."""
    if encoding := records.run.stated("data.encoding"):
        return f"Encoding: {encoding}."
    if records.run.required("data.schema_inferred"):
        return (
            "Schema inference: column bounds and categories were READ OFF THE PRIVATE RECORDS. "
            "That access is not covered by ε; give a schema to avoid it."
        )
    return "Schema: declared as public knowledge; no bounds or categories were read off records."


def _cleaning_line(records: RunRecords) -> str:
    """The rules that changed or dropped rows before training."""
    if not records.run.stated("data.cleaning"):
        return "Cleaning: no rule acted. How the rules were chosen is not stated."
    return (
        "Cleaning rules and their thresholds (see Data): they acted before training. How they "
        "were chosen is not stated."
    )


def declared_public(records: RunRecords) -> list[str]:
    """What the run's record declares to be public, or an empty list."""
    declared: Any = records.run.stated("data.public")
    return [str(line) for line in declared] if declared else []
