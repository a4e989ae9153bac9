"""Hit rate by the length of the list of recommendations, and items taken for alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fl_research.reports.plot_base import BLUE, DASHED, MUTED, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Recommendations that the customer then chose"
_TEN = 10


def figure(finding: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Figure:
    """Draws the hit rate of this run and of popularity against the length of the list.

    Args:
      finding: `model` and `popularity`, rates of lists of 1, 2, ... items; `customers`, `items`.
      evaluation: Not used.
    """
    del evaluation
    drawn = new_figure(7.0, 4.4)
    ax = drawn.add_subplot()
    lines = (
        ("this run", finding["model"], BLUE, "-", (-3, 7, "right")),
        ("what most customers have", finding["popularity"], MUTED, DASHED, (5, -14, "left")),
    )
    lengths = range(1, len(finding["model"]) + 1)
    for name, rates, color, style, (right, up, side) in lines:
        shares = [100 * rate for rate in rates]
        ax.plot(lengths, shares, color=color, linestyle=style)
        ax.text(lengths[-1], shares[-1], f" {name}", color=color, va="center", fontsize=9)
        if len(shares) >= _TEN:
            at_ten = shares[_TEN - 1]
            ax.plot([_TEN], [at_ten], marker="o", color=color, markersize=5)
            ax.annotate(
                f"{at_ten:.0f} %", (_TEN, at_ten), xytext=(right, up), textcoords="offset points",
                ha=side, color=color, weight="bold",
            )  # fmt: skip
    ax.set_title(f"Hit rate, {finding['customers']:,} customers, {finding['items']:,} items")
    ax.set_xlabel("items recommended")
    ax.set_ylabel("customers who chose at least one of them, %")
    ax.set_ylim(bottom=0)
    ax.set_xlim(1, 1.42 * len(finding["model"]))
    ax.set_xticks([tick for tick in (1, 10, 20, 30, 40, 50) if tick <= len(finding["model"])])
    return drawn


def lines(finding: Mapping[str, Any]) -> list[str]:
    """Returns a table of items with long factors and those most alike."""
    if not finding["alike"]:
        return []
    rows = [
        "| item | taken for alike (cosine of the factors) |",
        "| --- | --- |",
    ]
    for entry in finding["alike"]:
        alike = ", ".join(f"{other['item']} ({other['cosine']:.2f})" for other in entry["alike"])
        rows.append(f"| {entry['item']} | {alike} |")
    return [*rows, "", "From the released model alone; the items with the longest factors."]


def released(finding: Mapping[str, Any]) -> str:
    """Returns what the curves were computed from."""
    del finding
    return (
        "hit rates by the length of the list, from the held-out purchases of the test customers; "
        "those of popularity from counts of the training purchases too"
    )
