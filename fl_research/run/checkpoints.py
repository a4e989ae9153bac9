"""Checkpoints of a run: arrays and a little metadata in one file that knows if it is whole.

A checkpoint is prepared (written as `.pending` and flushed to the disk) before the ledger records
the round's release, and committed (renamed) after. A pending checkpoint is thus the result of a
round that was either released, when the ledger's last release names its digest, or never used. The
file ends with a SHA-256 over all that comes before, so that a cut or a flipped bit is recognised.
The format is arrays' raw bytes behind a JSON header; nothing in it is ever executed.
"""

import dataclasses
import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fl_research.errors import InputError
from fl_research.run.durable_files import storage_errors, sync_folder
from fl_research.run.record_files import plain_json

_MAGIC = b"fl_research checkpoint 1\n"
_HEADER_LENGTH = struct.Struct("<Q")
_CHECKSUM_BYTES = hashlib.sha256().digest_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One checkpoint as read back.

    Attributes:
      round_number: The round that it is the result of.
      arrays: The arrays as they were saved, to the bit.
      metadata: The JSON object that was saved with them.
      digest: `state_digest` of the arrays.
    """

    round_number: int
    arrays: list[np.ndarray]
    metadata: dict[str, Any]
    digest: str


def state_digest(arrays: Sequence[np.ndarray]) -> str:
    """Returns the SHA-256 of types, shapes and bytes: equal for states equal to the bit.

    Args:
      arrays: Numbers or booleans, any shape.

    Raises:
      TypeError: An array holds something else.
    """
    digest = hashlib.sha256()
    for array in arrays:
        stored = _stored(array)
        digest.update(json.dumps(_description(stored)).encode())
        digest.update(stored.tobytes())
    return digest.hexdigest()


class CheckpointStore:
    """The checkpoints of one run, in a folder of their own.

    Attributes:
      warnings: One line for each damaged file that `latest` or `pending` found.
    """

    def __init__(self, folder: Path, *, keep: int = 3) -> None:
        """Takes or makes the folder.

        Args:
          folder: Where the files are.
          keep: Committed checkpoints that are kept, at least 1; older ones are deleted.

        Raises:
          InputError: The folder can't be made.
        """
        if keep < 1:
            raise ValueError(f"keep={keep} must be at least 1")
        self._folder = folder
        self._keep = keep
        self.warnings: list[str] = []
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def prepare(
        self, round_number: int, arrays: Sequence[np.ndarray], metadata: Mapping[str, Any]
    ) -> str:
        """Writes a round's checkpoint to the disk without making it count.

        Args:
          round_number: The round, not negative.
          arrays: Numbers or booleans, any shape.
          metadata: A small JSON object; what is not finite becomes null.

        Returns:
          The arrays' `state_digest`, which the ledger's release entry carries.

        Raises:
          InputError: It can't be written; committed checkpoints are untouched.
          TypeError: An array does not hold numbers, or metadata is not JSON.
        """
        stored = [_stored(array) for array in arrays]
        header = json.dumps(
            {
                "round": round_number,
                "metadata": plain_json(metadata),
                "arrays": [_description(array) for array in stored],
            },
            allow_nan=False,
        ).encode()
        path = self._pending_path(round_number)
        with storage_errors(path):
            try:
                _write(path, header, stored)
            except OSError:
                path.unlink(missing_ok=True)
                raise
            sync_folder(self._folder)
        return state_digest(stored)

    def commit(self, round_number: int) -> None:
        """Makes a prepared checkpoint the newest, and deletes the oldest above `keep`.

        Raises:
          InputError: It can't be renamed, or was not prepared.
        """
        pending = self._pending_path(round_number)
        with storage_errors(pending):
            pending.replace(self._path(round_number))
            sync_folder(self._folder)
            for old in self._committed()[self._keep :]:
                old.unlink()

    def pending(self, round_number: int) -> str | None:
        """Returns the digest of a round's prepared checkpoint; None if it is absent or damaged."""
        path = self._pending_path(round_number)
        if not path.exists():
            return None
        checkpoint = self._read(path)
        return checkpoint.digest if checkpoint else None

    def discard_pending(self) -> list[int]:
        """Deletes every prepared checkpoint; returns their rounds."""
        paths = sorted(self._folder.glob("round_*.ckpt.pending"))
        for path in paths:
            with storage_errors(path):
                path.unlink()
        return [_round_of(path) for path in paths]

    def latest(self) -> Checkpoint | None:
        """Returns the newest good checkpoint, or None; damaged ones are renamed and reported.

        Raises:
          InputError: A file can't be read or renamed.
        """
        for path in self._committed():
            checkpoint = self._read(path)
            if checkpoint is not None:
                return checkpoint
            aside = path.with_name(f"{path.name}.corrupt")
            with storage_errors(path):
                path.replace(aside)
            self.warnings[-1] += f"; kept as {aside.name}, going back to the one before"
        return None

    def _path(self, round_number: int) -> Path:
        """Returns the committed file of a round; names sort by round."""
        return self._folder / f"round_{round_number:06d}.ckpt"

    def _pending_path(self, round_number: int) -> Path:
        """Returns the prepared file of a round."""
        return self._folder / f"round_{round_number:06d}.ckpt.pending"

    def _committed(self) -> list[Path]:
        """Returns the committed files, newest round first."""
        return sorted(self._folder.glob("round_*.ckpt"), key=_round_of, reverse=True)

    def _read(self, path: Path) -> Checkpoint | None:
        """Reads a file; None and a warning if it is damaged."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"can't read checkpoint {path}: {error.strerror}") from None
        try:
            checkpoint = _decode(content)
            if checkpoint.round_number != _round_of(path):
                raise ValueError(f"it is of round {checkpoint.round_number}")
            return checkpoint
        except (ValueError, KeyError, TypeError) as error:
            self.warnings.append(f"checkpoint {path} is damaged: {error}")
            return None


def _round_of(path: Path) -> int:
    """Returns the round in a file's name, -1 where there is none."""
    digits = path.name.removeprefix("round_").partition(".")[0]
    return int(digits) if digits.isdecimal() else -1


def _stored(array: np.ndarray) -> np.ndarray:
    """Returns the array as it is stored: little-endian, rows one after another, same shape."""
    array = np.asarray(array)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"a checkpoint holds numbers and booleans, not {array.dtype}")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _description(array: np.ndarray) -> dict[str, Any]:
    """Returns type and shape, as JSON."""
    return {"dtype": array.dtype.str, "shape": list(array.shape)}


def _write(path: Path, header: bytes, arrays: Sequence[np.ndarray]) -> None:
    """Writes and flushes one file."""
    checksum = hashlib.sha256()
    with open(path, "wb") as file:
        for part in (
            _MAGIC,
            _HEADER_LENGTH.pack(len(header)),
            header,
            *(a.tobytes() for a in arrays),
        ):
            checksum.update(part)
            file.write(part)
        file.write(checksum.digest())
        file.flush()
        os.fsync(file.fileno())


def _decode(content: bytes) -> Checkpoint:
    """Reads a file's content; ValueError says what is wrong with it."""
    body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if not body.startswith(_MAGIC):
        raise ValueError("it does not begin as a checkpoint")
    if hashlib.sha256(body).digest() != checksum:
        raise ValueError("its checksum does not match, it is cut short or changed")
    start = len(_MAGIC) + _HEADER_LENGTH.size
    (length,) = _HEADER_LENGTH.unpack_from(body, len(_MAGIC))
    header = json.loads(body[start : start + length])
    offset = start + length
    arrays = []
    for description in header["arrays"]:
        dtype, shape = np.dtype(description["dtype"]), tuple(description["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        values = np.frombuffer(body, dtype, count, offset).reshape(shape)
        arrays.append(values.astype(dtype.newbyteorder("=")))
        offset += count * dtype.itemsize
    return Checkpoint(
        round_number=header["round"],
        arrays=arrays,
        metadata=header["metadata"],
        digest=state_digest(arrays),
    )
