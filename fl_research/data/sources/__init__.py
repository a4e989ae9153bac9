"""Records from files, folders, SQL databases and HTTP(S) addresses into a pandas.DataFrame.

Delimited text is read with every cell a raw `str`, blanks kept as ""; Parquet, SQL and JSON come
with their own types, a null as None or NaN. What the cells mean is for the schema to say.
"""

import hashlib
from pathlib import Path

import pandas as pd

from fl_research.data.column_names import select_columns, there_is
from fl_research.data.sources import http_records, record_formats, sql_records
from fl_research.data.sources.source_options import SourceOptions, redact
from fl_research.errors import InputError

__all__ = ["SourceOptions", "checksum", "read_records", "redact"]


_DEFAULT_OPTIONS = SourceOptions()


def read_records(address: str, options: SourceOptions = _DEFAULT_OPTIONS) -> pd.DataFrame:
    """Reads all records at an address.

    Args:
      address: A file (.csv, .tsv, .tab, .jsonl, .ndjson, .json, .parquet; any other name with a
        delimiter given); a folder of files of one such suffix, read in name order, which must
        have the same columns; sqlite:///path.db; postgresql://user:password@host:port/database;
        http:// or https://.
      options: How to read it.

    Returns:
      At least one record, columns of distinct names, rows numbered from 0.

    Raises:
      InputError: Nothing there, nothing readable, or no records.
    """
    scheme, separator, _ = address.partition("://")
    scheme = scheme.lower()
    if not separator:
        records = _read_files(address, options)
    elif scheme in sql_records.READERS:
        options.refuse_unless_applicable({"query", "columns"}, f"{redact(address)}, a database")
        if not options.query or not options.query.strip():
            raise InputError(f"query is missing for {redact(address)}; give SELECT ... FROM ...")
        records = sql_records.READERS[scheme](address, options.query)
    elif scheme in ("http", "https"):
        records = http_records.read_http(address, options)
    else:
        raise InputError(
            f"address={redact(address)} has the unknown scheme {scheme}://; give a file, a folder, "
            "sqlite:///, postgresql://, http:// or https://"
        )
    if records.empty:
        raise InputError(f"{redact(address)} has no records; give a source with at least one")
    if options.columns and options.header:
        records = select_columns(records, options.columns, redact(address))
    return records.reset_index(drop=True)


def checksum(address: str) -> str | None:
    """The sha256 of a local file's bytes, of a folder's readable files in name order.

    Returns:
      The hexadecimal digest; None for a database or an HTTP(S) address.

    Raises:
      InputError: No such file or folder.
    """
    if "://" in address:
        return None
    digest = hashlib.sha256()
    for path in _files(Path(address).expanduser()):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    """The file itself, or a folder's readable files in name order."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        names = [there.name for there in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = there_is(path.name, sorted(names)) if names else f"nor a folder {path.parent}"
        raise InputError(f"there is no file or folder {path}; {hint}")
    files = sorted(
        (
            file
            for file in path.iterdir()
            if file.suffix.lower() in record_formats.FORMAT_BY_SUFFIX
            and file.is_file()
            and not file.name.startswith(".")
        ),
        key=lambda file: file.name,
    )
    if not files:
        raise InputError(
            f"folder {path} has no readable file; give one with files that end in "
            f"{', '.join(record_formats.FORMAT_BY_SUFFIX)}"
        )
    return files


def _read_files(address: str, options: SourceOptions) -> pd.DataFrame:
    """A file, or a folder's files one after the other."""
    files = _files(Path(address).expanduser())
    record_format = record_formats.format_of(files[0].name, options)
    if record_format is None:
        raise InputError(
            f"{files[0]} has no suffix that tells its format; name it with one of "
            f"{', '.join(record_formats.FORMAT_BY_SUFFIX)}, or give the --delimiter of any other "
            "delimited text"
        )
    options.refuse_unless_applicable(
        record_formats.OPTIONS_OF_FORMAT[record_format], f"{address}, which is {record_format}"
    )
    parts: list[pd.DataFrame] = []
    for file in files:
        if record_formats.format_of(file.name, options) != record_format:
            raise InputError(
                f"{file} is not {record_format} like {files[0].name}; keep one format in a folder"
            )
        try:
            content = file.read_bytes()
        except OSError as error:
            raise InputError(
                f"{file} cannot be read ({error.strerror}); check its permissions"
            ) from None
        part = record_formats.parse(content, record_format, str(file), options)
        _check_same_columns(parts[0] if parts else part, part, file, files[0])
        parts.append(part)
    # Leaving out files without records: their columns have no type, and would blur the others'.
    parts = [part for part in parts if len(part)] or parts[:1]
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def _check_same_columns(first: pd.DataFrame, part: pd.DataFrame, file: Path, before: Path) -> None:
    """Refuses a file with other columns than the folder's first; their order may differ."""
    lacking = [name for name in first.columns if name not in part.columns]
    added = [name for name in part.columns if name not in first.columns]
    if lacking or added:
        lacks = [f"lacks {', '.join(map(repr, lacking))}"] if lacking else []
        adds = [f"adds {', '.join(map(repr, added))}"] if added else []
        raise InputError(
            f"{file} has other columns than {before.name} ({' and '.join(lacks + adds)}); give "
            "all files of a folder the same"
        )
