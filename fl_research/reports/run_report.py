"""Builds the report of a run: report.json, report.md, report.html and the plots.

The content of report.json is a function of ledger.jsonl, run.json, metrics.csv, evaluation.json,
and search.jsonl where a hyperparameter search chose the run; report.md is a function of
report.json, report.html of report.json and the plots. So anybody can build them again and compare.
What a report must state follows Ponomareva et al. 2023, "How to DP-fy ML", and NIST SP 800-226.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fl_research.privacy.spending import Spending, spending_of
from fl_research.reports import (
    disclosures,
    html,
    markdown,
    plots,
    privacy_accounting,
    privacy_evidence,
    privacy_statement,
    run_records,
    selection,
)
from fl_research.reports.run_records import RunRecords
from fl_research.run.durable_files import write_atomically
from fl_research.run.record_files import plain_json
from fl_research.run.run_directory import FLAGS, REPORT_HTML, REPORT_JSON, REPORT_MARKDOWN


def build(folder: Path) -> dict[str, Any]:
    """Builds the content of report.json.

    Args:
      folder: The run's folder.

    Returns:
      Plain JSON values; None where something is not stated or infinite. Floats are exact, never
      rounded.

    Raises:
      InputError: A record is missing, or does not state what a report must state.
      LedgerError: The chain of the ledger is broken, or its entries contradict each other.
    """
    records = run_records.read(Path(folder))
    return build_from(records, spending_of(records.entries), selection.section(Path(folder)))


def build_from(
    records: RunRecords, spent: Spending, selected: dict[str, Any] | None
) -> dict[str, Any]:
    """Builds the content of report.json from records that were read already.

    Args:
      records: The run's records.
      spent: What the releases in their ledger cost.
      selected: From `selection.section`.

    Raises:
      InputError: A record does not state what a report must state.
    """
    sections = {
        "title": records.run.required("use_case"),
        "privacy": privacy_statement.privacy(records, spent),
        "selection": selected,
        "setting": privacy_statement.setting(records, spent),
        "unit": privacy_statement.unit(records),
        "adjacency": privacy_statement.adjacency(records, spent),
        "released": disclosures.released(records, private=spent.private),
        "not_covered": disclosures.not_covered(records, selected),
        "declared_public": disclosures.declared_public(records),
        "mechanism": privacy_evidence.mechanism(records),
        "sampling": privacy_evidence.sampling(records),
        "accounting": privacy_accounting.accounting(records, spent),
        "evidence": privacy_evidence.evidence(records, spent),
        "seeds": privacy_statement.seeds(records, spent),
        "utility": _utility(records),
        "data": _data(records),
        "model": _model(records),
        "run": _run(records),
        "repeat": _repeat(records),
    }
    curve = sections["accounting"]["curve"]
    sections["plots"] = [
        {"file": plot.file, "title": plot.title} for plot in _plots(records, curve)
    ]
    return plain_json(sections)


def write(folder: Path) -> dict[str, Any]:
    """Writes report.json, report.md, report.html and plots/ into a run's folder.

    Args:
      folder: The run's folder.

    Returns:
      The content of report.json.

    Raises:
      InputError: A record is missing or says too little, or the folder cannot be written.
      LedgerError: The chain of the ledger is broken, or its entries contradict each other.
    """
    folder = Path(folder)
    records = run_records.read(folder)
    report = build_from(records, spending_of(records.entries), selection.section(folder))
    plots.draw(folder, _plots(records, report["accounting"]["curve"]))
    write_atomically(folder / REPORT_JSON, to_json(report))
    write_atomically(folder / REPORT_MARKDOWN, markdown.render(report))
    write_atomically(folder / REPORT_HTML, html.render(report, folder))
    return report


def to_json(report: dict[str, Any]) -> str:
    """The text of report.json."""
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plots(records: RunRecords, curve: Sequence[tuple[float, float]]) -> list[plots.Plot]:
    """The figures that the records allow."""
    return plots.planned(
        records.metrics,
        records.evaluation.values,
        target_epsilon=records.plan.stated("target_epsilon"),
        curve=curve,
        delta=records.plan.stated("delta"),
    )


def _utility(records: RunRecords) -> dict[str, Any]:
    """How good the model is, over all test examples and over test clients."""
    evaluation = records.evaluation
    primary = evaluation.required("primary_metric")
    test = evaluation.required("test")
    baselines = evaluation.stated("baselines") or {}
    value = test.get(primary)
    return {
        "primary_metric": primary,
        "split": evaluation.required("split"),
        "evaluated_on": evaluation.required("evaluated_on"),
        "test": test,
        "per_client": evaluation.required("per_client"),
        "baselines": baselines,
        "findings": evaluation.stated("findings") or {},
        "difference_to_baselines": {
            name: None
            if value is None or metrics.get(primary) is None
            else value - metrics[primary]
            for name, metrics in baselines.items()
        },
    }


def _data(records: RunRecords) -> dict[str, Any]:
    """What was trained on."""
    run = records.run
    stated = ("dataset", "source", "sha256", "terms", "features", "max_rows_per_client")
    return {
        **{name: run.stated(f"data.{name}") for name in stated},
        "clients": run.required("data.clients"),
        "examples": run.required("data.examples"),
        "split": run.required("data.split"),
        "test_clients_train": bool(run.stated("data.test_clients_train")),
        "largest_client_rows": run.stated("data.largest_client_rows"),
        "schema_inferred": run.required("data.schema_inferred"),
        "cleaning": run.stated("data.cleaning") or {},
        "notes": run.stated("data.notes") or [],
    }


def _model(records: RunRecords) -> dict[str, Any]:
    """The model and how it was trained."""
    names = ("model", "client_update", "client_optimizer", "server_optimizer")
    return {name: records.run.stated(name) for name in names}


def _run(records: RunRecords) -> dict[str, Any]:
    """How long the run was and how it ended."""
    run = records.run
    return {
        "status": run.required("status"),
        "rounds": run.required("rounds_completed"),
        "rounds_planned": run.required("rounds_planned"),
        "seconds": run.required("seconds"),
        "sessions": run.stated("sessions"),
        "early_finish": run.stated("early_finish"),
    }


def _repeat(records: RunRecords) -> dict[str, Any]:
    """What is needed to run it again."""
    run = records.run
    return {
        "command": run.required("command"),
        "flag_file": FLAGS,
        "data_sha256": run.stated("data.sha256"),
        "git_commit": run.stated("git_commit"),
        "versions": run.stated("versions"),
        "machine": run.stated("machine"),
    }
