"""Printed bounds are never below the computed ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_research.reports import wording


@given(st.floats(min_value=1e-12, max_value=1e12), st.integers(min_value=3, max_value=6))
def test_rounded_up_is_never_below_and_close(value: float, digits: int) -> None:
    printed = float(wording.rounded_up(value, digits))
    assert value <= printed <= value * (1 + 10.0 ** (1 - digits)) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("value", "printed"),
    [(1.98701, "1.988"), (2.0, "2"), (0.1, "0.1"), (123456.1, "123500"), (4.0000001e7, "4.001e7")],
)
def test_rounded_up_by_hand(value: float, printed: str) -> None:
    assert wording.rounded_up(value) == printed


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
