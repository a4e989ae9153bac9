"""The ledger: an append-only record of what was released, chained by hashes.

One JSON object a line. Each entry carries the SHA-256 of the one before it and its own, taken over
its canonical JSON without the hash, so that an edited, removed, added or moved entry breaks the
chain. An entry is on the disk before `append` returns. What only the end of the file can show -
entries cut off together with everything after them - is caught by whoever kept the last hash.

A process that dies while it writes leaves a torn last line. Opening the ledger sets it aside in
`<name>.torn`, notes that in an entry of kind "recovered", and goes on; no complete entry is lost.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from fl_research.errors import InputError
from fl_research.run.durable_files import (
    append_and_sync,
    lock,
    storage_errors,
    sync_folder,
    truncate_and_sync,
)

FIRST_PREVIOUS = "0" * 64
_FIELDS = {"index", "kind", "time", "payload", "previous", "hash"}


class LedgerError(InputError):
    """The ledger is not what was written; names the line and what is wrong with it."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    Attributes:
      index: Position, counted from 0.
      kind: What happened, such as "release".
      time: When, UTC, ISO 8601.
      payload: The facts, plain JSON.
      previous: The hash of the entry before; 64 zeros for the first.
      hash: SHA-256 of this entry's canonical JSON without "hash", in hexadecimal.
    """

    index: int
    kind: str
    time: str
    payload: Mapping[str, Any]
    previous: str
    hash: str


class Ledger:
    """A ledger that is open for appending, by one process at a time.

    Use `Ledger.open`, best in a `with` statement.
    """

    def __init__(self, path: Path, file: io.FileIO, entries: list[Entry]) -> None:
        self._path = path
        self._file = file
        self._entries = entries
        self._size = os.fstat(file.fileno()).st_size

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Ledger:
        """Opens a ledger or begins one; sets a torn last line aside.

        Args:
          path: The file, in a folder that exists.

        Raises:
          LedgerError: If the chain is broken anywhere before a torn last line.
          InputError: If another process has the ledger open, or the file cannot be written.
        """
        path = Path(path)
        with storage_errors(path):
            file = path.open("a+b", buffering=0)
        try:
            if not lock(file.fileno(), path):
                raise InputError(
                    f"ledger {path} is open in another process; wait until that run ends or stop it"
                )
            with storage_errors(path):
                sync_folder(path.parent)
                content = path.read_bytes()
            whole, torn = _split_torn(content)
            ledger = cls(path, file, _checked_entries(path, whole))
            ledger._mend_end(content, len(whole), torn)
        except BaseException:
            file.close()
            raise
        return ledger

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries in order."""
        return tuple(self._entries)

    @property
    def head(self) -> str:
        """The hash of the last entry; 64 zeros while there is none."""
        return self._entries[-1].hash if self._entries else FIRST_PREVIOUS

    def append(self, kind: str, payload: Mapping[str, Any]) -> Entry:
        """Adds an entry; it is on the disk when this returns.

        Args:
          kind: What happened, such as "release".
          payload: The facts, plain JSON without NaN and infinity.

        Returns:
          The entry as written.

        Raises:
          LedgerError: If the file is not as this process left it.
          InputError: If the payload is no plain JSON, or the file cannot be written, such as for
            lack of space. What was recorded before stays.
        """
        self._check_untouched()
        body: dict[str, Any] = {
            "index": len(self._entries),
            "kind": kind,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            "payload": _plain(payload),
            "previous": self.head,
        }
        entry = Entry(**body, hash=_digest(body))
        self._write(canonical_json(dataclasses.asdict(entry)) + b"\n")
        self._entries.append(entry)
        return entry

    def close(self) -> None:
        """Lets other processes open the ledger."""
        self._file.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_untouched(self) -> None:
        """Raises unless the path still names this file and its size is the one we left."""
        if self._file.closed:
            raise LedgerError(f"ledger {self._path} is closed; open it again")
        try:
            at_path = self._path.stat()
        except OSError as error:
            raise LedgerError(f"ledger {self._path} is gone: {error.strerror}") from error
        ours = os.fstat(self._file.fileno())
        if (at_path.st_dev, at_path.st_ino) != (ours.st_dev, ours.st_ino):
            raise LedgerError(f"ledger {self._path} was replaced by another file while in use")
        if ours.st_size != self._size:
            raise LedgerError(
                f"ledger {self._path} has {ours.st_size} bytes where this process left "
                f"{self._size}; something else writes to it"
            )

    def _write(self, data: bytes) -> None:
        """Appends and flushes; on failure the file is as before."""
        with storage_errors(self._path):
            append_and_sync(self._file, data)
        self._size += len(data)

    def _mend_end(self, content: bytes, whole_size: int, torn: bytes) -> None:
        """Sets a torn last line aside, or completes one that lacks only its end."""
        if torn:
            self._set_aside(whole_size, torn)
        elif whole_size > len(content):
            self._write(b"\n")

    def _set_aside(self, whole_size: int, torn: bytes) -> None:
        """Moves a torn last line into a file of its own, and notes that."""
        aside = self._path.with_name(self._path.name + ".torn")
        with storage_errors(aside), aside.open("ab", buffering=0) as file:
            append_and_sync(file, torn + b"\n")
            sync_folder(aside.parent)
        with storage_errors(self._path):
            truncate_and_sync(self._file, whole_size)
        self._size = whole_size
        if self._entries:  # The plan stays the first entry.
            digest = hashlib.sha256(torn).hexdigest()
            note = {"torn_bytes": len(torn), "torn_sha256": digest, "kept_in": aside.name}
            self.append("recovered", note)


def read_ledger(path: str | os.PathLike[str]) -> list[Entry]:
    """Reads a ledger and checks its whole chain; changes nothing.

    Args:
      path: The file.

    Returns:
      The entries in order; none for an empty file.

    Raises:
      LedgerError: If the file cannot be read or a line is not the entry that was written there.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LedgerError(f"ledger {path} cannot be read: {error.strerror}") from error
    return _checked_entries(path, content)


def payloads(entries: Sequence[Entry], kind: str) -> list[Mapping[str, Any]]:
    """Returns the payloads of all entries of one kind, in order."""
    return [entry.payload for entry in entries if entry.kind == kind]


def canonical_json(value: Any) -> bytes:
    """Returns the one way to write a value: sorted keys, no spaces, shortest floats, UTF-8.

    Raises:
      InputError: If the value is no plain JSON or holds NaN or infinity.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise InputError(f"ledger entry is no plain JSON: {error}") from error


def _plain(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload as it will be read back: tuples become lists, and later changes do not show."""
    plain: dict[str, Any] = json.loads(canonical_json(dict(payload)))
    return plain


def _digest(body: Mapping[str, Any]) -> str:
    """The hash of an entry without its hash."""
    return hashlib.sha256(canonical_json(body)).hexdigest()


def _split_torn(content: bytes) -> tuple[bytes, bytes]:
    """Splits off a last line that is no JSON; adds the end of line that a whole one lacks."""
    start = content.rstrip(b"\n").rfind(b"\n") + 1
    last = content[start:]
    if not last or _is_json(last):
        return content + (b"" if content.endswith(b"\n") or not content else b"\n"), b""
    return content[:start], last


def _is_json(line: bytes) -> bool:
    """Whether the line can be parsed at all; a truncated object never can."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _checked_entries(path: Path, content: bytes) -> list[Entry]:
    """Parses all lines and follows the chain."""
    entries: list[Entry] = []
    if not content:
        return entries
    *lines, end = content.split(b"\n")
    if end:
        raise LedgerError(
            f"ledger {path}, line {len(lines) + 1}: the last line is torn; run the command that "
            "wrote it again to recover"
        )
    previous = FIRST_PREVIOUS
    for index, line in enumerate(lines):
        fault, entry = _read_entry(line, index, previous)
        if entry is None:
            raise LedgerError(
                f"ledger {path}, line {index + 1}: {fault}; restore the file from a copy"
            )
        entries.append(entry)
        previous = entry.hash
    return entries


def _read_entry(line: bytes, index: int, previous: str) -> tuple[str, Entry | None]:
    """Returns what is wrong with a line, or its entry."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return "it is no JSON", None
    if not isinstance(values, dict) or set(values) != _FIELDS:
        return f"it is no object with the fields {', '.join(sorted(_FIELDS))}", None
    if values["index"] != index:
        return (
            f"it has index {values['index']} where {index} belongs: an entry is missing, doubled "
            "or out of order",
            None,
        )
    if values["previous"] != previous:
        return "it does not follow the entry before it: one of the two was changed", None
    body = {name: value for name, value in values.items() if name != "hash"}
    try:
        intact = values["hash"] == _digest(body) and canonical_json(values) == line
    except InputError:
        intact = False
    if not intact:
        return "its content was changed after it was written", None
    return "", Entry(**values)
