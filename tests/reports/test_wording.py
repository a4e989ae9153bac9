"""Numbers are written as they are read."""

import pytest

from fl_research.reports import wording


@pytest.mark.parametrize(
    ("value", "printed"),
    [(1e-5, "1e-5"), (2.5e-7, "2.5e-7"), (0.01, "0.01"), (1.2345e-4, "1.2345e-4")],
)
def test_probability_keeps_all_digits(value: float, printed: str) -> None:
    assert wording.probability(value) == printed


@pytest.mark.parametrize(
    ("value", "printed"),
    [(None, "not stated"), (1234567, "1,234,567"), (0.84213, "0.8421"), (420.0, "420")],
)
def test_number(value: float | None, printed: str) -> None:
    assert wording.number(value) == printed


@pytest.mark.parametrize(
    ("value", "printed"), [(0, "0 mismatches"), (1, "1 mismatch"), (2000, "2,000 mismatches")]
)
def test_count(value: int, printed: str) -> None:
    assert wording.count(value, "mismatch", "mismatches") == printed
