"""How findings on satisfaction write what is predicted: a probability, or a level among levels."""

from collections.abc import Mapping
from typing import Any

from fl_research.reports import wording


def predicted_words(finding: Mapping[str, Any]) -> str:
    """Returns what is predicted, in words.

    Args:
      finding: `levels`, None for a probability, and `positive`, what it is the probability of.
    """
    if finding["levels"] is not None:
        return "expected level"
    positive = finding["positive"]
    return "probability" if positive is None else f"probability of “{positive}”"


def prediction_text(finding: Mapping[str, Any], mean: float) -> str:
    """Returns a mean prediction for reading.

    Where the levels are whole numbers one apart, a mean level is counted as they are; else by its
    place, from 1.

    Args:
      finding: As for `predicted_words`.
      mean: A probability, or a level counted from 0.
    """
    levels = finding["levels"]
    if levels is None:
        return wording.number(mean, 3)
    first = int(levels[0]) if levels[0].lstrip("-").isdecimal() else None
    if first is not None and [str(first + at) for at in range(len(levels))] == levels:
        return f"{first + mean:.2f}"
    return f"{1 + mean:.2f} of {len(levels)}"


def level_at(levels: list[str], at: float) -> str:
    """Returns the name of the level at a tick; nothing between levels.

    Args:
      levels: Their names.
      at: A place, counted from 0.
    """
    whole = round(at)
    return levels[whole] if abs(at - whole) < 1e-6 and 0 <= whole < len(levels) else ""
