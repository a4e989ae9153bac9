"""Checkpoints of a run: arrays and a little metadata in one file that knows if it is whole.

A checkpoint is prepared (written as `.pending` and flushed to the disk) before the ledger records
the round's release, and committed (renamed) after. A pending checkpoint is thus the result of a
round that was either released, when the ledger's last release names its digest, or never used. The
file ends with a SHA-256 over all that comes before, so that a cut or a flipped bit is recognised.
The format is arrays' raw bytes behind a JSON header; nothing in it is ever executed.
"""

import dataclasses
import hashlib
import itertools
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fl_research.errors import InputError
from fl_research.run.durable_files import storage_errors, sync_folder, write_and_sync
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
    return _digest([_stored(array) for array in arrays])


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
          InputError: The folder cannot be made.
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
          InputError: It cannot be written; committed checkpoints are untouched.
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
            write_and_sync(path, _encode(header, stored))
            sync_folder(self._folder)
        return _digest(stored)

    def commit(self, round_number: int) -> None:
        """Makes a prepared checkpoint the newest, and deletes the oldest above `keep`.

        Raises:
          InputError: It cannot be renamed, or was not prepared.
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
        found = _read(path)
        if isinstance(found, Checkpoint):
            return found.digest
        self.warnings.append(found)
        return None

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
          InputError: A file cannot be read or renamed.
        """
        for path in self._committed():
            found = _read(path)
            if isinstance(found, Checkpoint):
                return found
            aside = path.with_name(f"{path.name}.corrupt")
            with storage_errors(path):
                path.replace(aside)
            self.warnings.append(f"{found}; kept as {aside.name}, going back to the one before")
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


def _read(path: Path) -> Checkpoint | str:
    """Reads a file; returns the checkpoint, or in one line how it is damaged."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read checkpoint {path}: {error.strerror}") from None
    try:
        checkpoint = _decode(content)
    except (ValueError, KeyError, TypeError) as error:
        return f"checkpoint {path} is damaged: {error}"
    if checkpoint.round_number != _round_of(path):
        return f"checkpoint {path} is damaged: it is of round {checkpoint.round_number}"
    return checkpoint


def _round_of(path: Path) -> int:
    """Returns the round in a file's name, -1 where there is none."""
    digits = path.name.removeprefix("round_").partition(".")[0]
    return int(digits) if digits.isdecimal() else -1


def _stored(array: np.ndarray) -> np.ndarray:
    """Returns the array as it is stored: little-endian, rows one after another, same shape."""
    array = np.asarray(array)
    if array.dtype.kind not in "biufc":
        raise TypeError(
            f"a checkpoint holds numbers and booleans, not {array.dtype}: {array!r:.80}"
        )
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _description(array: np.ndarray) -> dict[str, Any]:
    """Returns type and shape, as JSON."""
    return {"dtype": array.dtype.str, "shape": list(array.shape)}


def _digest(stored: Sequence[np.ndarray]) -> str:
    """Returns the `state_digest` of arrays as they are stored."""
    digest = hashlib.sha256()
    for array in stored:
        digest.update(json.dumps(_description(array)).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _encode(header: bytes, stored: Sequence[np.ndarray]) -> Iterator[bytes]:
    """Yields a file's content, part by part."""
    checksum = hashlib.sha256()
    head = (_MAGIC, _HEADER_LENGTH.pack(len(header)), header)
    for part in itertools.chain(head, (array.tobytes() for array in stored)):
        checksum.update(part)
        yield part
    yield checksum.digest()


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
    stored = []
    for description in header["arrays"]:
        dtype, shape = np.dtype(description["dtype"]), tuple(description["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        stored.append(np.frombuffer(body, dtype, count, offset).reshape(shape))
        offset += count * dtype.itemsize
    return Checkpoint(
        round_number=header["round"],
        arrays=[array.astype(array.dtype.newbyteorder("=")) for array in stored],
        metadata=header["metadata"],
        digest=_digest(stored),
    )
