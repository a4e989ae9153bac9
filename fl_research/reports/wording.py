"""How a report writes names and numbers: one place, so that text, plots and terminal agree.

An upper bound is rounded up and never down, by `privacy.rounding`.
"""

import decimal

from fl_research import metric_table
from fl_research.privacy.rounding import decimal_text, rounded_up

NOT_STATED = "not stated"

_BASELINES = {
    "without_privacy": "same model, no privacy",
    "central": "same model, central",
    "trivial": "trivial",
}
_RELATIONS = {
    "add_or_remove_one": "add-or-remove-one",
    "replace_one": "replace-one",
    "zero_out": "zero-out",
}
_ACCOUNTANTS = {
    "pld": "PLD",
    "rdp": "RDP",
    "rdp_classic": "RDP, classic conversion",
    "basic": "basic composition",
    "advanced": "advanced composition",
}


def metric(name: str) -> str:
    """The written name of a metric, as in the middle of a sentence."""
    return metric_table.words(name)


def baseline(name: str) -> str:
    """The written name of a baseline."""
    return _BASELINES.get(name, name.replace("_", " "))


def relation(name: str) -> str:
    """The written name of a neighbouring relation."""
    return _RELATIONS.get(name, name.replace("_", " "))


def accountant(name: str) -> str:
    """The written name of an accountant."""
    return _ACCOUNTANTS.get(name, name.replace("_", " "))


def shortened(text: str, longest: int) -> str:
    """The text, cut with an ellipsis where it has more than `longest` characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def sentence_case(text: str) -> str:
    """The text with its first letter large and the others as they are."""
    return text[:1].upper() + text[1:]


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
    """A small probability such as δ: all its digits, in powers of ten below a thousandth."""
    return decimal_text(decimal.Decimal(repr(value)))


def percent_up(value: float) -> str:
    """A share of one as a percentage that is never below `value`."""
    if value >= 1:
        return "100 %"
    return f"{rounded_up(100 * value, 4)} %"


def count(value: int | None, thing: str, things: str | None = None) -> str:
    """A number of things: 1 round, 2 rounds; `things` where the plural is not formed by an s."""
    return f"{number(value)} {thing if value == 1 else things or f'{thing}s'}"


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    if value < 120:
        return f"{value:.1f} s"
    if value < 7200:
        return f"{value / 60:.1f} min"
    return f"{value / 3600:.1f} h"
