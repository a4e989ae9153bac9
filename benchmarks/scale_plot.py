"""The curves of `benchmarks.scale` as a picture: a panel for each size, both axes logarithmic.

matplotlib is imported when the picture is drawn, and draws without a display.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fl_research.reports.plot_base import BLUE, GRID, INK, MUTED


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws every curve into a PNG file; grey is what linear growth from the last point would be.

    Args:
      rows: With the keys of `benchmarks.scale.COLUMNS`.
      path: Where the picture goes.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = list(dict.fromkeys(row["curve"] for row in rows))
    with mpl.rc_context({"font.size": 9, "axes.titlesize": 10, "text.color": INK}):
        figure = Figure(figsize=(9.0, 5.6), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        for panel, curve in zip(figure.subplots(2, 2).flatten(), curves, strict=False):
            points = [row for row in rows if row["curve"] == curve]
            sizes = [row["size"] for row in points]
            medians = [row["seconds_median"] for row in points]
            if curve != "blocks":
                panel.set_xscale("log")
                panel.set_yscale("log")
                linear = [medians[-1] * size / sizes[-1] for size in sizes]
                panel.plot(sizes, linear, color=MUTED, linewidth=1, linestyle=":")
                panel.set_ylim(bottom=min(medians) / 2)
            else:
                panel.set_xticks(sizes)
                panel.set_ylim(0, 1.2 * max(medians))
            panel.vlines(
                sizes,
                [row["seconds_min"] for row in points],
                [row["seconds_max"] for row in points],
                color=BLUE,
                linewidth=1,
            )
            panel.plot(sizes, medians, color=BLUE, marker="o", markersize=4)
            panel.set_title(curve, loc="left", fontweight="bold")
            panel.grid(color=GRID, linewidth=0.6)
            panel.set_axisbelow(True)
            for side in ("top", "right"):
                panel.spines[side].set_visible(False)
        figure.supylabel("seconds a round, median and range; dotted: linear", fontsize=9)
        figure.savefig(path, metadata={"Software": None})
