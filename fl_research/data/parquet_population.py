"""Parquet files into a population, one row group after another, by a public schema.

A row group is what is in memory at a time. The files are read in the order of their names, and all
rows of a client must come one after another: sort by client before.
"""

import collections
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa

from fl_research.data.column_names import check_distinct
from fl_research.data.population import PopulationDescription
from fl_research.data.population_writer import Rows, write_population
from fl_research.data.schema import Schema, encode
from fl_research.data.sources import column_types
from fl_research.errors import InputError


def convert_parquet(
    source: str | Path,
    folder: str | Path,
    schema: Schema,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Encodes the records of Parquet files and writes them as a population.

    Args:
      source: A `.parquet` file, or a folder of them, read in the order of their names.
      folder: The population's folder; must not be there yet.
      schema: What is publicly known of the columns.
      progress: Told (rows read, rows there are) after each row group.

    Raises:
      InputError: No such file, a file that is not Parquet, records that the schema refuses, rows
        of a client that are not together, or a folder that cannot be written.
    """
    if schema.drop_duplicates and schema.client_column is None:
        raise InputError(
            "schema: drop_duplicates needs all rows at once where no column is the client; drop "
            "them before, and leave it out of the schema"
        )
    cleaning: collections.Counter[str] = collections.Counter()
    client = schema.client_column
    description = PopulationDescription(
        encoding_from_records=schema.inferred,
        client=client.name if client else None,
        feature_names=schema.feature_names,
        schema=schema.to_dict(),
        source=str(source),
        cleaning=cleaning,
    )
    pieces = _encoded(_files(Path(source).expanduser()), schema, cleaning, progress)
    write_population(folder, pieces, description=description)


def _encoded(
    files: list[Path],
    schema: Schema,
    cleaning: collections.Counter[str],
    progress: Callable[[int, int], None] | None,
) -> Iterator[Rows]:
    """Yields encoded row groups and counts what the rules did."""
    total = sum(_opened(path).metadata.num_rows for path in files)
    done = 0
    for path, first_row, records in _whole_clients(files, schema):
        if records.empty:
            continue
        try:
            encoded = encode(records, schema, is_piece=True)
        except InputError as error:
            raise InputError(f"{path}, rows from {max(1, first_row):,} on: {error}") from None
        cleaning.update(encoded.cleaning)
        done += len(records)
        yield Rows({"inputs": encoded.inputs}, encoded.labels, encoded.client_ids)
        if progress is not None:
            progress(done, total)


def _whole_clients(files: list[Path], schema: Schema) -> Iterator[tuple[Path, int, pd.DataFrame]]:
    """Yields (file, first row, records) of each row group, with duplicates of a row in one piece.

    Where duplicates are dropped, the last client of a row group waits for the next one: it may go
    on there, and a duplicate is always of the same client.
    """
    client = schema.client_column
    waiting = pd.DataFrame()
    for path in files:
        first_row = 1
        for group in _row_groups(path):
            records = pd.concat([waiting, group], ignore_index=True) if len(waiting) else group
            first, first_row = first_row - len(waiting), first_row + len(group)
            if schema.drop_duplicates and client is not None:
                goes_on = (records[client.name] == records[client.name].iloc[-1]).to_numpy()
                waiting = records[goes_on].reset_index(drop=True)
                yield path, first, records[~goes_on].reset_index(drop=True)
            else:
                yield path, first, records
    yield files[-1], first_row - len(waiting), waiting


def _row_groups(path: Path) -> Iterator[pd.DataFrame]:
    """Yields the row groups of a file that have rows."""
    file = _opened(path)
    names = [name for name in file.schema_arrow.names if not name.startswith("__index_level_")]
    check_distinct(names, str(path))
    for number in range(file.num_row_groups):
        try:
            table = file.read_row_group(number, columns=names, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from None
        if table.num_rows:
            yield column_types.from_arrow(table.replace_schema_metadata())


def _opened(path: Path) -> "pa.parquet.ParquetFile":
    """Opens a file and reads its footer."""
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    """What to say of a file that pyarrow refuses."""
    reason = str(error).partition("\n")[0]
    return InputError(f"{path} is not a Parquet file ({reason}); give one that is")


def _files(source: Path) -> list[Path]:
    """The file, or the folder's Parquet files in the order of their names."""
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.suffix.lower() == ".parquet")
        if not files:
            raise InputError(f"folder {source} has no file that ends in .parquet; give one with")
        return files
    if not source.is_file():
        raise InputError(f"there is no file or folder {source}; give Parquet files")
    return [source]
