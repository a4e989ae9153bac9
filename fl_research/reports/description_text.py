"""The description of a table as Markdown that reads well in a terminal too."""

from collections.abc import Sequence

from fl_research.data.column_description import ColumnDescription
from fl_research.data.description import (
    QUANTILES,
    ClientsDescription,
    Description,
    LabelDescription,
)
from fl_research.reports import wording

NOT_COVERED = (
    "All of this was read off the records: it is for those who may see them, and no epsilon covers "
    "it."
)
_WIDEST_CELL = 44


def markdown(description: Description, *, source: str, notes: Sequence[str] = ()) -> str:
    """Returns the description as Markdown.

    Args:
      description: From `data.description.describe`.
      source: Where the records came from, in words, without passwords.
      notes: Further lines, such as what a reader cleaned.
    """
    parts = [f"# {source}", "", _size(description), "", NOT_COVERED]
    if notes:
        parts += ["", *(f"- {note}" for note in notes)]
    parts += ["", "## Columns", "", *_columns(description)]
    if description.clients is not None:
        parts += ["", "## Clients", "", *_clients(description.clients)]
    if description.label is not None:
        parts += ["", "## Label", "", *_label(description.label, description.rows)]
    return "\n".join(parts) + "\n"


def _size(description: Description) -> str:
    """Rows and columns."""
    rows, columns = f"{description.rows:,} rows", f"{len(description.columns)} columns"
    if not description.duplicates:
        return f"{rows}, {columns}; no row equals another."
    return f"{rows}, {columns}; {description.duplicates:,} rows equal an earlier one."


def _columns(description: Description) -> list[str]:
    """One line a column."""
    client = description.clients.column if description.clients else None
    label = description.label.column if description.label else None
    rows = [["Column", "Kind", "Missing", "Distinct", "Range or frequent values"]]
    for column in description.columns:
        share = 100 * column.missing / description.rows
        missing = f"{column.missing:,} ({share:.1f} %)" if column.missing else "0"
        kind = {client: "client", label: f"label, {column.kind}"}.get(column.name, column.kind)
        # The names of clients are nothing to print.
        values = "" if column.name == client else _range(column)
        rows.append([column.name, kind, missing, f"{column.distinct:,}", values])
    return _table(rows)


def _range(column: ColumnDescription) -> str:
    """What values a column has."""
    if column.kind == "time":
        return f"{column.first} to {column.last}"
    if column.kind == "number":
        low, _, middle, _, high = column.quartiles
        return f"{low:g} to {high:g}, median {middle:g}"
    if not column.frequent or column.kind == "text":
        return ""
    shown = [f"{_short(text, 24)} ({count:,})" for text, count in column.frequent]
    more = ", ..." if column.distinct > len(shown) else ""
    return ", ".join(shown) + more


def _clients(clients: ClientsDescription) -> list[str]:
    """How many, and how many rows each has."""
    without = f"; {clients.rows_without:,} rows name none" if clients.rows_without else ""
    written = [
        f"{clients.number:,} clients (`{clients.column}`), {clients.mean:.1f} rows each on "
        f"average{without}.",
        "",
    ]
    written += _quantiles("Rows a client", clients.quantiles)
    tallest = max(number for _, _, number in clients.histogram)
    rows = [["Rows", "Clients", ""]]
    for low, high, number in clients.histogram:
        span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        rows.append([span, f"{number:,}", "█" * round(30 * number / tallest)])
    return [*written, "", *_table(rows)]


def _label(label: LabelDescription, all_rows: int) -> list[str]:
    """How it is spread, and its skew over clients."""
    without = f", {label.rows_without:,} rows without" if label.rows_without else ""
    if label.kind == "number":
        written = [f"`{label.column}`, a number{without}.", ""]
        written += _quantiles(label.column, label.quantiles)
    else:
        written = [f"`{label.column}`, {label.num_classes:,} classes{without}.", ""]
        total = all_rows - label.rows_without
        rows = [["Class", "Rows", "Share"]]
        for value, count in label.classes:
            rows.append([value, f"{count:,}", f"{100 * count / total:.1f} %"])
        written += _table(rows)
        if label.num_classes > len(label.classes):
            written += ["", f"The most frequent {len(label.classes)} are shown."]
    if label.skew is None:
        return written
    what = (
        "distance of a client's mix of labels from that of all (0: the same, 1: nothing in common)"
        if label.kind == "classes"
        else "share of the label's variance that lies between clients"
    )
    written += ["", f"Skew over clients: {wording.number(label.skew, 3)}, the {what}."]
    if label.skew_at_random is not None:
        by_chance = wording.number(label.skew_at_random, 3)
        written[-1] += f" Labels dealt to these clients at random give {by_chance}."
    return written


def _quantiles(what: str, quantiles: Sequence[float]) -> list[str]:
    """A table of one line."""
    heads = ["least", *(f"{q} %" for q in QUANTILES[1:-1]), "most"]
    return _table([["", *heads], [what, *(f"{value:,.6g}" for value in quantiles)]])


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells, the head first, as aligned Markdown."""
    cells = [[_short(cell.replace("|", "\\|").replace("\n", " ")) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _short(text: str, most: int = 2 * _WIDEST_CELL) -> str:
    """A text that is cut where it is too long for a table."""
    return text if len(text) <= most else text[: most - 3] + "..."
