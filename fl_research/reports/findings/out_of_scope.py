"""The finding `out_of_scope`: what the model answers itself, and what goes to a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fl_research.reports.plot_base import BLUE, DASHED, MUTED, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Answered, or handed to a person"


def figure(finding: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Figure:
    """Returns what each confidence threshold keeps, how right that is, and what it hands over.

    Args:
      finding: From `analyses.out_of_scope`.
      evaluation: evaluation.json; not used.
    """
    del evaluation
    curve = finding["curve"]
    drawn = new_figure(8.4, 4.4)
    ax = drawn.subplots()
    ax.plot(curve["threshold"], curve["kept"], color=BLUE, label="questions answered")
    ax.plot(
        curve["threshold"],
        curve["accuracy_of_kept"],
        color=BLUE,
        linestyle=DASHED,
        label="right answers among these",
    )
    if "out_of_scope_recall" in curve:
        ax.plot(
            curve["threshold"],
            curve["out_of_scope_recall"],
            color=ORANGE,
            label="foreign questions handed over",
        )
    ax.axvline(finding["threshold"], color=MUTED, linewidth=1)
    ax.annotate(
        f"threshold {finding['threshold']:.2f}",
        (finding["threshold"], 0.02),
        xytext=(5, 0),
        textcoords="offset points",
        color=MUTED,
    )
    ax.set_xlabel("confidence below which a question goes to a person")
    ax.set_ylabel("share")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.01)
    ax.legend(frameon=False, labelcolor=MUTED, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return drawn


def lines(finding: Mapping[str, Any]) -> list[str]:
    """Returns the threshold and what it does, as Markdown."""
    right = finding["accuracy_of_kept"]
    shown = "none of them" if right is None else f"{right:.1%} of these answers"
    text = (
        f"A question is answered where the confidence is at least {finding['threshold']:.3f}, "
        f"which keeps {finding['keep']:.0%} of the {finding['validation_questions']:,} questions "
        f"of the validation clients. Of {finding['test_questions']:,} test questions "
        f"{finding['kept']:.1%} are answered, and {shown} are right "
        f"({finding['accuracy_of_all']:.1%} if all were answered)."
    )
    recall = finding["out_of_scope_recall"]
    if recall is None:
        return [text, "There were no foreign questions to measure what else is handed over."]
    return [
        text,
        f"Of {finding['foreign_questions']:,} {finding['foreign_from']}, {recall:.1%} are handed "
        "to a person (out-of-scope recall); the others get a wrong answer.",
    ]


def released(finding: Mapping[str, Any]) -> str:
    """Returns what was computed without noise."""
    text = (
        f"the confidence of {finding['validation_questions']:,} validation and "
        f"{finding['test_questions']:,} test questions, for the threshold and what it keeps"
    )
    if finding["foreign_questions"]:
        return f"{text}; and of {finding['foreign_questions']:,} foreign ones"
    return text
