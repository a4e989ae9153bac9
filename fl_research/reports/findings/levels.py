"""The finding `levels`: how many rows of each true level are predicted as which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.reports import wording
from fl_research.reports.plot_base import BLUE, INK, MUTED, PALE_BLUE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Predicted against true level"
_MOST_WRITTEN = 12  # Levels whose shares are written into the squares.


def figure(finding: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Figure:
    """Returns the confusion of levels as shares of each true level, and how frequent each is.

    Args:
      finding: From `objectives.ordinal`: `levels`, and `confusion` by true, then predicted level.
      evaluation: evaluation.json; not used.
    """
    del evaluation
    levels = [wording.shortened(level, 14) for level in finding["levels"]]
    counts = np.asarray(finding["confusion"], float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    drawn = new_figure(9.4, 4.6)
    left, right = drawn.subplots(1, 2)
    place = np.arange(len(levels))
    left.imshow(shares, cmap=_blues(), vmin=0, vmax=1, origin="lower", aspect="auto")
    if len(levels) <= _MOST_WRITTEN:
        for (true, predicted), share in np.ndenumerate(shares):
            color = "white" if share > 0.7 else INK
            left.text(predicted, true, f"{share:.0%}", ha="center", va="center", color=color)
    for axis in (left.xaxis, left.yaxis):
        axis.set_ticks(place, levels)
    left.grid(visible=False)
    left.set_title("Share of each true level")
    left.set_xlabel("predicted level")
    left.set_ylabel("true level")
    right.bar(place, counts.sum(axis=1), width=0.8, color=PALE_BLUE, label="true")
    right.plot(place, counts.sum(axis=0), "o", color=BLUE, markersize=6, label="predicted")
    right.set_xticks(place, levels)
    right.grid(axis="x", visible=False)
    right.set_title("Test rows of each level")
    right.set_xlabel("level")
    right.set_ylabel("rows")
    right.set_ylim(0, 1.2 * max(1.0, counts.sum(axis=1).max(), counts.sum(axis=0).max()))
    right.legend(frameon=False, labelcolor=MUTED, loc="upper left", ncols=2)
    return drawn


def lines(finding: Mapping[str, Any]) -> list[str]:
    """Returns how far predictions are off, as Markdown."""
    counts = np.asarray(finding["confusion"])
    total = int(counts.sum())
    if not total:
        return []
    place = np.arange(len(counts))
    off = np.abs(place[:, np.newaxis] - place)
    exact, near = counts[off == 0].sum() / total, counts[off <= 1].sum() / total
    return [
        f"Of {total:,} test rows {exact:.1%} are predicted at their level and {near:.1%} at most "
        "one level off. The predicted level is the median of the predicted distribution."
    ]


def released(finding: Mapping[str, Any]) -> str:
    """Returns what was computed without noise."""
    del finding
    return "the confusion of true and predicted levels, from the test records"


def _blues() -> Any:
    """White to the blue of all figures."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("levels", ["white", PALE_BLUE, BLUE])
