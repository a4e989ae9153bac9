"""Checks of single arguments that many settings share; each raises one line that names the value.

A bool is no number here, and neither NaN nor an infinity is in any range.
"""

import math
import numbers
from collections.abc import Iterable
from typing import Any

from fl_research.errors import InputError


def require_positive(name: str, value: Any) -> None:
    """Raises InputError unless `value` is a finite number above zero."""
    if not is_finite_number(value) or value <= 0:
        raise InputError(f"{name}={value!r} is not possible; give a finite number above 0")


def require_not_negative(name: str, value: Any) -> None:
    """Raises InputError unless `value` is a finite number that is zero or more."""
    if not is_finite_number(value) or value < 0:
        raise InputError(f"{name}={value!r} is not possible; give a finite number, 0 or more")


def require_at_least(name: str, value: Any, lowest: int) -> None:
    """Raises InputError unless `value` is a whole number that is `lowest` or more."""
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or value < lowest:
        raise InputError(f"{name}={value!r} is not possible; give a whole number, {lowest} or more")


def require_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raises InputError unless `value` is one of `choices`, which the message lists."""
    choices = tuple(choices)
    if value not in choices:
        raise InputError(f"{name}={value!r} is unknown; choose one of {', '.join(choices)}")


def is_finite_number(value: Any) -> bool:
    """Whether `value` is a real number, not a bool, not NaN and not infinite."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_number and math.isfinite(value)
