"""Printed bounds are never below the computed ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_research.privacy.rounding import rounded_up


@given(st.floats(min_value=1e-12, max_value=1e12), st.integers(min_value=3, max_value=6))
def test_rounded_up_is_never_below_and_close(value: float, digits: int) -> None:
    printed = float(rounded_up(value, digits))
    assert value <= printed <= value * (1 + 10.0 ** (1 - digits)) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (1.98701, "1.988"),
        (2.0, "2"),
        (0.1, "0.1"),
        (123456.1, "123500"),
        (4.0000001e7, "4.001e7"),
        (0, "0"),
    ],
)
def test_rounded_up_by_hand(value: float, printed: str) -> None:
    assert rounded_up(value) == printed
