"""The finding `segments`: how large each segment is, what its customers are like, their worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.reports.markdown_blocks import table
from fl_research.reports.plot_base import BLUE, INK, MUTED, ORANGE, PALE_BLUE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "The segments"
_MOST_NUMBERS = 9
_TYPICAL_SHOWN = 3
_LARGEST_RATIO = 3.0


def figure(finding: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Figure:
    """Draws a map of each segment's mean numbers against those of all, and the worth beside it.

    Args:
      finding: From `Clustering.findings`.
      evaluation: evaluation.json; not used.
    """
    del evaluation
    segments = [row for row in finding["segments"] if row["rows"]]
    names = list(finding["overall"]["numbers"])[:_MOST_NUMBERS]
    has_worth = finding["overall"]["worth_share"] is not None
    columns = max(len(names), 1)
    width = 2.6 + 0.95 * columns + (2.6 if has_worth else 0)
    drawn = new_figure(width, 1.9 + 0.46 * len(segments))
    ratios = [columns * 0.95, 2.2] if has_worth else [1]
    axes = drawn.subplots(1, len(ratios), squeeze=False, width_ratios=ratios)[0]
    _numbers(axes[0], finding, segments, names)
    if has_worth:
        _worth(axes[1], finding, segments)
    return drawn


def lines(finding: Mapping[str, Any]) -> list[str]:
    """Returns the segment table as Markdown, the largest segment first, all customers last."""
    overall = finding["overall"]
    names = list(overall["numbers"])
    has_worth = overall["worth_share"] is not None
    head = ["Segment", "Share", *names, "What is typical"]
    if has_worth:
        head.append(finding["worth"] or "worth much")
    rows = []
    for row in finding["segments"]:
        cells = [str(row["segment"]), f"{row['share']:.1%}", *_number_cells(row, names)]
        cells.append("; ".join(_typical(row, overall)) if row["rows"] else "nobody")
        rows.append([*cells, _share(row["worth_share"])] if has_worth else cells)
    cells = ["all", "100.0%", *_number_cells(overall, names), ""]
    rows.append([*cells, _share(overall["worth_share"])] if has_worth else cells)
    return [
        f"Means over {finding['customers']:,} test customers, in the units of the records; typical "
        "is what is most above the share among all customers (in brackets).",
        "",
        *table(head, rows),
    ]


def released(finding: Mapping[str, Any]) -> str:
    """Returns what was computed without noise."""
    return (
        f"for each of {len(finding['segments'])} segments the number of its test customers, the "
        "sums of their numbers and categories and how many are worth much, from "
        f"{finding['customers']:,} test customers"
    )


def _numbers(
    ax: Axes, finding: Mapping[str, Any], segments: list[Mapping[str, Any]], names: list[str]
) -> None:
    """The map: colour by the ratio to the mean of all, the mean itself in each cell."""
    from matplotlib.colors import LinearSegmentedColormap

    overall = finding["overall"]["numbers"]
    ratio = np.zeros((len(segments), max(len(names), 1)))
    for i, row in enumerate(segments):
        for j, name in enumerate(names):
            ratio[i, j] = _log_ratio(row["numbers"][name], overall[name])
    shades = LinearSegmentedColormap.from_list("ratio", [ORANGE, "#ffffff", BLUE])
    limit = np.log(_LARGEST_RATIO)
    ax.imshow(ratio, cmap=shades, vmin=-limit, vmax=limit, aspect="auto")
    for i, row in enumerate(segments):
        for j, name in enumerate(names):
            color = "#ffffff" if abs(ratio[i, j]) > 0.7 * limit else INK
            ax.text(j, i, _number(row["numbers"][name]), ha="center", va="center", color=color)
    ax.set_xticks(range(len(names)), [n.replace("_", " ") for n in names], rotation=30, ha="right")
    ax.set_yticks(
        range(len(segments)), [f"segment {row['segment']} ({row['share']:.0%})" for row in segments]
    )
    ax.grid(False)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title("Means; blue above, orange below all customers'")


def _worth(ax: Axes, finding: Mapping[str, Any], segments: list[Mapping[str, Any]]) -> None:
    """The share of each segment that is worth much, and that of all customers."""
    shares = [row["worth_share"] or 0.0 for row in segments]
    places = range(len(segments))
    ax.barh(places, shares, color=PALE_BLUE, height=0.7)
    overall = finding["overall"]["worth_share"]
    # To the right of all bars and of the line, so that nothing crosses a figure.
    most = max([*shares, overall]) * 1.45 + 1e-9
    for place, row in zip(places, segments, strict=True):
        ax.text(most, place, _share(row["worth_share"]), va="center", ha="right", color=INK)
    ax.axvline(overall, color=MUTED, linewidth=1)
    ax.set_ylim(len(segments) - 0.5, -0.5)
    ax.set_xlim(0, most)
    ax.set_yticks([])
    ax.grid(False)
    ax.set_xlabel(f"line: all, {_share(overall)}")
    ax.set_title((finding["worth"] or "worth much").replace("_", " "))


def _log_ratio(value: float | None, of_all: float | None) -> float:
    """The logarithm of a mean as a multiple of that of all; 0 where there is no such multiple."""
    if not value or not of_all or value * of_all < 0:
        return 0.0
    return float(np.log(value / of_all))


def _typical(row: Mapping[str, Any], overall: Mapping[str, Any]) -> list[str]:
    """The values of categories that are most above their share among all, one a column."""
    found = []
    for name, shares in row["categories"].items():
        of_all = overall["categories"][name]
        value = max(shares, key=lambda v: shares[v] - of_all[v])
        found.append((shares[value] - of_all[value], name, value, shares[value], of_all[value]))
    found.sort(reverse=True)
    return [
        f"{name} {value} {share:.0%} ({of_all:.0%})"
        for above, name, value, share, of_all in found[:_TYPICAL_SHOWN]
        if above > 0
    ]


def _number_cells(row: Mapping[str, Any], names: list[str]) -> list[str]:
    """The means of a segment's numbers."""
    return [_number(row["numbers"][name]) for name in names]


def _number(value: float | None) -> str:
    """A mean with three digits; none for a segment without customers."""
    if value is None:
        return "none"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _share(value: float | None) -> str:
    """A share; none where it is not known."""
    return "none" if value is None else f"{value:.1%}"
