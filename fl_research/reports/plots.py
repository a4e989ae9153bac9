"""The plots of a run: metric and ε over rounds, the findings, spread over clients.

Each figure is described by what the records hold: a curve that was
not measured is left out, and a figure with nothing to show is not made.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.privacy.rounding import rounded_up
from fl_research.reports import epsilon_curve_plot, wording
from fl_research.reports.findings import registry as findings
from fl_research.reports.plot_base import (
    BLUE,
    DASHED,
    MUTED,
    ORANGE,
    PALE_BLUE,
    new_figure,
    style,
)
from fl_research.run.durable_files import storage_errors
from fl_research.run.record_files import MetricsRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Curve = tuple[list[float], list[float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plot:
    """One figure of a run.

    Attributes:
      file: Path of the PNG, relative to the run's folder.
      title: What it shows; the alternative text in the report.
      drawn: Draws it.
    """

    file: str
    title: str
    drawn: Callable[[], Figure]


def planned(
    metrics: Sequence[MetricsRow],
    evaluation: Mapping[str, Any],
    *,
    target_epsilon: float | None,
    curve: Sequence[tuple[float, float]] = (),
    delta: float | None = None,
) -> list[Plot]:
    """Returns the figures that these records allow, in the order of the report.

    Args:
      metrics: metrics.csv, one row a round, by round.
      evaluation: evaluation.json.
      target_epsilon: Drawn as a line over ε, where there is one.
      curve: Pairs of δ and ε; empty where there is no guarantee.
      delta: The δ of the claim, marked on the curve.
    """
    plots = []
    if metrics:
        plots.append(
            Plot(
                file="plots/progress.png",
                title=f"{wording.metric(evaluation['primary_metric'])} and ε over rounds",
                drawn=lambda: _progress(metrics, evaluation, target_epsilon),
            )
        )
    plots += [
        Plot(
            file=f"plots/{name}.png",
            title=findings.load(name).TITLE,
            drawn=functools.partial(findings.load(name).figure, finding, evaluation),
        )
        for name, finding in (evaluation.get("findings") or {}).items()
    ]
    if spread := _spread_metric(evaluation):
        plots.append(
            Plot(
                file="plots/clients.png",
                title="Spread over clients",
                drawn=lambda: _clients(evaluation, spread),
            )
        )
    if curve and delta is not None:
        plots.append(
            Plot(
                file="plots/epsilon_curve.png",
                title="ε over δ of the whole run",
                drawn=lambda: epsilon_curve_plot.figure(curve, delta),
            )
        )
    return plots


def draw(folder: Path, plots: Sequence[Plot]) -> list[Path]:
    """Draws figures into a run's folder.

    Args:
      folder: The run's folder.
      plots: From `planned`.

    Returns:
      The files written.
    """
    files = []
    for plot in plots:
        path = folder / plot.file
        path.parent.mkdir(parents=True, exist_ok=True)
        with style():
            figure = plot.drawn()
            # Without the version of matplotlib in the file, equal figures are equal bytes.
            with storage_errors(path):
                figure.savefig(path, metadata={"Software": None})
        files.append(path)
    return files


def _progress(
    metrics: Sequence[MetricsRow], evaluation: Mapping[str, Any], target_epsilon: float | None
) -> Figure:
    """The primary validation metric above, ε below, over the same rounds."""
    from matplotlib.ticker import MaxNLocator

    name = evaluation["primary_metric"]
    panels: list[tuple[str, _Curve]] = [
        ("metric", _curve_of(metrics, f"validation_{name}")),
        ("epsilon", _curve_of(metrics, "epsilon")),
    ]
    panels = [panel for panel in panels if panel[1][0]]
    panels = panels or [("train_loss", _curve_of(metrics, "train_loss"))]
    figure = new_figure(7.2, 1.4 + 2.3 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for (panel, curve), ax in zip(panels, axes, strict=True):
        if panel == "metric":
            ax.set_title(f"Validation {wording.metric(name)}")
            _draw(ax, curve, BLUE)
            _end_label(ax, curve, BLUE, wording.number)
            _least_height(ax, 0.02)
        elif panel == "epsilon":
            ax.set_title("ε spent so far")
            _draw(ax, curve, ORANGE)
            _end_label(ax, curve, ORANGE, rounded_up, below=True)
            _target(ax, target_epsilon)
            ax.set_ylim(0, 1.12 * max(*curve[1], target_epsilon or 0.0, 1e-9))
        else:
            ax.set_title("Training loss")
            _draw(ax, curve, BLUE)
    axes[-1].set_xlim(0, 1.13 * float(str(metrics[-1]["round"])))
    axes[-1].set_xlabel("round")
    axes[-1].xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
    return figure


def _curve_of(metrics: Sequence[MetricsRow], column: str) -> _Curve:
    """The rounds in which a column has a value, and the values."""
    known = [row for row in metrics if isinstance(row.get(column), int | float)]
    points = [(float(str(row["round"])), float(str(row[column]))) for row in known]
    finite = [point for point in points if math.isfinite(point[1])]
    return [number for number, _ in finite], [value for _, value in finite]


def _least_height(ax: Axes, height: float) -> None:
    """Keeps an axis from blowing small changes up."""
    low, high = ax.get_ylim()
    missing = height - (high - low)
    if missing > 0:
        ax.set_ylim(low - missing / 2, high + missing / 2)


def _draw(ax: Axes, curve: _Curve, color: str) -> None:
    """One line, with dots where the points are few enough to be told apart."""
    dots: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(curve[0]) <= 50 else {}
    ax.plot(*curve, color=color, **dots)


def _end_label(
    ax: Axes, curve: _Curve, color: str, text: Callable[[float], str], *, below: bool = False
) -> None:
    """The last value, written at the end of its line."""
    ax.annotate(
        text(curve[1][-1]),
        (curve[0][-1], curve[1][-1]),
        xytext=(7, -3 if below else 0),
        textcoords="offset points",
        va="top" if below else "center",
        color=color,
        fontweight="bold",
    )


def _target(ax: Axes, target_epsilon: float | None) -> None:
    """A dashed line at the target."""
    if target_epsilon is None:
        return
    ax.axhline(target_epsilon, color=MUTED, linewidth=1, linestyle=DASHED)
    ax.annotate(
        f"target {target_epsilon:g}",
        (0, target_epsilon),
        xycoords=("axes fraction", "data"),
        xytext=(4, 4),
        textcoords="offset points",
        va="bottom",
        color=MUTED,
    )


def _spread_metric(evaluation: Mapping[str, Any]) -> str | None:
    """The first metric of clients worth a figure: not one that is only 0 or 1."""
    histograms = evaluation.get("histograms") or {}
    for name, histogram in histograms.items():
        counts = np.asarray(histogram["clients"])
        if counts[1:-1].any():
            return str(name)
    return next(iter(histograms), None)


def _clients(evaluation: Mapping[str, Any], name: str) -> Figure:
    """How many clients have which value of the metric; 10th, 50th and 90th percentile marked."""
    spread = evaluation["histograms"][name]
    edges, clients = np.asarray(spread["bin_edges"], float), np.asarray(spread["clients"])
    figure = new_figure(7.2, 3.6)
    ax = figure.subplots()
    ax.bar(
        edges[:-1], clients, width=np.diff(edges), align="edge", color=PALE_BLUE, edgecolor="white",
        linewidth=0.6,
    )  # fmt: skip
    filled = np.flatnonzero(clients)
    low, high = edges[0], edges[filled[-1] + 1 if len(filled) else -1]
    if name == "accuracy":
        low, high = 0.0, 1.0
    ax.set_xlim(low - 0.06 * (high - low), high + 0.02 * (high - low))
    tallest = float(clients.max(initial=1))
    ax.set_ylim(0, 1.35 * tallest)
    ax.set_yticks([tick for tick in ax.get_yticks() if tick <= tallest])
    percentiles = evaluation["per_client"].get(name) or {}
    _percentiles(ax, percentiles, spacing=0.09 * (high - low))
    ax.grid(axis="x", visible=False)
    ax.set_title(f"{wording.sentence_case(wording.metric(name))} of each test client")
    ax.set_xlabel(
        f"{wording.metric(name)}; lines: 10th, 50th and 90th percentile of "
        f"{wording.number(int(percentiles.get('clients') or clients.sum()))} clients"
    )
    ax.set_ylabel("clients")
    return figure


def _percentiles(ax: Axes, percentiles: Mapping[str, Any], *, spacing: float) -> None:
    """Marks the percentiles; labels nearer than `spacing` to each other go side by side."""
    marks = [(key, percentiles.get(f"p{key}")) for key in (10, 50, 90)]
    known = [(key, float(value)) for key, value in marks if value is not None]
    top = ax.get_ylim()[1]
    taken = -math.inf
    for key, value in known:
        place = max(value, taken + spacing)
        taken = place
        ax.plot([value, value, place], [0, 0.79 * top, 0.85 * top], color=BLUE, linewidth=1.2)
        ax.text(
            place, 0.86 * top, f"{key}th\n{value:.3g}", ha="center", va="bottom", color=BLUE,
            fontsize=9, linespacing=1.25,
        )  # fmt: skip
