"""The pieces that a Markdown report is made of: lists, tables, and values in one line."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fl_research.reports.wording import NOT_STATED

Lines = list[str]


def value_text(value: Any) -> str:
    """Any value of a record in one line."""
    if value is None:
        return NOT_STATED
    if isinstance(value, Mapping):
        parts = [f"{n} {'none' if item is None else value_text(item)}" for n, item in value.items()]
        return ", ".join(parts) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(value_text, value)) or "none"
    return str(value)


def bullets(lines: Iterable[str]) -> Lines:
    """A list."""
    return [f"- {line}" for line in lines]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Lines:
    """A Markdown table; bars in cells are escaped."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], f"|{'---|' * len(head)}", *lines[1:]]
