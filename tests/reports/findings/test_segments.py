"""The finding `segments`: its table and its figure say what the finding holds."""

from typing import Any

import pytest

from fl_research.reports.findings import segments


def _row(number: int, rows: int, age: float | None, app: float | None, worth: Any) -> dict:
    web = None if app is None else 1 - app
    return {
        "segment": number,
        "share": rows / 100,
        "rows": rows,
        "numbers": {"age": age, "spend": 0.0 if age is not None else None},
        "categories": {"channel": {"app": app, "web": web}},
        "worth_share": worth,
    }


def _finding(*, with_worth: bool = True) -> dict[str, Any]:
    worth = (0.25, 0.5, None, 0.325) if with_worth else (None,) * 4
    rows = [
        _row(2, 70, 30.0, 0.9, worth[0]),
        _row(1, 30, 1234.5, 0.1, worth[1]),
        _row(3, 0, None, None, worth[2]),
    ]
    overall = _row(0, 100, 391.35, 0.66, worth[3])
    return {
        "customers": 100,
        "worth": "income = high" if with_worth else None,
        "overall": overall,
        "segments": rows,
    }


def test_table() -> None:
    lines = segments.lines(_finding())
    head, _, *rows = lines[2:]
    assert head == "| Segment | Share | age | spend | What is typical | income = high |"
    assert rows[0] == "| 2 | 70.0% | 30 | 0 | channel app 90% (66%) | 25.0% |"
    assert rows[1] == "| 1 | 30.0% | 1,234 | 0 | channel web 90% (34%) | 50.0% |"
    assert rows[2] == "| 3 | 0.0% | none | none | nobody | none |"
    assert rows[3] == "| all | 100.0% | 391 | 0 |  | 32.5% |"
    assert "100 test customers" in segments.released(_finding())


def test_without_worth_there_is_no_such_column() -> None:
    assert segments.lines(_finding(with_worth=False))[2].endswith("| What is typical |")
    assert len(segments.figure(_finding(with_worth=False), {}).axes) == 1


def test_figure() -> None:
    """A row a segment with customers; the means are written into the cells, blue for above."""
    left, right = segments.figure(_finding(), {}).axes
    assert [t.get_text() for t in left.get_yticklabels()] == ["segment 2 (70%)", "segment 1 (30%)"]
    assert [t.get_text() for t in left.texts] == ["30", "0", "1,234", "0"]
    ratios = left.images[0].get_array()
    assert ratios[0, 0] < 0 < ratios[1, 0] and ratios[0, 1] == 0
    assert [bar.get_width() for bar in right.patches] == [0.25, 0.5]
    assert [t.get_text() for t in right.texts] == ["25.0%", "50.0%"]


def test_figure_without_numbers() -> None:
    finding = _finding()
    for row in (finding["overall"], *finding["segments"]):
        row["numbers"] = {}
    assert segments.figure(finding, {}).axes
    assert segments.lines(finding)[2].startswith("| Segment | Share | What is typical")


@pytest.mark.parametrize(
    ("value", "text"), [(99.96, "100"), (0.1234, "0.123"), (123456.0, "123,456")]
)
def test_means_are_written_with_three_digits(value: float, text: str) -> None:
    assert segments._number(value) == text
