"""The plot of ε over δ: what the same releases guarantee at every δ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fl_research.privacy.rounding import rounded_up

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINE, _MARK = "#2a6496", "#b8602a"


def figure(curve: Sequence[tuple[float, float]], delta: float) -> Figure:
    """Draws the curve with the claim marked.

    Args:
      curve: Pairs of δ and ε, by rising δ.
      delta: The δ of the claim.
    """
    from matplotlib import pyplot as plt

    deltas, epsilons = zip(*curve, strict=True)
    drawn, axes = plt.subplots(figsize=(6.4, 3.2))
    axes.plot(deltas, epsilons, color=_LINE, marker="o", markersize=3)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.axvline(delta, color=_MARK, linewidth=1.2, linestyle="--")
    nearest = min(curve, key=lambda point: abs(point[0] - delta) / delta)[1]
    axes.annotate(
        f"δ of the claim: ε ≤ {rounded_up(nearest)}" if nearest else "",
        (delta, nearest),
        xytext=(8, 8),
        textcoords="offset points",
        color=_MARK,
    )
    axes.set_xlabel("δ")
    axes.set_ylabel("ε")
    axes.set_title("The same releases at every δ")
    return drawn
