"""The finding `value_effects`: what the model predicts on average for each value of a column."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.reports import wording
from fl_research.reports.plot_base import BLUE, DASHED, MUTED, new_figure
from fl_research.reports.satisfaction_wording import level_at, predicted_words, prediction_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Value effects: what moves the prediction"
_PANELS = 8  # Columns that are drawn.
_PANELS_A_ROW = 4
_MOST_TICKS = 8
_FEW_TICKS = 3  # So many have room for two lines each.


def figure(finding: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Figure:
    """Returns one panel a column, the one that moves the prediction most first.

    Args:
      finding: From `analyses.value_effects`.
      evaluation: evaluation.json; not used.
    """
    del evaluation
    shown = [column for column in finding["columns"] if len(column["values"]) > 1][:_PANELS]
    rows = max(1, -(-len(shown) // _PANELS_A_ROW))
    width = max(1, min(len(shown), _PANELS_A_ROW))
    drawn = new_figure(1.2 + 2.25 * width, 0.8 + 2.3 * rows)
    panels = drawn.subplots(rows, width, sharey=True, squeeze=False)
    drawn.supylabel(f"mean {predicted_words(finding)}", fontsize=10)
    for ax, column in zip(panels.flat, shown, strict=False):
        _panel(ax, column, finding)
    for ax in panels.flat[len(shown) :]:
        ax.set_visible(False)
    return drawn


def lines(finding: Mapping[str, Any]) -> list[str]:
    """Returns the lowest and the highest value of each column as Markdown, and how to read it."""
    written = [
        f"The mean {predicted_words(finding)} over the rows of {finding['clients']:,} test clients "
        f"is {prediction_text(finding, finding['average'])}. If all of them had the value of a "
        "column that the table names, all else as it is, it would be what stands beside it. This "
        "describes the model; it does not say that a change of the value would change anybody's "
        "mind.",
        "",
        "| Column | Lowest at | Prediction | Highest at | Prediction |",
        "|:--|:--|--:|:--|--:|",
    ]
    for column in finding["columns"]:
        if not column["means"]:
            continue
        low, high = int(np.argmin(column["means"])), int(np.argmax(column["means"]))
        parts = [_cell(column["column"])]
        for at in (low, high):
            parts += [_cell(column["values"][at]), prediction_text(finding, column["means"][at])]
        written.append(f"| {' | '.join(parts)} |")
    return written


def released(finding: Mapping[str, Any]) -> str:
    """Returns what was computed without noise."""
    return (
        f"value effects: counts of the values of {len(finding['columns'])} columns over "
        f"{finding['clients']:,} test clients, and the mean prediction on them for each value"
    )


def _panel(ax: Axes, column: Mapping[str, Any], finding: Mapping[str, Any]) -> None:
    """The mean prediction over one column's values."""
    from matplotlib.ticker import MaxNLocator

    names = [wording.shortened(str(_number(value)), 20) for value in column["values"]]
    place = np.asarray(column["values"], float) if column["is_number"] else np.arange(len(names))
    ax.axhline(finding["average"], color=MUTED, linewidth=1, linestyle=DASHED)
    # A line says that the values have an order; names have none.
    line = "-" if all(map(_is_number, column["values"])) else "None"
    ax.plot(
        place,
        column["means"],
        linestyle=line,
        color=BLUE,
        marker="o",
        markersize=4.5,
        linewidth=1.4,
    )
    if column["is_number"]:
        ax.locator_params(axis="x", nbins=4)
        ax.tick_params(axis="x", labelsize=8)
    else:
        kept = range(0, len(names), -(-len(names) // _MOST_TICKS))
        names = [_lines(name) if len(kept) <= _FEW_TICKS else name for name in names]
        longest = max(len(line) for name in names for line in name.split("\n"))
        is_long = longest * len(kept) > 26
        ax.set_xticks(
            [place[at] for at in kept], [names[at] for at in kept],
            rotation=30 if is_long else 0, ha="right" if is_long else "center", fontsize=8,
        )  # fmt: skip
    ax.margins(x=0.3 if len(names) <= 3 else 0.12)
    ax.set_title(wording.shortened(column["column"], 26), fontsize=9)
    levels = finding["levels"]
    if levels is not None:
        ax.yaxis.set_major_formatter(lambda at, _: level_at(levels, at))
        ax.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def _number(value: Any) -> Any:
    """A number without a decimal part that says nothing."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_number(value: Any) -> bool:
    """Whether a value is a number, or a text that spells one."""
    try:
        float(value)
    except ValueError:
        return False
    return True


def _cell(value: Any) -> str:
    """A cell of a Markdown table."""
    return str(_number(value)).replace("|", "\\|")


def _lines(name: str) -> str:
    """A name in lines of a word or two."""
    return "\n".join(textwrap.wrap(name, 9)[:3])
