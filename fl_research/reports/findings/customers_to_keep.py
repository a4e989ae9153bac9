"""The finding `customers_to_keep`: how many leavers a list finds for how many calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.reports import wording
from fl_research.reports.plot_base import BLUE, DASHED, MUTED, ORANGE, PALE_BLUE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Customers to keep: who leaves, found by calls"


def figure(finding: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Figure:
    """Returns the gain curve, and predicted against observed risk by tenths.

    Args:
      finding: From `analyses.customers_to_keep`.
      evaluation: evaluation.json; not used.
    """
    del evaluation
    drawn = new_figure(9.4, 4.4)
    left, right = drawn.subplots(1, 2)
    _gain(left, finding)
    _tenths(right, finding)
    return drawn


def lines(finding: Mapping[str, Any]) -> list[str]:
    """Returns the table of tenths as Markdown, and what the list is."""
    written = [
        f"`{finding['file']}` in this folder lists the {finding['customers']:,} test "
        f"{finding['listed']} by risk, the one most likely to leave first. **It names persons; the "
        "guarantee of this run does not cover it.** Keep it where the customers' records are kept.",
        "",
        _calibration(finding),
        "",
        f"| Tenth by risk | {wording.sentence_case(finding['listed'])} | Mean risk | Left | Rate "
        "| Lift | Leavers found so far |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in finding["tenths"]:
        lift = "none" if row["lift"] is None else f"{row['lift']:.2f}"
        found = "none" if row["found"] is None else f"{100 * row['found']:.0f} %"
        written.append(
            f"| {row['tenth']} | {row['customers']:,} | {row['mean_risk']:.3f} | {row['left']:,} "
            f"| {row['rate']:.3f} | {lift} | {found} |"
        )
    return written


def released(finding: Mapping[str, Any]) -> str:
    """Returns what was computed without noise."""
    text = (
        f"the risk and the outcome of each of {finding['customers']:,} test {finding['listed']}, "
        f"for the table of tenths and the gain curve; `{finding['file']}` names the customers"
    )
    if finding["calibration"]["slope"] is None:
        return text
    clients = finding["calibration"]["clients"]
    return f"{text}; and sums over {clients:,} validation clients, for the calibration"


def _calibration(finding: Mapping[str, Any]) -> str:
    """One sentence on what the risks were fitted to."""
    facts, brier = finding["calibration"], finding["brier"]
    if facts["slope"] is None:
        return f"The risks are the model's own probabilities, not calibrated: {facts['reason']}."
    return (
        f"The risks are calibrated on {facts['rows']:,} rows of {facts['clients']:,} validation "
        f"clients (slope {facts['slope']:.3f}, intercept {facts['intercept']:.3f}); Brier score "
        f"on the test {finding['listed']} {wording.number(brier['calibrated'])}, before "
        f"{wording.number(brier['as_trained'])}."
    )


def _gain(ax: Axes, finding: Mapping[str, Any]) -> None:
    """Share of the leavers found against share of the customers contacted."""
    ax.set_title("Leavers found")
    ax.set_xlabel(f"{finding['listed']} contacted, riskiest first")
    ax.set_ylabel("share of all who left")
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DASHED)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-0.01, 1.01)
    if finding["gain"] is None:
        ax.text(0.5, 0.4, "nobody left", ha="center", color=MUTED)
        return
    contacted, found = finding["gain"]["contacted"], finding["gain"]["found"]
    ax.fill_between(contacted, found, contacted, color=PALE_BLUE, alpha=0.35, linewidth=0)
    ax.plot(contacted, found, color=BLUE)
    base = finding["left"] / finding["customers"]
    ax.plot([0, base, 1], [0, 1, 1], color=MUTED, linewidth=1)
    ax.text(0.985, 0.065, "dashed: calls at random", ha="right", color=MUTED, fontsize=9)
    ax.text(0.985, 0.005, "grey line: no call in vain", ha="right", color=MUTED, fontsize=9)
    for share in (0.1, 0.3):
        height = float(np.interp(share, contacted, found))
        ax.plot([share], [height], "o", color=ORANGE, markersize=5)
        ax.annotate(
            f"{100 * share:.0f} % of calls find {100 * height:.0f} %",
            (share, height),
            xytext=(9, -3),
            textcoords="offset points",
            va="center",
            color=ORANGE,
            fontweight="bold",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
        )


def _tenths(ax: Axes, finding: Mapping[str, Any]) -> None:
    """Observed rate and mean risk of each tenth."""
    table = finding["tenths"]
    number = [row["tenth"] for row in table]
    ax.bar(number, [row["rate"] for row in table], width=0.8, color=PALE_BLUE, label="left")
    ax.plot(
        number, [row["mean_risk"] for row in table], "o", color=BLUE, markersize=5, label="risk"
    )
    base = finding["left"] / max(finding["customers"], 1)
    ax.axhline(base, color=MUTED, linewidth=1, linestyle=DASHED)
    ax.set_title("Tenths of the list")
    ax.set_xlabel("tenth, riskiest first; dashed: average rate")
    ax.set_ylabel("rate")
    ax.set_xticks(number)
    ax.set_ylim(0, 1.12 * max([row["rate"] for row in table] + [row["mean_risk"] for row in table]))
    ax.grid(axis="x", visible=False)
    ax.legend(frameon=False, loc="upper right")
