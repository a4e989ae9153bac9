"""The plots of a run: metric and ε over rounds, ROC and calibration, spread over clients.

matplotlib is imported when a plot is drawn and draws without a display; the same records give the
same bytes on the same machine. Each figure is described by what the records hold: a curve that was
not measured is left out, and a figure with nothing to show is not made.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.privacy.rounding import rounded_up
from fl_research.reports import epsilon_curve_plot, wording
from fl_research.run.durable_files import storage_errors
from fl_research.run.record_files import MetricsRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#22303c", "#6b7785", "#e6e9ed"
BLUE, ORANGE, PALE_BLUE = "#2a6496", "#b8602a", "#c3d6e6"
DOTS_PER_INCH = 150

_Curve = tuple[list[float], list[float]]

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": 10,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.dpi": DOTS_PER_INCH,
    "savefig.dpi": DOTS_PER_INCH,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
}


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
    curves = evaluation.get("curves") or {}
    plots = []
    if metrics:
        plots.append(
            Plot(
                file="plots/progress.png",
                title=f"{wording.metric(evaluation['primary_metric'])} and ε over rounds",
                drawn=lambda: _progress(metrics, evaluation, target_epsilon),
            )
        )
    if curves.get("roc") or curves.get("calibration"):
        plots.append(
            Plot(
                file="plots/roc_and_calibration.png",
                title="ROC curve and calibration",
                drawn=lambda: _roc_and_calibration(evaluation),
            )
        )
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
        with _style():
            figure = plot.drawn()
            # Without the version of matplotlib in the file, equal figures are equal bytes.
            with storage_errors(path):
                figure.savefig(path, metadata={"Software": None})
        files.append(path)
    return files


@contextmanager
def _style() -> Iterator[None]:
    """matplotlib's settings for one figure."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def _figure(width: float, height: float) -> Figure:
    """A figure of its own, known to no global list, so that nothing has to be closed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


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
    figure = _figure(7.2, 1.4 + 2.3 * len(panels))
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
    ax.axhline(target_epsilon, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    ax.annotate(
        f"target {target_epsilon:g}",
        (0, target_epsilon),
        xycoords=("axes fraction", "data"),
        xytext=(4, 4),
        textcoords="offset points",
        va="bottom",
        color=MUTED,
    )


def _roc_and_calibration(evaluation: Mapping[str, Any]) -> Figure:
    """ROC at the left; at the right predicted against observed, with the counts below."""
    curves = evaluation["curves"]
    figure = _figure(9.4, 4.7)
    grid = figure.add_gridspec(2, 2, height_ratios=[4, 1])
    if curves.get("roc"):
        _roc(figure.add_subplot(grid[:, 0]), evaluation)
    if curves.get("calibration"):
        above = figure.add_subplot(grid[0, 1])
        _calibration(above, figure.add_subplot(grid[1, 1], sharex=above), curves["calibration"])
    return figure


def _roc(ax: Axes, evaluation: Mapping[str, Any]) -> None:
    """The ROC curve of this run; the baselines by their AUC, as their curves are not kept."""
    roc = evaluation["curves"]["roc"]
    false_positive, true_positive = roc["false_positive_rate"], roc["true_positive_rate"]
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
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
    above.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
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


def _spread_metric(evaluation: Mapping[str, Any]) -> str | None:
    """The per-client metric worth a figure: accuracy, or loss where accuracy is only 0 or 1."""
    spreads = (evaluation.get("curves") or {}).get("per_client") or {}
    accuracy = spreads.get("accuracy")
    if accuracy:
        counts = np.asarray(accuracy["clients"])
        if counts[1:-1].any() or "loss" not in spreads:
            return "accuracy"
    return "loss" if "loss" in spreads else None


def _clients(evaluation: Mapping[str, Any], name: str) -> Figure:
    """How many clients have which value of the metric; 10th, 50th and 90th percentile marked."""
    spread = evaluation["curves"]["per_client"][name]
    edges, clients = np.asarray(spread["bin_edges"], float), np.asarray(spread["clients"])
    figure = _figure(7.2, 3.6)
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
