"""The folder of one run: what it is made of, who may write it, and what survives a crash.

`flags.txt` is written first and says what the folder is for. A folder of other flags is refused,
the same flags resume. One process at a time holds it, by a lock that the kernel frees when the
process ends, however it ends. Small files are replaced whole; `metrics.csv` grows by whole lines.
The constants are the names of all that a run's folder holds.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from fl_research.errors import InputError
from fl_research.run import record_files
from fl_research.run.durable_files import (
    drop_torn_line,
    is_leftover,
    lock,
    remove_leftovers,
    storage_errors,
    write_atomically,
)
from fl_research.run.record_files import MetricsRow

FLAGS = "flags.txt"
RUN = "run.json"
METRICS = "metrics.csv"
LEDGER = "ledger.jsonl"
EVALUATION = "evaluation.json"
COHORT_SEED = "cohort_seed.secret"
CHECKPOINTS = "checkpoints"
FINAL_MODEL = "final_model"
TENSORBOARD = "tensorboard"
LOG = "run.log"
REPORT_JSON = "report.json"
REPORT_MARKDOWN = "report.md"
REPORT_HTML = "report.html"
_LOCK = ".lock"


class RunDirectory:
    """One run's folder, held by this process until `close` (also a context manager)."""

    def __init__(self, folder: Path, lock_descriptor: int | None) -> None:
        """Use `open` or `view`."""
        self._lock_descriptor = lock_descriptor
        self.path = folder

    @classmethod
    def open(cls, folder: Path, *, flags_text: str) -> "RunDirectory":
        """Creates the folder, or takes up one that has the same flags.

        Args:
          folder: The run's folder; its parents are made as well.
          flags_text: What `flags.txt` holds: one `--name=value` a line, as absl's
            `flags_into_string()` gives it. Leave out what may change between sessions.

        Raises:
          InputError: The folder has other flags or other files, is in use, or cannot be written.
        """
        with storage_errors(folder, argument="--output_dir"):
            _make_folder(folder)
            if not (folder / FLAGS).exists():
                _require_empty(folder)
            run_directory = cls(folder, _take_lock(folder))
            try:
                run_directory._begin_or_resume(flags_text)
            except BaseException:
                run_directory.close()
                raise
        return run_directory

    @classmethod
    def view(cls, folder: Path) -> "RunDirectory":
        """Returns a finished or running run's folder for reading.

        Raises:
          InputError: The folder is absent or is no run's folder.
        """
        if not (folder / FLAGS).is_file():
            raise InputError(f"{folder} is not the folder of a run: it has no {FLAGS}")
        return cls(folder, None)

    def close(self) -> None:
        """Lets the folder go; does nothing the second time."""
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    def __enter__(self) -> "RunDirectory":
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Lets the folder go."""
        self.close()

    @property
    def flags_path(self) -> Path:
        """Returns `flags.txt`, which works as `--flagfile`."""
        return self.path / FLAGS

    @property
    def run_path(self) -> Path:
        """Returns `run.json`: status, versions, machine, seeds, times."""
        return self.path / RUN

    @property
    def metrics_path(self) -> Path:
        """Returns `metrics.csv`: a row a released round."""
        return self.path / METRICS

    @property
    def ledger_path(self) -> Path:
        """Returns `ledger.jsonl`: the hash-chained record of releases."""
        return self.path / LEDGER

    @property
    def evaluation_path(self) -> Path:
        """Returns `evaluation.json`: the final evaluation and baselines."""
        return self.path / EVALUATION

    @property
    def checkpoints_path(self) -> Path:
        """Returns the folder of checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def final_model_path(self) -> Path:
        """Returns the folder of the trained model."""
        return self.path / FINAL_MODEL

    @property
    def log_path(self) -> Path:
        """Returns `run.log`: the run's log, with TensorFlow's and the worker's output."""
        return self.path / LOG

    @property
    def tensorboard_path(self) -> Path:
        """Returns the folder of TensorBoard events."""
        return self.path / TENSORBOARD

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Replaces a JSON file of this folder; see `record_files.write_json`."""
        self._require_held()
        record_files.write_json(self.path / name, value)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Reads a JSON file of this folder, None where it is absent; see `record_files`."""
        path = self.path / name
        return record_files.read_json(path) if path.exists() else None

    def digests(self) -> dict[str, str]:
        """Returns the SHA-256 of each record that the ledger vouches for at the end of a run."""
        paths = (self.flags_path, self.run_path, self.metrics_path, self.evaluation_path)
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in paths
            if path.exists()
        }

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Appends a row to `metrics.csv`; see `record_files.append_metrics`."""
        self._require_held()
        record_files.append_metrics(self.metrics_path, row)

    def read_metrics(self) -> list[MetricsRow]:
        """Returns all rows of `metrics.csv`; see `record_files.read_metrics`."""
        return record_files.read_metrics(self.metrics_path)

    def _begin_or_resume(self, flags_text: str) -> None:
        """Writes the flags of a new run or compares them; clears what a killed program left."""
        remove_leftovers(self.path)
        if self.flags_path.exists():
            _require_same_flags(self.path, record_files.read_text(self.flags_path), flags_text)
        else:
            _require_empty(self.path)
            write_atomically(self.flags_path, flags_text)
        if self.metrics_path.exists():
            drop_torn_line(self.metrics_path)

    def _require_held(self) -> None:
        """Refuses to write a folder that is not held."""
        if self._lock_descriptor is None:
            raise RuntimeError(f"{self.path} was opened for reading, or is closed")


def _make_folder(folder: Path) -> None:
    """Makes the folder and its parents where they are missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            f"--output_dir: {folder} is not a folder; choose another --output_dir"
        ) from None


def _take_lock(folder: Path) -> int:
    """Locks the folder for this process; returns the lock's file descriptor."""
    path = folder / _LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not lock(descriptor, path):
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace")
            raise InputError(
                f"--output_dir: {folder} is in use by process {holder}; wait for it, or choose "
                "another --run_name"
            )
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_empty(folder: Path) -> None:
    """Refuses a folder that has files but no flags."""
    names = sorted(path.name for path in folder.iterdir())
    others = [name for name in names if name != _LOCK and not is_leftover(name)]
    if others:
        raise InputError(
            f"--output_dir: {folder} has files of something else ({others[0]}) and no {FLAGS}; "
            "choose another --run_name or --output_dir"
        )


def _require_same_flags(folder: Path, old: str, new: str) -> None:
    """Refuses other flags than the folder's, naming the first that differs."""
    before, now = _parse_flags(old), _parse_flags(new)
    for name in [*before, *now]:
        if before.get(name) == now.get(name):
            continue
        is_negation = name.startswith("no") and (name[2:] in before or name[2:] in now)
        flag = name[2:] if is_negation else name
        raise InputError(
            f"--{flag}: the run in {folder} has {_show(flag, before)}, this command has "
            f"{_show(flag, now)}; choose another --run_name or --output_dir, or resume that run "
            f"with --flagfile={folder / FLAGS}"
        )


def _parse_flags(text: str) -> dict[str, str]:
    """Returns the flags by name as written; a flag without a value, `--noname` too, has "true"."""
    flags = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith(("#", "//")):
            continue
        if not line.startswith("-"):
            raise InputError(f"{FLAGS}: {line!r} is no flag; a value cannot have a line end")
        name, equals, value = line.lstrip("-").partition("=")
        flags[name] = value if equals else "true"
    return flags


def _show(name: str, flags: Mapping[str, str]) -> str:
    """Returns a flag's value for a message."""
    if name in flags:
        return flags[name] or "an empty value"
    return "false" if f"no{name}" in flags else "no such flag"
