"""New records with a finished run's answers, as a table and as a file. No TensorFlow Federated."""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fl_research.data.column_names import there_is
from fl_research.data.prepared import Prepared
from fl_research.errors import InputError
from fl_research.run import served_model
from fl_research.run.durable_files import storage_errors, write_atomically

SUFFIXES = (".csv", ".parquet")
ROW = "row"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ScoredRecords:
    """Answers to records.

    Attributes:
      table: A row a record, or a row a customer: what it is about, then the answers.
      dropped: How many records or customers have none, by the reason in words.
    """

    table: pd.DataFrame
    dropped: Mapping[str, int]


def check_suffix(path: Path) -> None:
    """Raises InputError unless a file's name ends with one of `SUFFIXES`."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"out={path} has no suffix that tells its format; name it with {' or '.join(SUFFIXES)}"
        )


def score(
    run: Path,
    records: pd.DataFrame,
    *,
    id_columns: Sequence[str] = (),
    changed: Mapping[str, Any] | None = None,
) -> ScoredRecords:
    """Scores records with the model of a finished run.

    Args:
      run: The run's folder.
      records: New records, as the training records, without the label.
      id_columns: Columns to copy, where a row of answers is about one record.
      changed: Settings of the preparation that are others now, such as `cut_date`.

    Raises:
      InputError: The run is not finished, a column is missing, or a record is refused.
    """
    if records.empty:
        raise InputError("there are no records to score; give at least one")
    for name in id_columns:
        if name not in records.columns:
            raise InputError(
                f"id_columns={name!r} is no column of the records; "
                f"{there_is(name, map(str, records.columns))}"
            )
    model = served_model.load(run)
    names = model.names_of_rows()
    if names is not None and id_columns:
        raise InputError(
            f"id_columns={','.join(id_columns)} does not go with this model, which answers once a "
            f"{names} and not once a record; leave it out"
        )
    prepared = model.prepare(records, **(changed or {}))
    if not len(prepared.ids):
        raise InputError(f"nothing is left to score ({dict(prepared.dropped)}); fix the records")
    answers = model.answers_table(model.predict(prepared.features))
    if names is not None:
        about = pd.DataFrame({**prepared.beside, names: np.asarray(prepared.ids)})
        table = _beside(about, answers)
    else:
        client = model.client_column
        kept = [client] if client is not None and client in records.columns else []
        columns = list(dict.fromkeys([*kept, *id_columns]))
        table = _one_row_a_record(records, columns, prepared, answers)
    return ScoredRecords(table=table, dropped=prepared.dropped)


def write(table: pd.DataFrame, path: Path) -> None:
    """Writes a table whole, or not at all.

    Args:
      table: What to write.
      path: Its suffix is one of `SUFFIXES`; folders are made.

    Raises:
      InputError: Another suffix, or it cannot be written.
    """
    check_suffix(path)
    with storage_errors(path, argument="--out"):
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".csv":
        write_atomically(path, table.to_csv(index=False))
        return
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_atomically(path, buffer.getvalue())


def _one_row_a_record(
    records: pd.DataFrame, columns: Sequence[str], prepared: Prepared, answers: pd.DataFrame
) -> pd.DataFrame:
    """Every record, with blank answers where it was left out."""
    about = records[list(columns)].reset_index(drop=True)
    about.insert(0, _free_name(ROW, columns), np.arange(1, len(records) + 1))
    answers.index = pd.Index(np.asarray(prepared.ids, np.int64))
    return _beside(about, answers.reindex(np.arange(len(records))))


def _beside(about: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Two tables side by side; an answer whose name is taken is renamed."""
    answers = answers.reset_index(drop=True)
    renamed = {name: _free_name(name, about.columns) for name in answers.columns}
    return pd.concat([about, answers.rename(columns=renamed)], axis=1)


def _free_name(name: str, taken: Sequence[str] | pd.Index) -> str:
    """The name, or one made of it that is not taken."""
    while name in taken:
        name = f"predicted_{name}"
    return name
