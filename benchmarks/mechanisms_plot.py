"""The picture of utility against ε: a column for each data set, a line for each mechanism.

Mechanisms that do not trust the server have a row of their own, whose scale is another.

matplotlib is imported when the picture is drawn, and draws without a display.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fl_research.reports.plot_base import GRID, INK, MUTED

_COLORS = (
    *("#2a6496", "#6aa3cf", "#8c6bb1", "#9aa3ad", "#b8602a", "#d99a3c", "#7a3b12"),
    *("#3f8f5f", "#c2477f"),
)
_MARKERS = "osv^DPX*h"
_REFERENCE = "none"
_UNTRUSTED = ("local_gaussian", "client_dpsgd")


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws mean test AUC over seeds against ε, with the range over seeds, into a PNG file.

    Args:
      rows: As in mechanisms.csv, at least one.
      path: Where the picture goes.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    settings = [s for s in dict.fromkeys(row["setting"] for row in rows) if s != _REFERENCE]
    by_trust = [
        ("the server is trusted", [s for s in settings if s not in _UNTRUSTED]),
        ("the server is not trusted", [s for s in settings if s in _UNTRUSTED]),
    ]
    by_trust = [(title, names) for title, names in by_trust if names]
    with mpl.rc_context({"font.size": 9, "axes.titlesize": 10, "text.color": INK}):
        figure = Figure(figsize=(9.5, 3.3 * len(by_trust)), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(by_trust), len(datasets), squeeze=False)
        for row, (title, names) in zip(panels, by_trust, strict=True):
            for panel, dataset in zip(row, datasets, strict=True):
                chosen = [r for r in rows if r["dataset"] == dataset]
                _draw_panel(panel, chosen, names, settings)
                name = dataset.replace("_", " ")
                panel.set_title(f"{name}: {title}", loc="left", fontweight="bold")
            row[0].set_ylabel("test AUC, mean and range over seeds")
            row[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
        figure.savefig(path, metadata={"Software": None})


def _draw_panel(
    panel: Any, rows: Sequence[Mapping[str, Any]], names: Sequence[str], settings: Sequence[str]
) -> None:
    """Draws the lines of some mechanisms on one data set; colours are those of all settings."""
    for name in names:
        number = settings.index(name)
        points: dict[float, list[float]] = {}
        for row in rows:
            if row["setting"] == name:
                points.setdefault(float(row["target_epsilon"]), []).append(float(row["auc"]))
        if not points:
            continue
        # Side by side, so that ranges do not hide each other.
        epsilons = sorted(points)
        shifted = [epsilon * 1.02 ** (number - len(settings) / 2) for epsilon in epsilons]
        means = [statistics.mean(points[epsilon]) for epsilon in epsilons]
        ranges = [
            [mean - min(points[e]) for mean, e in zip(means, epsilons, strict=True)],
            [max(points[e]) - mean for mean, e in zip(means, epsilons, strict=True)],
        ]
        panel.errorbar(
            shifted,
            means,
            yerr=ranges,
            label=name.replace("_", " "),
            color=_COLORS[number % len(_COLORS)],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=5,
            linewidth=1.4,
            elinewidth=0.8,
        )
    reference = [float(row["auc"]) for row in rows if row["setting"] == _REFERENCE]
    if reference:
        mean = statistics.mean(reference)
        panel.axhline(mean, color=MUTED, linestyle="--", linewidth=1.0, label="without privacy")
    ticks = sorted({float(row["target_epsilon"]) for row in rows} - {float("inf")})
    panel.set_xscale("log")
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set_xlabel("ε")
    panel.grid(color=GRID)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
