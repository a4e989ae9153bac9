"""The ROC curve and the calibration of a binary classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.reports import wording
from fl_research.reports.plot_base import BLUE, DASHED, MUTED, PALE_BLUE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "ROC curve and calibration"


def figure(finding: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Figure:
    """Draws ROC at the left; at the right predicted against observed, with the counts below.

    Args:
      finding: `roc` (None where it is not defined) and `calibration`.
      evaluation: evaluation.json, for the AUC of this run and of the baselines.
    """
    drawn = new_figure(9.4, 4.7)
    grid = drawn.add_gridspec(2, 2, height_ratios=[4, 1])
    if finding.get("roc"):
        _roc(drawn.add_subplot(grid[:, 0]), finding["roc"], evaluation)
    above = drawn.add_subplot(grid[0, 1])
    below = drawn.add_subplot(grid[1, 1], sharex=above)
    _calibration(above, below, finding["calibration"])
    return drawn


def lines(finding: Mapping[str, Any]) -> list[str]:
    """Returns nothing: the figure says it all."""
    del finding
    return []


def released(finding: Mapping[str, Any]) -> str:
    """Returns what the curves were computed from."""
    del finding
    return "the ROC and calibration curves, from the test records"


def _roc(ax: Axes, roc: Mapping[str, Any], evaluation: Mapping[str, Any]) -> None:
    """The ROC curve of this run; the baselines by their AUC, as their curves are not kept."""
    false_positive, true_positive = roc["false_positive_rate"], roc["true_positive_rate"]
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DASHED)
    ax.fill_between(false_positive, true_positive, color=PALE_BLUE, alpha=0.35, linewidth=0)
    ax.plot(false_positive, true_positive, color=BLUE)
    lines = [("this run", evaluation["test"].get("auc"), BLUE)]
    for name, values in (evaluation.get("baselines") or {}).items():
        lines.append((wording.baseline(name), values.get("auc"), MUTED))
    lines = [line for line in lines if line[1] is not None]
    for row, (name, auc, color) in enumerate(reversed(lines)):
        weight = "bold" if color == BLUE else "normal"
        height = 0.045 + 0.062 * row
        ax.text(0.985, height, wording.number(auc), ha="right", color=color, weight=weight)
        ax.text(0.82, height, name, ha="right", color=color, weight=weight)
    if lines:
        height = 0.055 + 0.062 * len(lines)
        ax.text(0.985, height, "AUC", ha="right", color=MUTED, fontsize=9)
    ax.set_title("ROC curve, test clients")
    ax.set_xlabel("false positive rate")
    ax.set_ylabel("true positive rate")
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-0.01, 1.01)


def _calibration(above: Axes, below: Axes, curve: Mapping[str, Sequence[Any]]) -> None:
    """Observed against predicted probability a bin, and the number of examples in each bin."""
    count = np.asarray(curve["count"], float)
    kept = count > 0
    predicted = np.asarray([math.nan if v is None else v for v in curve["predicted"]], float)[kept]
    observed = np.asarray([math.nan if v is None else v for v in curve["observed"]], float)[kept]
    count = count[kept]
    spread = np.abs(np.stack(_wilson(observed, count)) - observed)
    above.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DASHED)
    above.errorbar(
        predicted, observed, yerr=spread, color=BLUE, ecolor=PALE_BLUE, elinewidth=2.5,
        marker="o", markersize=4.5,
    )  # fmt: skip
    above.text(0.985, 0.115, "dashed: perfect", ha="right", color=MUTED, fontsize=9)
    above.text(0.985, 0.035, "bars: 95 % interval", ha="right", color=MUTED, fontsize=9)
    above.set_title("Calibration, test examples")
    above.set_ylabel("observed rate")
    above.set_xlim(-0.01, 1.01)
    above.set_ylim(-0.01, 1.01)
    above.tick_params(labelbottom=False)
    edges = np.linspace(0, 1, len(curve["count"]) + 1)
    centres = ((edges[:-1] + edges[1:]) / 2)[kept]
    below.bar(centres, count, width=0.8 * (edges[1] - edges[0]), color=PALE_BLUE)
    below.set_ylabel("examples")
    below.set_xlabel("predicted probability")


def _wilson(share: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval of a share; unlike the normal one it has a width at 0 and 1."""
    z = 1.96
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return np.minimum(centre - half, share), np.maximum(centre + half, share)
