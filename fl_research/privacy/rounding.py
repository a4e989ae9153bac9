"""How an upper bound is written: rounded up, so that what is printed still bounds.

A printed epsilon may be larger than the one that was computed, never smaller.
"""

import decimal
import math


def rounded_up(value: float, digits: int = 4) -> str:
    """Returns a number that is never below `value`, with this many significant digits.

    Args:
      value: Finite or infinite, any sign.
      digits: Significant digits kept, at least 1.
    """
    if not math.isfinite(value):
        return "infinite" if value > 0 else str(value)
    context = decimal.Context(prec=digits, rounding=decimal.ROUND_CEILING)
    return decimal_text(context.create_decimal(decimal.Decimal(repr(float(value)))))


def decimal_text(value: decimal.Decimal) -> str:
    """Returns all digits, plain between a thousandth and a million, in powers of ten outside."""
    if value == 0:
        return "0"
    if -3 <= value.adjusted() < 6:
        return _without_zeros(f"{value:f}")
    mantissa, exponent = f"{value:e}".split("e")
    return f"{_without_zeros(mantissa)}e{int(exponent)}"


def _without_zeros(text: str) -> str:
    """A decimal number without zeros at its end."""
    return text.rstrip("0").rstrip(".") if "." in text else text
