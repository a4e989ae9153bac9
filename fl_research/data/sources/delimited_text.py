"""CSV and its relatives into a pandas.DataFrame: each cell a raw `str`, blanks kept as "".

What a blank means is for the schema to say. Rows that are longer or shorter than the first one and
quotes that do not match are refused: a reader that repairs them in silence loses records.
"""

import codecs
import contextlib
import csv as python_csv
import io
import itertools
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa

from fl_research.data.column_names import check_distinct
from fl_research.data.sources.source_options import SourceOptions
from fl_research.errors import InputError

if TYPE_CHECKING:
    pass

# One block must hold the longest row; a longer one is an error in pyarrow.
_BLOCK_BYTES = 1 << 24


def parse_delimited(
    content: bytes, delimiter: str, where: str, options: SourceOptions
) -> pd.DataFrame:
    """Reads one file's bytes.

    Column names are stripped; a nameless column is called column_0, column_1, ... by its place.

    Args:
      content: The bytes.
      delimiter: One ASCII character.
      where: How the source is called in error messages.
      options: `header`, `encoding`, `skip_rows`, and `columns` as names where there is no header.

    Raises:
      InputError: Empty, not in the encoding, rows of different lengths, quotes that do not match,
        a column name that comes twice, another number of columns than names for them.
    """
    refuse_undecodable(content, options.encoding, where)
    try:
        table = _read_text(content, delimiter, options)
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise _explained(content, delimiter, where, options, error) from None
    _refuse_unmatched_quotes(content, table, delimiter, where, options)
    names = [name.strip() or f"column_{index}" for index, name in enumerate(table.column_names)]
    if not options.header:
        names = list(options.columns or (f"column_{index}" for index in range(len(names))))
        if len(names) != table.num_columns:
            raise InputError(
                f"{where} has {table.num_columns} columns and no header, but columns names "
                f"{len(names)}; name each of them (or give another --delimiter)"
            )
    check_distinct(names, where)
    return table.rename_columns(names).to_pandas()


def refuse_undecodable(content: bytes, encoding: str, where: str) -> None:
    """Says where the bytes leave the encoding, if they do.

    Raises:
      InputError: They do; with the encoding and the byte position.
    """
    own = "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "latin-1"
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where} is not {encoding} text: byte 0x{content[error.start]:02x} at position "
            f"{error.start} ({error.reason}); give its own encoding, for example --encoding={own}"
        ) from None
    except UnicodeError as error:
        raise InputError(
            f"{where} is not {encoding} text ({error}); give its own encoding, for example "
            f"--encoding={own}"
        ) from None


def _read_text(
    content: bytes,
    delimiter: str,
    options: SourceOptions,
) -> pa.Table:
    """The table with all cells as text.

    pyarrow gets its own copy of the text in UTF-8, and no handler of ours for wrong rows: its
    threads outlive a file that they refuse, and if one then calls Python, or frees what Python
    owns, while the interpreter ends, the whole process aborts.
    """
    from pyarrow import csv

    if codecs.lookup(options.encoding).name not in ("utf-8", "utf-8-sig"):
        content = content.decode(options.encoding).encode("utf-8")
    text = pa.allocate_buffer(len(content))
    with pa.FixedSizeBufferWriter(text) as writer:
        writer.write(content)
    reading = csv.ReadOptions(
        autogenerate_column_names=not options.header,
        skip_rows=options.skip_rows,
        block_size=_BLOCK_BYTES,
    )

    parsing = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    # The names first: pyarrow guesses the type of each column that it is not told of by name.
    with csv.open_csv(pa.BufferReader(text), reading, parsing) as reader:
        names = reader.schema.names
    as_text = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
    )
    return csv.read_csv(pa.BufferReader(text), reading, parsing, as_text)


def _explained(
    content: bytes, delimiter: str, where: str, options: SourceOptions, error: Exception
) -> InputError:
    """What is wrong with text that pyarrow refused."""
    if not content.strip() or "Empty CSV file" in str(error):
        return InputError(f"{where} is empty; give a file with a header and records")
    if "Could not skip" in str(error):
        return InputError(f"{where} has fewer lines than skip_rows={options.skip_rows}; skip fewer")
    lines = io.StringIO(content.decode(options.encoding), newline="")
    rows = python_csv.reader(itertools.islice(lines, options.skip_rows, None), delimiter=delimiter)
    expected = None
    with contextlib.suppress(python_csv.Error):
        for number, row in enumerate((row for row in rows if row), start=1):
            expected = expected or len(row)
            if len(row) != expected:
                return InputError(
                    f"{where}, row {number} (the header counted) has {len(row)} cells where the "
                    f"first row has {expected}: {delimiter.join(row)[:60]!r}; fix the row, or give "
                    f"the separator with --delimiter (it was {delimiter!r})"
                )
    reason = str(error).partition("\n")[0]
    return InputError(f"{where} is not delimited text ({reason}); give its --delimiter")


def _refuse_unmatched_quotes(
    content: bytes, table: pa.Table, delimiter: str, where: str, options: SourceOptions
) -> None:
    """Refuses a quote that nothing closes, which pyarrow lets swallow the records after it.

    Such a cell always holds a line end, so only files with one are read a second time, by a
    reader that is strict about quotes.
    """
    from pyarrow import compute

    if not any(
        compute.any(compute.match_substring_regex(column, "[\r\n]")).as_py()
        for column in table.columns
    ):
        return
    lines = io.StringIO(content.decode(options.encoding), newline="")
    reader = python_csv.reader(
        itertools.islice(lines, options.skip_rows, None), delimiter=delimiter, strict=True
    )
    limit = python_csv.field_size_limit(len(content) + 1)
    row = 0
    try:
        for _ in reader:
            row += 1
    except python_csv.Error as error:
        raise InputError(
            f"{where}, row {row + 1} (the header counted) has a quote that is not closed, or text "
            f"after one that is ({error}); double each quote inside a quoted cell"
        ) from None
    finally:
        python_csv.field_size_limit(limit)
