"""The figures of the privacy audits, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fl_research.privacy.accounting import best_true_positive_rate
from fl_research.run.durable_files import storage_errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fl_research.audit.membership import Attack
    from fl_research.audit.worst_case import WorstCaseAudit

_INK, _MUTED, _GRID = "#22303c", "#6b7785", "#e6e9ed"
_COLOURS = ("#2a6496", "#b8602a")
_DOTS_PER_INCH = 150
_BINS = 80


def save_statistics(path: Path, found: WorstCaseAudit) -> None:
    """Draws the histograms of both statistics with the threshold that was chosen."""
    figure, axes = _figure()
    pooled = np.concatenate([found.in_statistics, found.out_statistics])
    bins = np.linspace(pooled.min(), pooled.max(), _BINS + 1)
    for values, label, colour in (
        (found.out_statistics, "neighbour", _COLOURS[1]),
        (found.in_statistics, "with the client", _COLOURS[0]),
    ):
        axes.hist(values, bins=bins, color=colour, alpha=0.6, label=label)
    side = "at least" if found.audit.above else "at most"
    axes.axvline(
        found.audit.threshold,
        color=_INK,
        linestyle="--",
        label=f"event: {side} {found.audit.threshold:.3g}",
    )
    claim = f"{found.claimed_epsilon:.3g}" if np.isfinite(found.claimed_epsilon) else "infinite"
    axes.set_title(
        f"ε at least {found.audit.epsilon_lower:.3g} (confidence {found.audit.confidence:.0%}), "
        f"claimed {claim}, δ = {found.audit.delta:g}",
        loc="left",
        color=_INK,
    )
    axes.set_xlabel("statistic of a run")
    axes.set_ylabel("runs")
    axes.legend(frameon=False)
    _save(figure, path)


def save_roc(
    path: Path, attacks: Sequence[Attack], *, epsilon: float, delta: float, others: int
) -> None:
    """Draws the ROC curves on logarithmic axes, with guessing and what the claim allows.

    Args:
      path: PNG file.
      attacks: Each is one curve.
      epsilon: That is claimed; infinite without a claim, which is then not drawn.
      delta: Of the claim.
      others: Clients that did not train: one over it is the least rate above zero.
    """
    figure, axes = _figure()
    least = 0.5 / others
    for attack, colour in zip(attacks, _COLOURS, strict=True):
        shown = attack.false_positive_curve > 0
        axes.step(
            attack.false_positive_curve[shown],
            np.maximum(attack.true_positive_curve[shown], least),
            where="post",
            color=colour,
            label=f"{attack.name} (AUC {attack.auc:.3f})",
        )
    rates = np.geomspace(least, 1.0, 400)
    axes.plot(rates, rates, color=_MUTED, linestyle=":", label="guessing")
    if np.isfinite(epsilon):
        allowed = [best_true_positive_rate(epsilon, delta, float(rate)) for rate in rates]
        axes.plot(
            rates, allowed, color=_INK, linestyle="--", label=f"most that ε = {epsilon:.3g} allows"
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(least, 1.0)
    axes.set_ylim(least, 1.1)
    axes.set_title("Telling clients that trained from others", loc="left", color=_INK)
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.legend(frameon=False, loc="lower right")
    _save(figure, path)


def _figure() -> tuple[Figure, Axes]:
    """An empty figure in the reports' colours."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), dpi=_DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_GRID)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    """Writes the PNG; makes its folder."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")
