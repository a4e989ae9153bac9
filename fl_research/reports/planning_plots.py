"""The figure of a plan: epsilon over rounds, noise over epsilon, mechanisms at equal epsilon.

The curves come from `privacy.planning_curves`. Solid lines in the last panel are mechanisms that
need nothing but a schedule; dashed ones are amplified by sampling, which holds as long as who was
drawn stays secret.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fl_research.errors import InputError
from fl_research.privacy.rounding import rounded_up
from fl_research.reports.plot_base import BLUE, INK, MUTED, ORANGE, new_figure, style
from fl_research.run.durable_files import storage_errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg")

_NO_DATE: Mapping[str, dict[str, None]] = {
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".svg": {"Date": None, "Creator": None},
}
_COLORS = {
    "local_gaussian": "#8a8f98",
    "tree_aggregation": "#5b8c5a",
    "gaussian": BLUE,
    "buffered_toeplitz": "#7a4e9c",
    "banded_matrix_factorization": ORANGE,
}
_DASHES = (0, (4, 2))
_NARROWEST_LABELS = 0.056  # Of the height of the axis, between two labels.
_NO_CLIENT_ERROR = ("laplace", "client_dpsgd")


def check_plot_file(path: Path) -> None:
    """Raises InputError unless a figure can be written to this path."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"plot={path} is no kind of picture; end it in {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise InputError(f"plot={path} is in no folder; make {path.parent} first")
    if path.is_dir():
        raise InputError(f"plot={path} is a folder; give the name of a file")


def draw_plan(path: Path, answer: Mapping[str, Any], curves: Mapping[str, Any]) -> None:
    """Draws a plan into a file; equal plans give equal bytes on one machine.

    Args:
      path: Ends in one of `FORMATS`.
      answer: From `planning.answer_to`.
      curves: From `planning_curves.curves_of`.

    Raises:
      InputError: The file cannot be written.
    """
    check_plot_file(path)
    import matplotlib

    salt: Any = {"svg.hashsalt": "plan"}
    with style(), matplotlib.rc_context(salt):
        figure = plan_figure(answer, curves)
        with storage_errors(path):
            figure.savefig(path, metadata=_NO_DATE[path.suffix.lower()])


def plan_figure(answer: Mapping[str, Any], curves: Mapping[str, Any]) -> Figure:
    """Returns the figure with its three panels.

    Args:
      answer: From `planning.answer_to`.
      curves: From `planning_curves.curves_of`.
    """
    figure = new_figure(14.6, 4.9)
    over_rounds, over_epsilon, compared = figure.subplots(1, 3, width_ratios=[1, 1, 1.5])
    _epsilon_over_rounds(over_rounds, answer, curves["epsilon_over_rounds"])
    _noise_over_epsilon(over_epsilon, answer, curves["noise_over_epsilon"])
    _errors(compared, answer, curves["error_at_equal_epsilon"])
    return figure


def _epsilon_over_rounds(
    ax: Axes, answer: Mapping[str, Any], curve: Mapping[str, Sequence[Any]]
) -> None:
    """Epsilon after so many rounds, with the claim at the end and the target as a line."""
    known = [
        (n, e) for n, e in zip(curve["rounds"], curve["epsilon"], strict=True) if e is not None
    ]
    if known:
        ax.plot(*zip(*known, strict=True), color=BLUE)
    claim, target = answer["claim"]["epsilon"], answer["target_epsilon"]
    if claim is not None:
        ax.plot([answer["rounds"]], [claim], "o", color=BLUE, markersize=5)
        ax.annotate(
            f"ε {rounded_up(claim, 3)}", (answer["rounds"], claim), xytext=(-4, 8),
            textcoords="offset points", ha="right", color=BLUE, fontweight="bold",
        )  # fmt: skip
    if target is not None:
        ax.axhline(target, color=MUTED, linewidth=1, linestyle=_DASHES)
        ax.annotate(
            f"target {target:g}", (0.02, target), xycoords=("axes fraction", "data"),
            xytext=(0, 4), textcoords="offset points", color=MUTED,
        )  # fmt: skip
    ax.set_title("ε over rounds")
    ax.set_xlabel(f"rounds, at noise multiplier {answer['noise_multiplier']:.4g}")
    ax.set_ylabel(f"ε at δ = {_short(answer['delta'])}")
    ax.set_xlim(0, 1.04 * answer["rounds"])
    highest = max([target or 0.0, *(e for _, e in known)], default=0.0)
    ax.set_ylim(0, 1.15 * highest or 1.0)


def _noise_over_epsilon(
    ax: Axes, answer: Mapping[str, Any], curve: Mapping[str, Sequence[Any]]
) -> None:
    """The noise that an epsilon needs, with this plan marked."""
    points = _known(curve["epsilon"], curve["noise_multiplier"])
    claim, noise = answer["claim"]["epsilon"], answer["noise_multiplier"]
    ax.set_yscale("log")
    _epsilon_axis(ax, curve["epsilon"])
    if points:
        ax.plot(*zip(*points, strict=True), color=BLUE, marker="o", markersize=3.5)
        low, high = min(y for _, y in points), max(y for _, y in points)
        if _in_range(claim, curve["epsilon"]):
            _mark(ax, claim, noise)
            low, high = min(low, noise), max(high, noise)
        ax.set_ylim(low / 1.15, high * 1.15)
        _plain_ticks(ax)
    ax.set_title("Noise over ε")
    ax.set_xlabel(f"ε of {answer['rounds']:,} rounds")
    ax.set_ylabel("noise multiplier")


def _errors(ax: Axes, answer: Mapping[str, Any], curves: Mapping[str, Any]) -> None:
    """The error of each mechanism over epsilon, named at the end of its line."""
    epsilons = curves["epsilon"]
    ax.set_yscale("log")
    _epsilon_axis(ax, epsilons)
    ends = []
    for line in curves["mechanisms"]:
        points = _known(epsilons, line["prefix_rmse"])
        if not points:
            continue
        color = _COLORS[line["mechanism"]]
        dashes: Any = _DASHES if line["amplified"] else "-"
        ax.plot(*zip(*points, strict=True), color=color, linestyle=dashes)
        name = line["label"] + (" (amplified)" if line["amplified"] else "")
        ends.append((points[-1][1], name, color))
    error, claim = answer["prefix_rmse"], answer["claim"]["epsilon"]
    if error and _in_range(claim, epsilons) and answer["mechanism"] not in _NO_CLIENT_ERROR:
        _mark(ax, claim, error, below=True)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** 0.09)  # Room for the notes.
    _end_labels(ax, ends, epsilons[-1])
    _plain_ticks(ax)
    ax.set_title("Error of each mechanism at equal ε")
    ax.set_xlabel(f"ε for a client, {answer['rounds']:,} rounds, cohort and δ as planned")
    ax.set_ylabel("noise on prefix sums (RMS)\nclip norms per cohort member")
    _explain(ax, curves["mechanisms"])


def _explain(ax: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    """How often clients take part, in small letters at the top."""
    apart: dict[bool, int] = {}
    for line in lines:
        if separation := line["sampling"].get("min_separation"):
            apart[line["amplified"]] = separation
    notes = [f"solid: a client at most once in {apart[False]:,} rounds"] if False in apart else []
    if any(line["amplified"] for line in lines):
        where = f", separated: once in {apart[True]:,}" if True in apart else ""
        notes.append(f"dashed: amplified by secret sampling{where}")
    ax.text(
        0.985, 0.985, "\n".join(notes), transform=ax.transAxes, ha="right", va="top",
        color=MUTED, fontsize=8.5, linespacing=1.4,
    )  # fmt: skip


def _epsilon_axis(ax: Axes, epsilons: Sequence[float]) -> None:
    """A logarithmic axis of epsilon with plain numbers."""
    ax.set_xscale("log")
    ticks = [e for e in (0.5, 1.0, 2.0, 4.0, 8.0) if epsilons[0] <= e <= epsilons[-1]]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlim(epsilons[0] / 1.06, epsilons[-1] * 1.06)


def _plain_ticks(ax: Axes) -> None:
    """Ticks of a logarithmic axis at 1, 2, 5, 10, ... as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = ax.get_ylim()
    steps = (1.0, 2.0, 5.0) if high / low < 200 else (1.0,)
    if high / low < 8:
        steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    ax.yaxis.set_major_locator(LogLocator(base=10, subs=steps, numticks=20))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _end_labels(ax: Axes, ends: Sequence[tuple[float, str, str]], x: float) -> None:
    """Names at the ends of lines on a logarithmic axis, moved apart where they would touch."""
    low, high = (math.log(value) for value in ax.get_ylim())
    ordered = sorted(ends)
    places = _moved_apart([(math.log(value) - low) / (high - low) for value, _, _ in ordered])
    for (value, name, color), place in zip(ordered, places, strict=True):
        ax.annotate(
            name, (x, value), xytext=(1.06, place), textcoords="axes fraction", va="center",
            color=color, fontsize=9, annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": color, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 1,
                "relpos": (0, 0.5),
            },
        )  # fmt: skip


def _moved_apart(heights: Sequence[float]) -> list[float]:
    """Rising heights with room for a label between any two, each group about its middle."""
    groups: list[tuple[list[float], float]] = []  # The wanted heights, and the first one's place.
    for height in heights:
        members = [height]
        first = height
        while groups and groups[-1][1] + len(groups[-1][0]) * _NARROWEST_LABELS > first:
            members = [*groups.pop()[0], *members]
            middle = sum(members) / len(members)
            first = max(0.0, middle - (len(members) - 1) / 2 * _NARROWEST_LABELS)
        groups.append((members, first))
    return [
        first + place * _NARROWEST_LABELS
        for members, first in groups
        for place in range(len(members))
    ]


def _mark(ax: Axes, x: float, y: float, *, below: bool = False) -> None:
    """A ring around this plan."""
    ax.plot([x], [y], "o", markersize=9, markerfacecolor="none", markeredgewidth=1.8, color=INK)
    ax.annotate(
        "this plan", (x, y), xytext=(-4, -26) if below else (8, 7), textcoords="offset points",
        ha="right" if below else "left", fontweight="bold", fontsize=9,
    )  # fmt: skip


def _short(value: float) -> str:
    """A small number without zeros in its exponent."""
    return f"{value:g}".replace("e-0", "e-")


def _in_range(epsilon: float | None, epsilons: Sequence[float]) -> bool:
    """Whether an epsilon lies on the axis."""
    return epsilon is not None and epsilons[0] <= epsilon <= epsilons[-1]


def _known(xs: Sequence[float], ys: Sequence[float | None]) -> list[tuple[float, float]]:
    """The points whose value is known."""
    return [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None and y > 0]
