"""The findings of classifiers and of answers: what is drawn and written is what was found."""

from typing import Any

import pytest

from fl_research.reports import plot_base
from fl_research.reports.findings import (
    accuracy_over_coverage,
    answer_ranks,
    confusion,
    out_of_scope,
)


def _drawn(module: Any, finding: dict[str, Any]) -> Any:
    with plot_base.style():
        figure = module.figure(finding, {})
        figure.canvas.draw()  # Layout and tick labels are made only then.
    return figure


def _texts(ax: Any) -> str:
    return " | ".join(text.get_text() for text in ax.texts)


CONFUSION = {
    "classes": ["lost_card", "refund", "x" * 60],
    "counts": [[8, 2, 0], [0, 5, 0], [0, 0, 0]],
    "most_confused": [{"true": "lost_card", "answer": "re|fund", "rows": 2, "share": 0.2}],
}


def test_confusion_shows_shares_and_pairs() -> None:
    squares, bars = _drawn(confusion, CONFUSION).axes
    shown = squares.images[0].get_array()
    assert shown[0, 0] ** 2 == pytest.approx(0.8) and shown[2].max() == 0
    assert squares.get_yticklabels()[0].get_text() == "lost card"
    assert bars.patches[0].get_width() == 0.2 and "lost card → re|fund  (2)" in _texts(bars)
    assert confusion.lines(CONFUSION)[-1] == "| lost_card | re\\|fund | 2 | 20.0% |"


def test_confusion_without_mistakes_says_so() -> None:
    finding = {**CONFUSION, "most_confused": []}
    assert "no class was taken for another" in _texts(_drawn(confusion, finding).axes[1])
    assert confusion.lines(finding) == ["No class was taken for another."]


def test_many_classes_are_drawn_without_their_names() -> None:
    many = [f"class {i}" for i in range(77)]
    counts = [[int(i == j) for j in range(77)] for i in range(77)]
    finding = {"classes": many, "counts": counts, "most_confused": []}
    assert not _drawn(confusion, finding).axes[0].get_yticks().size


def test_coverage_is_marked_where_half_is_answered() -> None:
    finding = {
        "coverage": [0.25, 0.75, 1.0],
        "accuracy": [1.0, 0.9001, 0.8],
        "threshold": [0.9] * 3,
    }
    (ax,) = _drawn(accuracy_over_coverage, finding).axes
    assert "50%: 95.0% right" in _texts(ax)
    assert ax.get_ylim()[0] < 0.8
    empty = {"coverage": [], "accuracy": [], "threshold": []}
    assert "no row has an answer" in _texts(_drawn(accuracy_over_coverage, empty).axes[0])


@pytest.mark.parametrize("answers", [2, 40])
def test_answer_ranks_mark_one_and_five(answers: int) -> None:
    recall = [0.5 + 0.5 * k / answers for k in range(1, answers + 1)]
    (ax,) = _drawn(answer_ranks, {"recall_at": recall}).axes
    assert ("75.0%" if answers == 2 else "51.2%") + " among 1" in _texts(ax)
    assert ("among 5" in _texts(ax)) == (answers > 5)
    assert len(ax.lines[0].get_xdata()) == min(20, answers)


OUT_OF_SCOPE = {
    "keep": 0.95, "threshold": 0.4, "validation_questions": 200, "test_questions": 1000,
    "kept": 0.94, "accuracy_of_all": 0.9, "accuracy_of_kept": 0.93, "foreign_questions": 80,
    "foreign_from": "questions of foreign topics", "out_of_scope_recall": 0.75,
    "curve": {
        "threshold": [0.1, 0.4], "kept": [1.0, 0.94], "accuracy_of_kept": [0.9, 0.93],
        "out_of_scope_recall": [0.0, 0.75],
    },
}  # fmt: skip


def test_out_of_scope_shows_the_recall_where_there_are_foreign_questions() -> None:
    (ax,) = _drawn(out_of_scope, OUT_OF_SCOPE).axes
    assert "threshold 0.40" in _texts(ax) and len(ax.get_legend().get_texts()) == 3
    first, second = out_of_scope.lines(OUT_OF_SCOPE)
    assert "94.0% are answered, and 93.0% of these answers are right" in first
    assert "Of 80 questions of foreign topics, 75.0% are handed" in second
    assert "80 foreign ones" in out_of_scope.released(OUT_OF_SCOPE)


def test_out_of_scope_without_foreign_questions() -> None:
    curve = {n: v for n, v in OUT_OF_SCOPE["curve"].items() if n != "out_of_scope_recall"}
    finding = OUT_OF_SCOPE | {
        "curve": curve, "out_of_scope_recall": None, "foreign_questions": 0, "kept": 0.0,
        "accuracy_of_kept": None,
    }  # fmt: skip
    assert len(_drawn(out_of_scope, finding).axes[0].get_legend().get_texts()) == 2
    first, second = out_of_scope.lines(finding)
    assert "none of them are right" in first
    assert "no foreign questions" in second
    assert "foreign" not in out_of_scope.released(finding)
