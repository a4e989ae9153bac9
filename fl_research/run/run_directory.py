"""The folder of one run: what it is made of, who may write it, and what survives a crash.

`flags.txt` is written first and says what the folder is for. A folder of other flags is refused,
the same flags resume. One process at a time holds it, by a lock that the kernel frees when the
process ends, however it ends. Small files are replaced whole; `metrics.csv` grows by whole lines.
"""

import fcntl
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
    remove_leftovers,
    storage_errors,
    write_atomically,
)
from fl_research.run.record_files import MetricsRow

_LOCK_NAME = ".lock"


class RunDirectory:
    """One run's folder, held by this process until `close` (also a context manager)."""

    def __init__(self, folder: Path, lock: int | None, *, is_resumed: bool) -> None:
        """Use `open` or `view`."""
        self._lock = lock
        self.path = folder
        self.is_resumed = is_resumed

    @classmethod
    def open(cls, folder: Path, *, flags_text: str) -> "RunDirectory":
        """Creates the folder, or takes up one that has the same flags.

        Args:
          folder: The run's folder; its parents are made as well.
          flags_text: What `flags.txt` holds: one `--name=value` a line, as absl's
            `flags_into_string()` gives it. Leave out what may change between sessions.

        Raises:
          InputError: The folder has other flags or other files, is in use, or can't be written.
        """
        with storage_errors(folder):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise InputError(
                    f"--output_dir: {folder} is not a folder; choose another --output_dir"
                ) from None
        flags_path = folder / "flags.txt"
        if not flags_path.exists():
            _require_empty(folder)
        lock = _take_lock(folder)
        try:
            remove_leftovers(folder)
            is_resumed = flags_path.exists()
            if is_resumed:
                _require_same_flags(folder, record_files.read_text(flags_path), flags_text)
            else:
                _require_empty(folder)
                write_atomically(flags_path, flags_text)
            run_directory = cls(folder, lock, is_resumed=is_resumed)
            if run_directory.metrics_path.exists():
                drop_torn_line(run_directory.metrics_path)
            with storage_errors(folder):
                run_directory.checkpoints_path.mkdir(exist_ok=True)
                run_directory.plots_path.mkdir(exist_ok=True)
        except BaseException:
            os.close(lock)
            raise
        return run_directory

    @classmethod
    def view(cls, folder: Path) -> "RunDirectory":
        """Returns a finished or running run's folder for reading.

        Raises:
          InputError: The folder is absent or is no run's folder.
        """
        if not (folder / "flags.txt").is_file():
            raise InputError(f"{folder} is not the folder of a run: it has no flags.txt")
        return cls(folder, None, is_resumed=True)

    def close(self) -> None:
        """Lets the folder go; does nothing the second time."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

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
        return self.path / "flags.txt"

    @property
    def run_path(self) -> Path:
        """Returns `run.json`: status, versions, machine, seeds, times."""
        return self.path / "run.json"

    @property
    def metrics_path(self) -> Path:
        """Returns `metrics.csv`: a row a released round."""
        return self.path / "metrics.csv"

    @property
    def ledger_path(self) -> Path:
        """Returns `ledger.jsonl`: the hash-chained record of releases."""
        return self.path / "ledger.jsonl"

    @property
    def evaluation_path(self) -> Path:
        """Returns `evaluation.json`: the final evaluation and baselines."""
        return self.path / "evaluation.json"

    @property
    def checkpoints_path(self) -> Path:
        """Returns the folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def final_model_path(self) -> Path:
        """Returns the folder of the trained model."""
        return self.path / "final_model"

    @property
    def plots_path(self) -> Path:
        """Returns the folder of plots."""
        return self.path / "plots"

    @property
    def report_markdown_path(self) -> Path:
        """Returns `report.md`."""
        return self.path / "report.md"

    @property
    def report_json_path(self) -> Path:
        """Returns `report.json`."""
        return self.path / "report.json"

    @property
    def log_path(self) -> Path:
        """Returns `run.log`: the run's log, with TensorFlow's and the worker's output."""
        return self.path / "run.log"

    @property
    def tensorboard_path(self) -> Path:
        """Returns the folder of TensorBoard events."""
        return self.path / "tensorboard"

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Replaces a JSON file of this folder; see `record_files.write_json`."""
        self._require_held()
        record_files.write_json(self.path / name, value)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Reads a JSON file of this folder, None where it is absent; see `record_files`."""
        path = self.path / name
        return record_files.read_json(path) if path.exists() else None

    def write_text(self, name: str, text: str) -> None:
        """Replaces a text file of this folder."""
        self._require_held()
        write_atomically(self.path / name, text)

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

    def _require_held(self) -> None:
        """Refuses to write a folder that is not held."""
        if self._lock is None:
            raise RuntimeError(f"{self.path} was opened for reading, or is closed")


def _take_lock(folder: Path) -> int:
    """Locks the folder for this process; returns the lock's file descriptor."""
    with storage_errors(folder):
        lock = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with storage_errors(folder):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
    except InputError as error:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace")
        os.close(lock)
        if isinstance(error.__cause__, BlockingIOError):
            raise InputError(
                f"--output_dir: {folder} is in use by process {holder}; wait for it, or choose "
                "another --run_name"
            ) from None
        raise
    return lock


def _require_empty(folder: Path) -> None:
    """Refuses a folder that has files but no flags."""
    names = sorted(path.name for path in folder.iterdir())
    others = [name for name in names if name != _LOCK_NAME and not is_leftover(name)]
    if others:
        raise InputError(
            f"--output_dir: {folder} has files of something else ({others[0]}) and no flags.txt; "
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
            f"with --flagfile={folder / 'flags.txt'}"
        )


def _parse_flags(text: str) -> dict[str, str]:
    """Returns the flags by name as written; a flag without a value, `--noname` too, has "true"."""
    flags = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith(("#", "//")):
            continue
        if not line.startswith("-"):
            raise InputError(f"flags.txt: {line!r} is no flag; a value can't have a line end")
        name, equals, value = line.lstrip("-").partition("=")
        flags[name] = value if equals else "true"
    return flags


def _show(name: str, flags: Mapping[str, str]) -> str:
    """Returns a flag's value for a message."""
    if name in flags:
        return flags[name] or "an empty value"
    return "false" if f"no{name}" in flags else "no such flag"
