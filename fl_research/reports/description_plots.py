"""The pictures of a table's description: clients, labels, columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fl_research.data.description import (
    QUANTILES,
    ClientsDescription,
    Description,
    LabelDescription,
)
from fl_research.reports.plot_base import BLUE, MUTED, ORANGE, PALE_BLUE, new_figure, style
from fl_research.run.durable_files import storage_errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_COLUMNS = 40


def draw(description: Description, folder: Path) -> list[Path]:
    """Draws what there is into a folder, which exists.

    Args:
      description: From `data.description.describe`.
      folder: Where to.

    Returns:
      The files written.
    """
    with style():
        drawn = figures(description)
        for name, figure in drawn.items():
            with storage_errors(folder / name):
                figure.savefig(folder / name, metadata={"Software": None})
    return [folder / name for name in drawn]


def figures(description: Description) -> Mapping[str, Figure]:
    """Returns the figures by file name: those that there is something to draw for."""
    drawn = {"columns.png": _columns(description)}
    if description.clients is not None:
        drawn["clients.png"] = _clients(description.clients)
    if description.label is not None:
        drawn["label.png"] = _label(description.label)
    return drawn


def _columns(description: Description) -> Figure:
    """Missing cells of each column."""
    columns = description.columns[:_MOST_COLUMNS]
    figure = new_figure(7.2, 1.3 + 0.26 * len(columns))
    ax = figure.subplots()
    places = np.arange(len(columns))[::-1]
    shares = [100 * column.missing / description.rows for column in columns]
    ax.barh(places, shares, color=ORANGE, height=0.62)
    for place, column, share in zip(places, columns, shares, strict=True):
        text = f"{column.kind}, {share:.1f} % missing" if column.missing else column.kind
        ax.text(min(share, 60) + 1, place, text, va="center", color=MUTED, fontsize=9)
    ax.set_yticks(places, [column.name for column in columns])
    ax.set_xlim(0, 100)
    ax.set_ylim(-0.6, len(columns) - 0.4)
    ax.grid(axis="y", visible=False)
    more = len(description.columns) - len(columns)
    ax.set_title("Columns" if not more else f"Columns (without {more} more)")
    ax.set_xlabel(f"missing cells, % of {description.rows:,} rows")
    return figure


def _clients(clients: ClientsDescription) -> Figure:
    """How many clients have how many rows."""
    figure = new_figure(7.2, 3.6)
    ax = figure.subplots()
    first = next(i for i, (_, _, number) in enumerate(clients.histogram) if number)
    bins = clients.histogram[first:]
    numbers = [number for _, _, number in bins]
    places = np.arange(len(bins))
    ax.bar(places + 0.5, numbers, color=PALE_BLUE, width=0.9)
    for place, number in zip(places, numbers, strict=True):
        ax.text(
            place + 0.5, number, f"{number:,}", ha="center", va="bottom", color=BLUE, fontsize=9
        )
    ax.set_xticks(places, [f"{low:,}" for low, _, _ in bins], fontsize=9)
    ax.set_ylim(0, 1.12 * max(numbers))
    ax.grid(axis="x", visible=False)
    ax.set_title("Rows of a client")
    ax.set_xlabel(
        "rows, each bar up to the next number; median "
        f"{clients.quantiles[QUANTILES.index(50)]:,.6g} of {clients.number:,} clients"
    )
    ax.set_ylabel("clients")
    return figure


def _label(label: LabelDescription) -> Figure:
    """How the label is spread; at the right how far clients differ in it."""
    beside = bool(label.distances)
    figure = new_figure(9.4 if beside else 7.2, 4.0)
    axes = figure.subplots(1, 2, width_ratios=[3, 2]) if beside else [figure.subplots()]
    if label.kind == "classes":
        _classes(axes[0], label)
    else:
        axes[0].plot(label.quantiles, QUANTILES, color=BLUE, marker="o", markersize=4.5)
        axes[0].set_ylabel("% of rows at most")
        axes[0].set_xlabel(label.column)
    axes[0].set_title("Label")
    if beside:
        _distances(axes[1], label)
    return figure


def _classes(ax: Axes, label: LabelDescription) -> None:
    """Rows of each class, frequent ones above."""
    places = np.arange(len(label.classes))[::-1]
    counts = [count for _, count in label.classes]
    ax.barh(places, counts, color=PALE_BLUE, height=0.7)
    for place, count in zip(places, counts, strict=True):
        ax.text(count, place, f" {count:,}", va="center", color=BLUE, fontsize=9)
    ax.set_yticks(places, [value[:28] for value, _ in label.classes], fontsize=9)
    ax.set_xlim(0, 1.16 * max(counts))
    ax.grid(axis="y", visible=False)
    more = label.num_classes - len(label.classes)
    ax.set_xlabel(f"rows with {label.column}" + (f"; {more} more classes" if more else ""))


def _distances(ax: Axes, label: LabelDescription) -> None:
    """Share of the clients at most so far from the mix of all."""
    ax.plot(label.distances, QUANTILES, color=BLUE, marker="o", markersize=4.5)
    lines = [("skew", label.skew, BLUE), ("at random", label.skew_at_random, ORANGE)]
    known = [(name, value, color) for name, value, color in lines if value is not None]
    for row, (name, value, color) in enumerate(known):
        ax.axvline(value, color=color, linewidth=1)
        ax.text(
            0.98, 0.05 + 0.07 * row, f"{name} {value:.3f}", transform=ax.transAxes, ha="right",
            color=color, fontweight="bold",
        )  # fmt: skip
    ax.set_xlim(-0.02, 1.02)
    ax.set_title("Clients' own mix")
    ax.set_xlabel("distance from the mix of all")
    ax.set_ylabel("% of clients at most")
