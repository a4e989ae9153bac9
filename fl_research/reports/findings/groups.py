"""The finding `groups`: how satisfied the customers of each group are, observed and predicted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.reports import wording
from fl_research.reports.plot_base import BLUE, GRID, ORANGE, new_figure
from fl_research.reports.satisfaction_wording import level_at, prediction_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Satisfaction by group"
_MOST_DRAWN = 30


def figure(finding: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Figure:
    """Returns the observed and the predicted mean of each group, the most satisfied on top.

    Args:
      finding: From `analyses.groups`.
      evaluation: evaluation.json; not used.
    """
    from matplotlib.ticker import MaxNLocator

    del evaluation
    shown = finding["groups"][:_MOST_DRAWN][::-1]
    drawn = new_figure(7.2, 1.5 + 0.29 * max(len(shown), 2))
    ax = drawn.subplots()
    place = np.arange(len(shown))
    observed = [group["observed"] for group in shown]
    predicted = [group["predicted"] for group in shown]
    ax.hlines(place, observed, predicted, color=GRID, linewidth=4)
    ax.plot(observed, place, "o", color=BLUE, markersize=7, label="observed")
    ax.plot(predicted, place, "D", color=ORANGE, markersize=4, label="predicted")
    names = [f"{wording.shortened(group['group'], 36)}  ({group['rows']:,})" for group in shown]
    ax.set_yticks(place, names)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.6, len(shown) - 0.4)
    if finding["levels"] is not None:
        levels = finding["levels"]
        ax.xaxis.set_major_formatter(lambda at, _: level_at(levels, at))
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        ax.set_xlim(-0.1, len(levels) - 0.9)
    else:
        ax.set_xlim(-0.02, 1.02)
    mean = "mean " if finding["levels"] is not None else ""
    ax.set_xlabel(f"{mean}{_observed_words(finding)}; in brackets: test rows")
    left_out = len(finding["groups"]) - len(shown)
    ax.set_title(
        f"By {', '.join(finding['columns'])}"
        + (f"; the {left_out} least satisfied are not drawn" if left_out else "")
    )
    drawn.legend(*ax.get_legend_handles_labels(), loc="outside upper right", frameon=False, ncols=2)
    return drawn


def lines(finding: Mapping[str, Any]) -> list[str]:
    """Returns the table of groups as Markdown, and what is left out."""
    metric = wording.sentence_case(wording.metric(finding["metric"]))
    written = [
        f"Groups are the test rows with the same {' and '.join(finding['columns'])}. "
        f"{finding['rows_left_out']:,} rows are in groups of fewer than {finding['min_rows']} rows "
        "or in none, and are left out.",
        "",
        f"| Group | Rows | Clients | Observed {_observed_words(finding)} | Predicted | {metric} |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    for group in finding["groups"]:
        value = "not defined" if group["metric"] is None else wording.number(group["metric"])
        written.append(
            f"| {_cell(group['group'])} | {group['rows']:,} | {group['clients']:,} "
            f"| {prediction_text(finding, group['observed'])} "
            f"| {prediction_text(finding, group['predicted'])} | {value} |"
        )
    return written


def released(finding: Mapping[str, Any]) -> str:
    """Returns what was computed without noise."""
    return (
        f"satisfaction by {', '.join(finding['columns'])}: means and metrics of "
        f"{len(finding['groups'])} groups of {finding['min_rows']} or more test rows each"
    )


def _observed_words(finding: Mapping[str, Any]) -> str:
    """What was observed, in words."""
    if finding["levels"] is not None:
        return "level"
    positive = finding["positive"]
    return "share of label 1" if positive is None else f"share of “{positive}”"


def _cell(name: str) -> str:
    """A cell of a Markdown table."""
    return name.replace("|", "\\|")
