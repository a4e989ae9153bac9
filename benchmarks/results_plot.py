"""The results as a picture: a panel for each workload, a point for each system, on a log scale.

matplotlib is imported when the picture is drawn, and draws without a display.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results_table import Row, short
from benchmarks.systems import OURS, SYSTEMS
from fl_research.reports.plot_base import BLUE, GRID, INK, MUTED, ORANGE

PLOT_FILE = "rounds.png"
_COLUMNS = 2


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draws the rows of the CSV into a PNG file; a point is the median, its line spans the range.

    Args:
      rows: At least one.
      path: Where the picture goes.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    systems = [name for name in SYSTEMS if any(row["system"] == name for row in rows)]
    panel_rows = math.ceil(len(workloads) / _COLUMNS)
    with mpl.rc_context({"font.size": 9, "axes.titlesize": 10, "text.color": INK}):
        height = panel_rows * (0.75 + 0.3 * len(systems))
        figure = Figure(figsize=(9.0, height + 0.4), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(panel_rows, _COLUMNS, squeeze=False).flatten()
        for panel in panels[len(workloads) :]:
            panel.axis("off")
        for panel, workload in zip(panels, workloads, strict=False):
            _draw_panel(panel, [row for row in rows if row["workload"] == workload], systems)
            panel.set_title(workload, loc="left", fontweight="bold")
        figure.supxlabel(
            "seconds a round, median and range; beside it the ratio to ours", fontsize=9
        )
        figure.savefig(path, metadata={"Software": None})


def _draw_panel(panel: object, rows: Sequence[Row], systems: Sequence[str]) -> None:
    """Draws the systems of one workload."""
    from matplotlib.axes import Axes

    assert isinstance(panel, Axes)
    measured = {row["system"]: row for row in rows}
    everything = [float(row[f"seconds_{end}"]) for row in rows for end in ("min", "max")]
    left = 10 ** math.floor(math.log10(min(everything)) - 0.2)
    for place, system in enumerate(reversed(systems)):
        row = measured.get(system)
        if row is None:
            panel.text(left * 1.1, place, "not measured", va="center", color=MUTED, fontsize=8)
            continue
        median, least, most = (float(row[f"seconds_{what}"]) for what in ("median", "min", "max"))
        color = BLUE if system == OURS else ORANGE
        panel.plot([least, most], [place, place], color=color, linewidth=2.0, zorder=2)
        panel.plot([median], [place], color=color, marker="o", markersize=6, zorder=3)
        ratio = float(row["ratio_to_ours"])
        text = f"{short(median)} s" + ("" if system == OURS else f"  {short(ratio)} times ours")
        panel.text(most * 1.12, place, text, va="center", fontsize=8, zorder=4)
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(lambda seconds, _: f"{seconds:g}")
    panel.xaxis.set_minor_formatter(lambda *_: "")
    panel.set_xlim(left, max(everything) * 8)
    panel.set_ylim(-0.6, len(systems) - 0.4)
    panel.set_yticks(range(len(systems)), list(reversed(systems)))
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color=GRID, zorder=0)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
