"""The finding `answer_ranks`: how often the right answer is among the first k."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.reports.plot_base import BLUE, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "The right answer among the first k"
_MARKED = (1, 5)
_SHOWN = 20


def figure(finding: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Figure:
    """Returns recall over the number of answers that are shown.

    Args:
      finding: From `objectives.answer_retrieval`: `recall_at`, of 1, 2, ... answers.
      evaluation: evaluation.json; not used.
    """
    from matplotlib.ticker import MaxNLocator

    del evaluation
    recall = finding["recall_at"][:_SHOWN]
    shown = np.arange(1, len(recall) + 1)
    drawn = new_figure(6.4, 4.2)
    ax = drawn.subplots()
    ax.plot(shown, recall, "o-", color=BLUE, markersize=4)
    for k in _MARKED:
        if k > len(recall):
            continue
        ax.plot([k], [recall[k - 1]], "o", color=ORANGE, markersize=7)
        ax.annotate(
            # Down, so that what is not all does not read as 100 %.
            f"{np.floor(1000 * recall[k - 1]) / 1000:.1%} among {k}",
            (k, recall[k - 1]),
            xytext=(9, -5),
            textcoords="offset points",
            va="top",
            color=ORANGE,
            fontweight="bold",
        )
    ax.set_xlabel("answers shown, best first")
    ax.set_ylabel("questions with the right one among them")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set_xlim(0.5, len(recall) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylim(max(0.0, recall[0] - 0.35 * (1.02 - recall[0])), 1.01)
    return drawn


def lines(finding: Mapping[str, Any]) -> list[str]:
    """Returns nothing: the figure says it all."""
    del finding
    return []


def released(finding: Mapping[str, Any]) -> str:
    """Returns what was computed without noise."""
    del finding
    return "the rank of the right answer, counted over the test records"
