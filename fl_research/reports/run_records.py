"""Reads the records of a run that a report is made from, and looks values up in them.

The report is a function of four files and of nothing else: ledger.jsonl, run.json, metrics.csv and
evaluation.json.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fl_research.errors import InputError
from fl_research.privacy.ledger import Entry, payloads, read_ledger
from fl_research.privacy.spending import plan_of
from fl_research.run.record_files import MetricsRow, last_attempts, read_json, read_metrics
from fl_research.run.run_directory import EVALUATION, LEDGER, METRICS, RUN


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """A JSON record with its file's name, so that a missing value can be named.

    Attributes:
      file: Name of the file, for messages.
      values: The record.
    """

    file: str
    values: Mapping[str, Any]

    def required(self, path: str) -> Any:
        """The value at a dotted path.

        Raises:
          InputError: It is absent or null; a report without it would say too little.
        """
        value = self.stated(path)
        if value is None:
            raise InputError(
                f"{self.file}: '{path}' is missing and a report must state it; "
                "write it into the record or run again"
            )
        return value

    def stated(self, path: str) -> Any:
        """The value at a dotted path, or None where the record does not state it."""
        value: Any = self.values
        for name in path.split("."):
            if not isinstance(value, Mapping) or value.get(name) is None:
                return None
            value = value[name]
        return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecords:
    """What the report is made from.

    Attributes:
      entries: The ledger, checked to be an unbroken chain.
      run: run.json.
      metrics: metrics.csv, one row a round, by round; of a repeated one the last. No rows where
        nothing was released.
      evaluation: evaluation.json.
    """

    entries: Sequence[Entry]
    run: Record
    metrics: Sequence[MetricsRow]
    evaluation: Record

    @property
    def plan(self) -> Record:
        """The plan that the ledger opens with.

        Raises:
          LedgerError: The ledger does not open with a plan.
        """
        return Record(file=f"{LEDGER} (plan)", values=plan_of(self.entries))


def read(folder: Path) -> RunRecords:
    """Reads the four records of a run's folder.

    Args:
      folder: The run's folder.

    Raises:
      InputError: The folder or a record is missing or cannot be read.
      LedgerError: The chain of the ledger is broken.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder of a run")
    _require(folder, LEDGER, RUN, EVALUATION)
    entries = read_ledger(folder / LEDGER)
    if payloads(entries, "release"):  # The first release makes the file.
        _require(folder, METRICS)
    return RunRecords(
        entries=entries,
        run=Record(file=RUN, values=read_json(folder / RUN)),
        metrics=_read_metrics(folder / METRICS),
        evaluation=Record(file=EVALUATION, values=read_json(folder / EVALUATION)),
    )


def _require(folder: Path, *names: str) -> None:
    """Raises InputError unless the files are in the folder."""
    for name in names:
        if not (folder / name).is_file():
            raise InputError(
                f"{folder / name} is missing; a report needs it: finish the run with the command "
                "that started it"
            )


def _read_metrics(path: Path) -> list[MetricsRow]:
    """metrics.csv; of a round that was repeated, the last row."""
    rows = read_metrics(path)
    for column in ("round", "attempt", "cohort_size"):
        if rows and column not in rows[0]:
            raise InputError(f"{path}: column '{column}' is missing; restore the file")
    return last_attempts(rows)
