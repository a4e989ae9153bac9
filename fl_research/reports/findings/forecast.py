"""How good forecasts are by step ahead, and what they add up to over all clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.reports import wording
from fl_research.reports.plot_base import (
    BLUE,
    DASHED,
    INK,
    MUTED,
    ORANGE,
    PALE_BLUE,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Forecast by step ahead"

_MODEL = "model"
_FAR_OFF = 6.0  # Times the error of this run.


def figure(finding: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Figure:
    """Draws the error by step at the left, then the sum over clients, then the quantiles.

    Args:
      finding: From `objectives.forecast_metrics.by_step`, with `value`.
      evaluation: Not used: the baselines are in the finding, step by step.
    """
    del evaluation
    quantiles = finding["quantiles"]
    drawn = new_figure(12.6 if quantiles else 9.4, 4.6)
    axes = drawn.subplots(1, 3 if quantiles else 2)
    _errors(axes[0], finding)
    _totals(axes[1], finding)
    if quantiles:
        _quantiles(axes[2], finding)
    return drawn


def lines(finding: Mapping[str, Any]) -> list[str]:
    """Returns the errors by step as a table, how the quantiles held and how to read them."""
    metric = wording.metric(finding["metric"])
    steps = range(1, len(finding["actual"]) + 1)
    table = [
        f"{wording.sentence_case(metric)} by step ahead, "
        f"{wording.number(finding['rows'])} forecasts of each:",
        "",
        "| forecast | " + " | ".join(str(step) for step in steps) + " |",
        "|---|" + "---:|" * len(steps),
    ]
    for name, errors in finding["errors"].items():
        cells = " | ".join(wording.number(error) for error in errors)
        table.append(f"| {_name(name)} | {cells} |")
    for index, quantile in enumerate(finding["quantiles"]):
        share = float(np.mean([step[index] for step in finding["not_above"]]))
        table += [""] if index == 0 else []
        table.append(
            f"- {100 * share:.1f} % of the actual values are not above the forecast that "
            f"{100 * quantile:g} % should not be above."
        )
    if finding["quantiles"]:
        table.append(
            "- Where many values are zero, low quantiles are zero too, and hold more than their "
            "share. Medians do not add up: for sums over clients forecast means, with "
            "--loss=squared."
        )
    return table


def released(finding: Mapping[str, Any]) -> str:
    """Returns what the curves were computed from."""
    del finding
    return "errors, sums and coverage of the forecasts by step ahead, from the test periods"


def _name(name: str) -> str:
    """The written name of a forecast."""
    return "this run" if name == _MODEL else wording.baseline(name)


def _steps(ax: Axes, finding: Mapping[str, Any]) -> np.ndarray:
    """The steps ahead, as the ticks of an axis."""
    steps = np.arange(1, len(finding["actual"]) + 1)
    ax.set_xticks(steps if len(steps) <= 12 else steps[:: len(steps) // 6])
    ax.set_xlabel("periods ahead")
    return steps


def _errors(ax: Axes, finding: Mapping[str, Any]) -> None:
    """The error of each forecast; names at the right end, moved apart where lines are close."""
    steps = _steps(ax, finding)
    errors = {name: np.asarray(values, float) for name, values in finding["errors"].items()}
    # A forecast that is far off would press all others together; the table has it.
    most = _FAR_OFF * float(errors[_MODEL].max())
    errors = {n: values for n, values in errors.items() if n == _MODEL or values.max() <= most}
    for name, values in errors.items():
        is_model = name == _MODEL
        ax.plot(
            steps, values, color=BLUE if is_model else MUTED, linewidth=2.4 if is_model else 1.2,
            marker="o", markersize=4.5 if is_model else 3, zorder=3 if is_model else 2,
        )  # fmt: skip
    top = 1.06 * max(float(values.max()) for values in errors.values())
    ax.set_ylim(0, top or 1.0)
    room = 0.75 * max(len(steps) - 1, 1)
    ax.set_xlim(steps[0] - 0.15, steps[-1] + room)
    heights = _apart({name: float(values[-1]) for name, values in errors.items()}, 0.055 * top)
    for name, height in heights.items():
        is_model = name == _MODEL
        ax.text(
            steps[-1] + 0.06 * room, height, _name(name), va="center", fontsize=9,
            color=BLUE if is_model else MUTED, weight="bold" if is_model else "normal",
        )  # fmt: skip
    ax.set_title(f"Error by step: {wording.metric(finding['metric'])}")


def _apart(heights: Mapping[str, float], least: float) -> dict[str, float]:
    """Heights of labels, raised until each is `least` above the one below."""
    placed: dict[str, float] = {}
    below = -np.inf
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        below = max(height, below + least)
        placed[name] = below
    return placed


def _totals(ax: Axes, finding: Mapping[str, Any]) -> None:
    """The sum over all clients, actual and forecast."""
    steps = _steps(ax, finding)
    what = "forecast (medians)" if finding["quantiles"] else "forecast"
    lines = (("actual", finding["actual"], INK, "-"), (what, finding["forecast"], ORANGE, DASHED))
    for name, values, color, style in lines:
        ax.plot(steps, values, color=color, linestyle=style, marker="o", markersize=4, label=name)
    both = [*finding["actual"], *finding["forecast"]]
    ax.set_ylim(min(0.0, 1.3 * min(both)), max(1.3 * max(both), 1e-9))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    ax.legend(frameon=False, loc="upper left", ncols=2)
    of_medians = " (medians do not add up)" if finding["quantiles"] else ""
    ax.set_title(f"Sum over clients: {finding['value']}{of_medians}")


def _quantiles(ax: Axes, finding: Mapping[str, Any]) -> None:
    """The share of actual values not above each quantile; a dashed line where it should be."""
    steps = _steps(ax, finding)
    shares = np.asarray(finding["not_above"], float)
    room = 0.3 * max(len(steps) - 1, 1)
    ax.set_xlim(steps[0] - 0.15, steps[-1] + room)
    for index, quantile in enumerate(finding["quantiles"]):
        ax.axhline(quantile, color=MUTED, linewidth=1, linestyle=DASHED)
        ax.plot(steps, shares[:, index], color=BLUE, marker="o", markersize=4)
        ax.text(
            steps[-1] + 0.95 * room, quantile - 0.012, f"{100 * quantile:g} %", ha="right",
            va="top", fontsize=9, color=MUTED,
        )  # fmt: skip
    if len(finding["quantiles"]) > 1:
        ax.fill_between(steps, shares[:, 0], shares[:, -1], color=PALE_BLUE, alpha=0.35, zorder=0)
    ax.set_ylim(0, 1.04)
    ax.set_title("Actual values not above each quantile")
    ax.set_ylabel("share of test values")
