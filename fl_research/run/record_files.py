"""The small records of a run: JSON objects, and the table of metrics.

JSON files are replaced in one step and never hold NaN or infinities. `metrics.csv` grows by whole
lines; a line that a killed program left half-written is not read, and is cut off before the next.
"""

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fl_research.errors import InputError
from fl_research.run.durable_files import append_line, write_atomically

MetricsRow = dict[str, int | float | str | None]

_WHOLE_NUMBER = re.compile(r"[+-]?\d+")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replaces a JSON file in one step. NaN and infinities, which JSON has not, become null.

    Args:
      path: The file; its folder exists.
      value: Plain values, or numpy's scalars and arrays.

    Raises:
      InputError: It cannot be written; the old content is still there.
      TypeError: A value is neither of those.
    """
    text = json.dumps(plain_json(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
      InputError: The file is absent, cannot be read, or holds no JSON object.
    """
    try:
        value = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is damaged: {error}; restore it or use a new folder") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged: it holds no JSON object; restore it")
    return value


def read_text(path: Path) -> str:
    """Reads a UTF-8 file.

    Raises:
      InputError: The file is absent, cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; is it a run's folder?") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is damaged: not UTF-8 text; restore it") from None


def append_metrics(path: Path, row: Mapping[str, Any]) -> None:
    """Appends a row to a metrics file, which the first row makes.

    A column that the file has not yet is added on the right, by writing the file anew; a column
    that the row has not is blank. `None` and what is not finite are blank too.

    Args:
      path: `metrics.csv`.
      row: Values by column.

    Raises:
      InputError: It cannot be written; the file is as before.
      ValueError: A text has a line end.
    """
    cells = {name: plain_json(value) for name, value in row.items()}
    _csv_line(list(cells.values()))
    lines = list(csv.reader(io.StringIO(read_text(path)))) if path.exists() else []
    columns = lines[0] if lines else []
    added = [name for name in cells if name not in columns]
    if added:
        padding = [""] * len(added)
        wider = [columns + added, *(line + padding for line in lines[1:])]
        write_atomically(path, "".join(_csv_line(line) + "\n" for line in wider))
        columns = columns + added
    append_line(path, _csv_line([cells.get(name) for name in columns]))


def read_metrics(path: Path) -> list[MetricsRow]:
    """Reads `metrics.csv`; a last line that was cut off is left out.

    A round that was repeated after a crash has a row for each attempt; `last_attempts` keeps the
    rows that the final model came from.

    Returns:
      The rows in the order they were written: whole numbers as int, others as float, blanks as
      None, text as it is. No rows where the file is absent.

    Raises:
      InputError: A row before the last has another number of cells than the header.
    """
    if not path.exists():
        return []
    text = read_text(path)
    lines = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1])))
    rows: list[MetricsRow] = []
    for number, cells in enumerate(lines[1:], start=2):
        if len(cells) != len(lines[0]):
            raise InputError(
                f"{path} is damaged: line {number} has {len(cells)} cells, not {len(lines[0])}"
            )
        rows.append({name: _parse(cell) for name, cell in zip(lines[0], cells, strict=True)})
    return rows


def last_attempts(rows: list[MetricsRow]) -> list[MetricsRow]:
    """Returns the last row of each round, by round; needs the column `round`."""
    by_round = {row["round"]: row for row in rows}
    return [by_round[key] for key in sorted(by_round, key=lambda value: int(value or 0))]


def plain_json(value: Any) -> Any:
    """Returns the value in JSON's own types, `None` for what is not finite.

    Args:
      value: Plain values or numpy's scalars and arrays, in mappings, lists and tuples.

    Raises:
      TypeError: A value is neither.
    """
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")


def _csv_line(cells: Sequence[Any]) -> str:
    """Returns one line of CSV, without its end."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(cells)
    line = buffer.getvalue()
    if "\n" in line or "\r" in line:
        raise ValueError(f"a cell of metrics.csv cannot have a line end: {line!r}")
    return line


def _parse(cell: str) -> int | float | str | None:
    """Returns a cell's value; the inverse of what `append_metrics` writes."""
    if not cell:
        return None
    if _WHOLE_NUMBER.fullmatch(cell):
        return int(cell)
    try:
        return float(cell)
    except ValueError:
        return cell
