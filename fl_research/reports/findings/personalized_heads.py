"""The finding `personalized_heads`: each department's AUC, global model against own head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fl_research.reports.markdown_blocks import table
from fl_research.reports.plot_base import BLUE, GRID, MUTED, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "A last layer of its own for each department"
_MOST_DRAWN = 25


def figure(finding: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Figure:
    """Draws, for each department, AUC of the global model and of its own head, joined by a line.

    Args:
      finding: From `analyses.personalized_heads`.
      evaluation: evaluation.json; not used.
    """
    del evaluation
    rows = [row for row in finding["departments"] if row["auc_global"] is not None]
    rows = sorted(rows[:_MOST_DRAWN], key=lambda row: row["auc_global"])
    drawn = new_figure(7.6, 1.8 + 0.3 * max(len(rows), 1))
    ax = drawn.subplots()
    for place, row in enumerate(rows):
        before, after = row["auc_global"], row["auc_personal"]
        ax.plot([before, after], [place, place], color=MUTED, linewidth=1.4, zorder=2)
    places = range(len(rows))
    ax.scatter([r["auc_global"] for r in rows], places, color=MUTED, s=34, zorder=3, label="global")
    ax.scatter(
        [r["auc_personal"] for r in rows],
        places,
        s=34,
        zorder=4,
        color=[_color(r["auc_personal"] - r["auc_global"]) for r in rows],
        label="own head",
    )
    ax.set_yticks(list(places), [f"{r['department']} ({r['test_rows']:,})" for r in rows])
    ax.set_ylim(-0.7, max(len(rows), 1) - 0.3)
    ax.grid(axis="y", color=GRID, linewidth=0.6)
    ax.set_xlabel("AUC on the department's test rows (their number in brackets)")
    ax.set_title("Global model grey; own last layer blue, where worse orange")
    return drawn


def lines(finding: Mapping[str, Any]) -> list[str]:
    """Returns the table of departments as Markdown, with a sentence on what it says."""
    departments, together = finding["departments"], finding["together"]
    judged = [row for row in departments if row["auc_global"] is not None]
    better = sum(row["auc_personal"] > row["auc_global"] for row in judged)
    worse = sum(row["auc_personal"] < row["auc_global"] for row in judged)
    sentence = (
        f"Of {len(judged)} departments with both labels among their test rows, a last layer of its "
        f"own is better for {better} and worse for {worse}, by AUC. Over all test rows together "
        f"the log loss goes from {together['log_loss_global']:.4f} to "
        f"{together['log_loss_personal']:.4f}. The layers stay with the departments."
    )
    if finding["left_out"]:
        sentence += f" {finding['left_out']:,} smaller departments were left out."
    head = (
        "Department", "Training rows", "Test rows", "Share of 1", "AUC global", "AUC own",
        "Log loss global", "Log loss own", "Steps",
    )  # fmt: skip
    rows = [_row(row["department"], row) for row in departments]
    return [sentence, "", *table(head, [*rows, _row("all together", together)])]


def released(finding: Mapping[str, Any]) -> str:
    """Returns what was computed without noise."""
    rows = finding["together"]["test_rows"]
    return (
        f"AUC and log loss of each of {len(finding['departments'])} departments, from {rows:,} "
        "test rows, of the global model and of a last layer that the department trained on its own "
        "training rows without noise; the layers themselves were not released"
    )


def _color(gain: float) -> str:
    """Blue for a gain, orange for a loss, grey for neither."""
    if gain == 0:
        return MUTED
    return BLUE if gain > 0 else ORANGE


def _row(name: str, row: Mapping[str, Any]) -> list[str]:
    """One row of the table."""
    return [
        name,
        f"{row['training_rows']:,}" if "training_rows" in row else "",
        f"{row['test_rows']:,}",
        f"{row['positive_share']:.3f}",
        *(_auc(row[f"auc_{which}"]) for which in ("global", "personal")),
        *(f"{row[f'log_loss_{which}']:.4f}" for which in ("global", "personal")),
        str(row.get("steps", "")),
    ]


def _auc(value: float | None) -> str:
    """An AUC; none where all labels are the same."""
    return "none" if value is None else f"{value:.4f}"
