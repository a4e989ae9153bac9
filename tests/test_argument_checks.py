"""Checks of single arguments: what passes, what is refused, and in which words."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fl_research import argument_checks
from fl_research.errors import InputError

NO_NUMBERS = (True, math.nan, math.inf, -math.inf, np.float32("nan"), "1", None)


def at_least_two(name: str, value: Any) -> None:
    """`require_at_least` with a bound."""
    argument_checks.require_at_least(name, value, 2)


def red_or_blue(name: str, value: Any) -> None:
    """`require_choice` with choices."""
    argument_checks.require_choice(name, value, {"red": 1, "blue": 2})


@pytest.mark.parametrize(
    ("check", "possible", "impossible", "way_out"),
    [
        (
            argument_checks.require_positive,
            (1, 1e-300, np.float32(2), np.int64(1)),
            (*NO_NUMBERS, 0, -1.0),
            "is not possible; give a finite number above 0",
        ),
        (
            argument_checks.require_not_negative,
            (0, 0.0, 1, np.float64(2)),
            (*NO_NUMBERS, -1, -1e-300),
            "is not possible; give a finite number, 0 or more",
        ),
        (
            at_least_two,
            (2, 3, np.int64(2)),
            (*NO_NUMBERS, 1, 2.0, 2.5),
            "is not possible; give a whole number, 2 or more",
        ),
        (
            red_or_blue,
            ("red", "blue"),
            ("green", "", None, ["red"]),
            "is unknown; choose one of red, blue",
        ),
    ],
)
def test_values_pass_or_are_named(
    check: Callable[[str, Any], None],
    possible: tuple[Any, ...],
    impossible: tuple[Any, ...],
    way_out: str,
) -> None:
    for value in possible:
        check("size", value)
    for value in impossible:
        with pytest.raises(InputError) as caught:
            check("size", value)
        assert str(caught.value) == f"size={value!r} {way_out}"
