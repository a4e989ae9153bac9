"""The summary at the end of a run: a table in a terminal, plain lines elsewhere."""

import io
from pathlib import Path

from rich.console import Console

from fl_research.reports import run_report, summary
from tests.reports import example_run


def test_summary(tmp_path: Path) -> None:
    folder = example_run.write(tmp_path / "run", example_run.Example(rounds=4, clients=300))
    report = run_report.write(folder)
    shown = {}
    for terminal in (False, True):
        output = io.StringIO()
        console = Console(file=output, force_terminal=terminal, width=100, color_system=None)
        summary.print_summary(folder, console)
        shown[terminal] = output.getvalue()
        for expected in (
            f"{report['utility']['test']['auc']:.4f}",
            f"{report['utility']['baselines']['central']['auc']:.4f}",
            report["privacy"]["sentence"],
            str(folder / "report.md"),
            f"python -m experiments.verify_report --run={folder}",
        ):
            assert expected in shown[terminal]
    assert "test AUC: 0." in shown[False]
    assert "\x1b" not in shown[False]
