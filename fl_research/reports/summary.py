"""What the terminal shows at the end of a run: the metric, the baselines, the claim, the paths."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from fl_research.reports import markdown_accounting, wording
from fl_research.run.record_files import read_json
from fl_research.run.run_directory import REPORT_HTML, REPORT_JSON, REPORT_MARKDOWN

Rows = list[tuple[str, str]]


def print_summary(folder: Path, console: Console | None = None) -> None:
    """Prints the summary of a run whose report is written; plain lines where there is no terminal.

    Args:
      folder: The run's folder.
      console: Where to print; standard output by default.

    Raises:
      InputError: The folder has no readable report.json.
    """
    folder = Path(folder)
    report = read_json(folder / REPORT_JSON)
    console = console or Console(file=sys.stdout)
    rows = _figures(report)
    paths = [
        ("report", str(folder / REPORT_MARKDOWN)),
        ("to read or print", str(folder / REPORT_HTML)),
        ("plots", str(folder / "plots")),
        ("check it", f"python -m experiments.verify_report --run={folder}"),
    ]
    if console.is_terminal:
        table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, value, style="bold" if name.startswith("test ") else None)
        console.print(table, highlight=False)
        rows = []
    claim = [("privacy", report["privacy"]["sentence"])]
    if audit := report["evidence"]["audit"]:
        bounds = markdown_accounting.audit_words(audit, report["privacy"]["epsilon"])
        claim.append(("audit", bounds))
    warnings = [("warning", line) for line in report["privacy"]["warnings"]]
    for name, value in [*rows, *claim, *warnings, *paths]:
        console.print(f"{name}: {value}", soft_wrap=True, highlight=False, markup=False)


def _figures(report: Mapping[str, Any]) -> Rows:
    """The figures: metric, baselines, clients, rounds."""
    utility, run = report["utility"], report["run"]
    primary = utility["primary_metric"]
    name = wording.metric(primary)
    rows = [(f"test {name}", wording.number(utility["test"].get(primary)))]
    for baseline, metrics in utility["baselines"].items():
        value = wording.number(metrics.get(primary))
        rows.append((f"{name}, {wording.baseline(baseline)}", value))
    spread = utility["per_client"].get("accuracy")
    if spread and report["data"].get("largest_client_rows") != 1:
        values = " / ".join(wording.number(spread[key]) for key in ("p10", "p50", "p90"))
        rows.append(("accuracy over clients, 10/50/90 %", values))
    rounds = f"{run['rounds']:,} of {run['rounds_planned']:,}, {run['status'].replace('_', ' ')}"
    rows.append(("rounds", f"{rounds}, {wording.seconds(run['seconds'])}"))
    rows.append(("clients, examples", f"{report['data']['clients']:,}, "
                 f"{report['data']['examples']:,}"))  # fmt: skip
    return rows
