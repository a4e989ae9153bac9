"""The rows of a benchmark's CSV file, which grows run by run so that an interrupted one goes on."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fl_research.run.durable_files import write_atomically


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Returns the rows that are there already; none if there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Replaces the file.

    Args:
      path: The file.
      columns: Its columns, in order.
      rows: Each has all of them.
    """
    lines = [columns, *([row[column] for column in columns] for row in rows)]
    write_atomically(path, "".join(",".join(map(_quoted, line)) + "\n" for line in lines))


def _quoted(value: Any) -> str:
    """One cell, quoted where it must be."""
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"') else text
