"""How predicted and actual ratings go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.reports.plot_base import DASHED, INK, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Predicted and actual ratings"
_FEWEST = 20


def figure(finding: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Figure:
    """Draws the share of predictions for each actual rating, and their mean.

    Args:
      finding: `edges` of the bins, `actual_by_predicted` counts [bins, bins], `ratings`.
      evaluation: Not used.
    """
    del evaluation
    counts = np.asarray(finding["actual_by_predicted"], float)
    edges = np.asarray(finding["edges"], float)
    drawn = new_figure(6.4, 5.2)
    ax = drawn.add_subplot()
    of_actual = counts.sum(axis=1)
    share = np.where(of_actual[:, None] > 0, counts / np.maximum(of_actual, 1)[:, None], np.nan)
    mesh = ax.pcolormesh(edges, edges, 100 * share.T, cmap="Blues", vmin=0)
    bar = drawn.colorbar(mesh, ax=ax, shrink=0.85)
    bar.set_label("% of the predictions for this actual rating", fontsize=9)
    bar.outline.set_visible(False)
    ax.plot(edges[[0, -1]], edges[[0, -1]], color=INK, linewidth=1, linestyle=DASHED)
    actual, predicted = _means(finding)
    ax.plot(actual, predicted, color=ORANGE, marker="o", markersize=4, markeredgecolor="white")
    ax.set_title(f"{finding['ratings']:,} held-out ratings")
    ax.set_xlabel("actual rating (dashed: perfect)")
    ax.set_ylabel("predicted rating (line: mean)")
    ax.grid(visible=False)
    return drawn


def lines(finding: Mapping[str, Any]) -> list[str]:
    """Returns how far predictions for the lowest and the highest ratings stay from them."""
    actual, predicted = _means(finding)
    if len(actual) < 2:
        return []
    return [
        f"Ratings around {actual[0]:.2g} are predicted as {predicted[0]:.2g} on average, those "
        f"around {actual[-1]:.2g} as {predicted[-1]:.2g}: a prediction under noise keeps to the "
        "middle."
    ]


def released(finding: Mapping[str, Any]) -> str:
    """Returns what the figure was computed from."""
    del finding
    return "predicted against actual ratings, counts from the held-out ratings"


def _means(finding: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Middle of each bin of actual ratings with enough of them, and the mean prediction."""
    counts = np.asarray(finding["actual_by_predicted"], float)
    edges = np.asarray(finding["edges"], float)
    centres = (edges[:-1] + edges[1:]) / 2
    of_actual = counts.sum(axis=1)
    kept = of_actual >= _FEWEST
    return centres[kept], (counts[kept] @ centres) / of_actual[kept]
