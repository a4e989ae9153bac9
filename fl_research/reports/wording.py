"""How a report writes names and numbers: one place, so that text, plots and terminal agree.

An upper bound is rounded up and never down: a printed ε may be larger than the one that was
computed, not smaller.
"""

import decimal
import math

NOT_STATED = "not stated"

_METRICS = {
    "auc": "AUC",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "loss": "loss",
    "brier": "Brier score",
}
_BASELINES = {
    "without_privacy": "same model, no privacy",
    "central": "same model, central",
    "trivial": "trivial",
}
_RELATIONS = {
    "add_or_remove_one": "add-or-remove-one",
    "replace_one": "replace-one",
    "replace_special": "zero-out",
}
_ACCOUNTANTS = {
    "pld": "PLD",
    "rdp": "RDP",
    "rdp_classic": "RDP, classic conversion",
}


def metric(name: str) -> str:
    """The written name of a metric, as in the middle of a sentence."""
    return _METRICS.get(name, name.replace("_", " "))


def baseline(name: str) -> str:
    """The written name of a baseline."""
    return _BASELINES.get(name, name.replace("_", " "))


def relation(name: str) -> str:
    """The written name of a neighbouring relation."""
    return _RELATIONS.get(name, name.replace("_", " "))


def accountant(name: str) -> str:
    """The written name of an accountant."""
    return _ACCOUNTANTS.get(name, name.replace("_", " "))


def sentence_case(text: str) -> str:
    """The text with its first letter large and the others as they are."""
    return text[:1].upper() + text[1:]


def rounded_up(value: float, digits: int = 4) -> str:
    """A number that is never below `value`, with this many significant digits.

    Args:
        value: Finite or infinite, any sign.
        digits: Significant digits kept, at least 1.
    """
    if not math.isfinite(value):
        return "infinite" if value > 0 else str(value)
    context = decimal.Context(prec=digits, rounding=decimal.ROUND_CEILING)
    rounded = context.create_decimal(decimal.Decimal(repr(float(value))))
    if rounded == 0:
        return "0"
    # Plain notation between one in ten thousand and a million, powers of ten outside.
    if -4 <= rounded.adjusted() < 6:
        return _without_zeros(f"{rounded:f}")
    return _short_power(rounded)


def number(value: float | int | None, digits: int = 4) -> str:
    """A measured value for reading: whole numbers with separators, others to `digits` digits."""
    if value is None:
        return NOT_STATED
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e9):
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.1f}"
    return f"{value:.{digits}f}" if 1e-3 <= abs(value) < 1 else f"{value:.{digits}g}"


def probability(value: float) -> str:
    """A small probability such as δ: all its digits, in powers of ten below one in a thousand."""
    exact = decimal.Decimal(repr(value))
    return _short_power(exact) if exact.adjusted() < -3 else _without_zeros(f"{exact:f}")


def percent_up(value: float) -> str:
    """A share of one as a percentage that is never below `value`."""
    if value >= 1:
        return "100 %"
    return f"{rounded_up(100 * value, 4)} %"


def count(value: int | None, thing: str) -> str:
    """A number of things: 1 round, 2 rounds."""
    return f"{number(value)} {thing}{'' if value == 1 else 's'}"


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    if value < 120:
        return f"{value:.1f} s"
    if value < 7200:
        return f"{value / 60:.1f} min"
    return f"{value / 3600:.1f} h"


def _short_power(value: decimal.Decimal) -> str:
    """Scientific notation without padding: 1e-5, not 1.000e-05."""
    mantissa, exponent = f"{value:e}".split("e")
    return f"{_without_zeros(mantissa)}e{int(exponent)}"


def _without_zeros(text: str) -> str:
    """A decimal number without zeros at its end."""
    return text.rstrip("0").rstrip(".") if "." in text else text
