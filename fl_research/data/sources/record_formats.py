"""The formats that records come in: which there are, and one file's bytes into a pandas.DataFrame.

Formats with types of their own (JSON, Parquet) keep them, a null as None or NaN.
"""

import json
from pathlib import PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa

from fl_research.data.column_names import check_distinct, there_is
from fl_research.data.sources import column_types
from fl_research.data.sources.delimited_text import parse_delimited, refuse_undecodable
from fl_research.data.sources.source_options import SourceOptions
from fl_research.errors import InputError

FORMAT_BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "json_lines",
    ".ndjson": "json_lines",
    ".json": "json",
    ".parquet": "parquet",
}
FORMAT_BY_CONTENT_TYPE = {
    "text/csv": "csv",
    "application/csv": "csv",
    "text/tab-separated-values": "tsv",
    "application/x-ndjson": "json_lines",
    "application/ndjson": "json_lines",
    "application/jsonl": "json_lines",
    "application/jsonlines": "json_lines",
    "application/x-jsonlines": "json_lines",
    "application/json": "json",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
}
_TEXT_OPTIONS = {"delimiter", "header", "encoding", "columns", "skip_rows"}
OPTIONS_OF_FORMAT = {
    "csv": _TEXT_OPTIONS,
    "tsv": _TEXT_OPTIONS,
    "delimited": _TEXT_OPTIONS,
    "json_lines": {"encoding", "columns"},
    "json": {"encoding", "columns", "json_path"},
    "parquet": {"columns"},
}
_DELIMITER = {"csv": ",", "tsv": "\t"}


def format_of(name: str, options: SourceOptions) -> str | None:
    """The format that a file's name tells; "delimited" for any other name with a delimiter given.

    Args:
      name: A file name, or the path of an address.
      options: The source's options.

    Returns:
      A key of `OPTIONS_OF_FORMAT`, or None.
    """
    known = FORMAT_BY_SUFFIX.get(PurePosixPath(name).suffix.lower())
    return known or ("delimited" if options.delimiter else None)


def parse(content: bytes, record_format: str, where: str, options: SourceOptions) -> pd.DataFrame:
    """Reads one file's bytes.

    Args:
      content: The bytes.
      record_format: A key of `OPTIONS_OF_FORMAT`.
      where: How the source is called in error messages.
      options: Those of the format. `columns` is used only as names where there is no header;
        choosing columns is the caller's.

    Returns:
      The records, perhaps none, with distinct column names.

    Raises:
      InputError: The bytes are not that format.
    """
    if record_format == "parquet":
        return _parse_parquet(content, where)
    if record_format == "json":
        return _parse_json(content, where, options)
    if record_format == "json_lines":
        return _parse_json_lines(content, where, options)
    delimiter = options.delimiter or _DELIMITER[record_format]
    return parse_delimited(content, delimiter, where, options)


def _parse_parquet(content: bytes, where: str) -> pd.DataFrame:
    """One Parquet file; an index that pandas wrote without a name is left out."""
    from pyarrow import parquet

    try:
        # Not read_table: it adds columns that it finds in the names of the folders.
        table = parquet.ParquetFile(pa.BufferReader(content)).read().replace_schema_metadata()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{where} is not a Parquet file ({reason}); give one that is") from None
    kept = [name for name in table.column_names if not name.startswith("__index_level_")]
    check_distinct(kept, where)
    return column_types.from_arrow(table.select(kept))


def _parse_json_lines(content: bytes, where: str, options: SourceOptions) -> pd.DataFrame:
    """One JSON object a line; blank lines are left out."""
    rows = []
    # Not splitlines: JSON's texts may hold other line ends, such as U+2028.
    for number, line in enumerate(_decoded(content, where, options).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{where}, line {number} is not JSON ({error.msg} at character {error.pos + 1}); "
                "give one object a line"
            ) from None
        if not isinstance(row, dict):
            raise InputError(f"{where}, line {number} is {_kind(row)}; give one object a line")
        rows.append(row)
    return column_types.from_python(rows)


def _parse_json(content: bytes, where: str, options: SourceOptions) -> pd.DataFrame:
    """A JSON document that is, or has at `json_path`, a list of objects."""
    try:
        node = json.loads(_decoded(content, where, options))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where} is not JSON ({error.msg} at line {error.lineno}, character {error.colno}); "
            "give a document with a list of objects, or name one object a line .jsonl"
        ) from None
    for key in options.json_path.split(".") if options.json_path else ():
        if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        elif isinstance(node, dict) and key in node:
            node = node[key]
        else:
            inside = there_is(key, node) if isinstance(node, dict) else f"it is {_kind(node)}"
            raise InputError(
                f"json_path={options.json_path!r} leads nowhere in {where}, no {key!r}; {inside}"
            )
    if not isinstance(node, list) or not all(isinstance(row, dict) for row in node):
        at = f"at json_path={options.json_path!r}" if options.json_path else "as a whole"
        members = node if isinstance(node, dict) else {}
        lists = [key for key, value in members.items() if isinstance(value, list)]
        hint = f" (a list is at {', '.join(lists)})" if lists else ""
        raise InputError(
            f"{where} {at} is {_kind(node)}, not a list of objects; give the json_path to the "
            f"list of records{hint}"
        )
    return column_types.from_python(node)


def _decoded(content: bytes, where: str, options: SourceOptions) -> str:
    """The text without a byte order mark."""
    refuse_undecodable(content, options.encoding, where)
    return content.decode(options.encoding).removeprefix("\ufeff")


def _kind(node: Any) -> str:
    """A JSON value's kind in words."""
    if isinstance(node, dict):
        return "an object"
    if isinstance(node, list):
        return "a list"
    return "null" if node is None else f"a single value ({type(node).__name__})"
