"""The finding `confusion`: which classes are taken for which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.reports import wording
from fl_research.reports.plot_base import BLUE, INK, MUTED, PALE_BLUE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Answers against true classes"
_MOST_NAMED = 20  # Classes whose names fit beside the squares.
_SHOWN_PAIRS = 10


def figure(finding: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Figure:
    """Returns the shares of the answers to each true class, and the most confused pairs.

    Args:
      finding: From `objectives.multiclass`: `classes`, `counts` and `most_confused`.
      evaluation: evaluation.json; not used.
    """
    del evaluation
    drawn = new_figure(11.0, 5.4)
    left, right = drawn.subplots(1, 2, width_ratios=[1.0, 0.85])
    _squares(left, finding["classes"], np.asarray(finding["counts"], float))
    _pairs(right, finding["most_confused"][:_SHOWN_PAIRS])
    return drawn


def lines(finding: Mapping[str, Any]) -> list[str]:
    """Returns the table of the most confused pairs as Markdown."""
    if not finding["most_confused"]:
        return ["No class was taken for another."]
    written = ["| True class | Answer | Rows | Share of the class |", "|:--|:--|--:|--:|"]
    for pair in finding["most_confused"]:
        true, answer = (pair[name].replace("|", "\\|") for name in ("true", "answer"))
        written.append(f"| {true} | {answer} | {pair['rows']:,} | {pair['share']:.1%} |")
    return written


def released(finding: Mapping[str, Any]) -> str:
    """Returns what was computed without noise."""
    del finding
    return "the confusion of true classes and answers, from the test records"


def _squares(ax: Axes, classes: list[str], counts: np.ndarray) -> None:
    """The confusion matrix as shares of each true class."""
    from matplotlib.colors import LinearSegmentedColormap

    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    blues = LinearSegmentedColormap.from_list("confusion", ["white", PALE_BLUE, BLUE])
    # The root lets small shares be seen beside the diagonal.
    ax.imshow(np.sqrt(shares), cmap=blues, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    ax.grid(visible=False)
    ax.set_xlabel("answer")
    ax.set_ylabel("true class")
    ax.set_title("Share of each true class (colour: its root)")
    if len(classes) > _MOST_NAMED:
        ax.set_xticks([])
        ax.set_yticks([])
        return
    place = np.arange(len(classes))
    names = [_short(name, 18) for name in classes]
    ax.set_xticks(place, names, rotation=90, fontsize=8)
    ax.set_yticks(place, names, fontsize=8)


def _pairs(ax: Axes, pairs: list[Mapping[str, Any]]) -> None:
    """One bar a pair of classes, the worst on top; the names stand above the bars."""
    ax.set_title("Most confused")
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("share of the true class")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    if not pairs:
        ax.text(0.5, 0.5, "no class was taken for another", ha="center", color=MUTED)
        return
    place = -np.arange(len(pairs), dtype=float)
    shares = [pair["share"] for pair in pairs]
    ax.barh(place, shares, height=0.34, color=BLUE)
    for y, pair in zip(place, pairs, strict=True):
        text = f"{_short(pair['true'], 30)} → {_short(pair['answer'], 30)}"
        ax.text(0, y + 0.27, f"{text}  ({pair['rows']:,})", va="bottom", fontsize=8.5, color=INK)
    ax.set_ylim(place[-1] - 0.4, 0.9)
    ax.set_xlim(0, 1.35 * max(shares))


def _short(name: str, longest: int) -> str:
    """A name that fits."""
    return wording.shortened(name.replace("_", " "), longest)
