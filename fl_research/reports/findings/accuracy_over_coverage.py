"""The finding `accuracy_over_coverage`: how right answers are if only the surest are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.reports.plot_base import BLUE, MUTED, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Accuracy if only the surest answers are given"
_MARKED = (0.5, 0.8)


def figure(finding: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Figure:
    """Returns accuracy over the share of rows that are answered.

    Args:
      finding: From `objectives.multiclass`: `coverage`, `accuracy` and `threshold`.
      evaluation: evaluation.json; not used.
    """
    del evaluation
    drawn = new_figure(6.4, 4.2)
    ax = drawn.subplots()
    ax.set_xlabel("share of rows that are answered, surest first")
    ax.set_ylabel("share of right answers among them")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set_xlim(0, 1.01)
    coverage, accuracy = finding["coverage"], finding["accuracy"]
    if not coverage:
        ax.text(0.5, 0.5, "no row has an answer", ha="center", color=MUTED)
        return drawn
    ax.plot(coverage, accuracy, color=BLUE)
    for share in _MARKED:
        height = float(np.interp(share, coverage, accuracy))
        ax.plot([share], [height], "o", color=ORANGE, markersize=5)
        ax.annotate(
            # Down, so that what is not all does not read as 100 %.
            f"{share:.0%}: {np.floor(1000 * height) / 1000:.1%} right",
            (share, height),
            xytext=(-8, -9),
            textcoords="offset points",
            ha="right",
            va="top",
            color=ORANGE,
            fontweight="bold",
        )
    lowest = min(0.95, *accuracy)
    ax.set_ylim(lowest - 0.1 * (1 - lowest), 1.005)
    return drawn


def lines(finding: Mapping[str, Any]) -> list[str]:
    """Returns nothing: the figure says it all."""
    del finding
    return []


def released(finding: Mapping[str, Any]) -> str:
    """Returns what was computed without noise."""
    del finding
    return "the right answers by confidence, from the test records"
