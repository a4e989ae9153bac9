"""The finding `feature_effects`: how much worse the model gets without what a column says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research import metric_table
from fl_research.reports import wording
from fl_research.reports.plot_base import BLUE, INK, MUTED, PALE_BLUE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Feature effects: what the model goes by"
MOST_DRAWN = 20


def figure(finding: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Figure:
    """Returns horizontal bars, the largest effect on top, with their spread over repeats.

    Args:
      finding: From `analyses.feature_effects`.
      evaluation: evaluation.json; not used.
    """
    del evaluation
    shown = _shown(finding)[::-1]
    drawn = new_figure(7.2, 1.3 + 0.29 * max(len(shown), 2))
    ax = drawn.subplots()
    place = np.arange(len(shown))
    effects = [column["effect"] for column in shown]
    ax.barh(
        place, effects, xerr=[column["spread"] for column in shown], color=PALE_BLUE,
        ecolor=BLUE, height=0.68,
    )  # fmt: skip
    ax.axvline(0, color=MUTED, linewidth=0.8)
    ax.set_yticks(place, [wording.shortened(column["column"], 34) for column in shown])
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    for at, column in zip(place, shown, strict=True):
        ax.annotate(
            _digits(column["effect"]),
            (max(column["effect"], 0) + column["spread"], at),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=INK,
            fontsize=9,
        )
    ax.margins(x=0.12, y=0.02)
    ax.set_xlabel(f"{_worse(finding)} without the column")
    left_out = len(finding["columns"]) - len(shown)
    more = f"; {left_out} weaker ones are not drawn" if left_out else ""
    ax.set_title(f"Feature effects{more}")
    return drawn


def lines(finding: Mapping[str, Any]) -> list[str]:
    """Returns the table of effects as Markdown, and how to read it."""
    base = finding["base"]
    written = [
        f"Each column in turn is replaced in the clients' rows by draws from its distribution over "
        f"all {finding['clients']:,} test clients, so that it says nothing any more. The effect is "
        f"the {_worse(finding)} ({'not defined' if base is None else wording.number(base)} with "
        f"all columns), the mean of {finding['repeats']} draws. It says what the model goes by, "
        "not what causes what: of columns that say the same, one may have the effect of all.",
        "",
        f"| Column | {wording.sentence_case(_worse(finding))} | Standard deviation over draws |",
        "|:--|--:|--:|",
    ]
    for column in finding["columns"]:
        name = str(column["column"]).replace("|", "\\|")
        if column["effect"] is None:
            written.append(f"| {name} | not defined | not defined |")
        else:
            effect, spread = _digits(column["effect"]), _digits(column["spread"])
            written.append(f"| {name} | {effect} | {spread} |")
    return written


def released(finding: Mapping[str, Any]) -> str:
    """Returns what was computed without noise."""
    return (
        f"feature effects: counts of the values of {len(finding['columns'])} columns over "
        f"{finding['clients']:,} test clients, and {finding['repeats']} evaluations on them for "
        "each column"
    )


def _shown(finding: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The columns that are drawn, the largest effect first."""
    return [c for c in finding["columns"] if c["effect"] is not None][:MOST_DRAWN]


def _worse(finding: Mapping[str, Any]) -> str:
    """What an effect is, in words."""
    way = "drop" if metric_table.sign(finding["metric"]) > 0 else "rise"
    return f"{way} of {wording.metric(finding['metric'])}"


def _digits(value: float) -> str:
    """Four digits, and no minus before a zero."""
    return f"{round(value, 4) + 0.0:.4f}"
