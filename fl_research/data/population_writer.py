"""Writes a population in pieces, so that it may be larger than memory; whole or not at all.

Rows come in pieces, in any sizes, all rows of a client one after another; a client may go on in the
next piece. Rows go to disk as they come, while the clients' names and sizes are kept in memory (a
name and eight bytes a client). Everything is written in a folder beside the target, flushed, and
renamed at the end.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fl_research.data.population import (
    CLIENT_IDS,
    FORMAT,
    LABELS,
    MANIFEST,
    ROW_SPLITS,
    VERSION,
    PopulationDescription,
    update_sha256,
)
from fl_research.data.row_checks import check_finite, check_lengths
from fl_research.errors import InputError
from fl_research.run.durable_files import storage_errors, sync_folder, write_and_sync

_HEADER_BYTES = 256  # Of every file; NumPy pads a header with blanks.


class Rows(NamedTuple):
    """One piece of the rows of a population.

    Attributes:
      features: Name to numbers `[rows, ...]`; the same names, types and shapes in every piece.
      labels: Numbers `[rows, ...]`.
      client_ids: `[rows]`, numbers or texts; None in every piece where each row is a client.
    """

    features: Mapping[str, np.ndarray]
    labels: np.ndarray
    client_ids: np.ndarray | Sequence[Any] | None


def write_population(
    folder: str | Path, pieces: Iterable[Rows], *, description: PopulationDescription
) -> None:
    """Writes a population that `population.open_population` opens.

    Args:
      folder: Where; must not be there yet.
      pieces: The rows, a client's one after another.
      description: What to say of them. `feature_names`, where given, must be as many as `inputs`
        has columns.

    Raises:
      InputError: The folder is there or cannot be written, or the rows are none, not finite, of
        changing type or shape, or a client's rows are not together.
    """
    path = Path(folder).expanduser()
    if path.exists():
        raise InputError(f"{path} is there already; remove it, or choose another folder")
    with _made_whole(path) as unfinished:
        rows = _RowFiles(unfinished)
        clients = _ClientsSoFar()
        try:
            for piece in pieces:
                with storage_errors(path):
                    clients.add(piece.client_ids, rows.add(piece))
        finally:
            with storage_errors(path):
                arrays = rows.close()
        row_splits, client_ids = clients.finish()
        with storage_errors(path):
            arrays |= {
                ROW_SPLITS: _write_array(unfinished / ROW_SPLITS, row_splits),
                CLIENT_IDS: _write_array(unfinished / CLIENT_IDS, client_ids),
            }
        _check_feature_names(description, arrays)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "description": vars(description) | {"cleaning": dict(description.cleaning)},
            "arrays": arrays,
        }
        text = json.dumps(manifest, indent=2, allow_nan=False) + "\n"
        with storage_errors(path):
            write_and_sync(unfinished / MANIFEST, [text.encode()])


@contextlib.contextmanager
def _made_whole(path: Path) -> Iterator[Path]:
    """Gives a folder to write in, which becomes `path` at the end, or is deleted on an error."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.partly_written")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        (unfinished / "features").mkdir(parents=True)
    try:
        yield unfinished
        with storage_errors(path):
            for folder in (unfinished / "features", unfinished):
                sync_folder(folder)
            unfinished.rename(path)
            sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


class _RowFiles:
    """The files of features and labels, which grow by pieces of rows."""

    def __init__(self, folder: Path) -> None:
        """Starts without rows; the first piece says which files there are."""
        self._folder = folder
        self._files: dict[str, _ArrayFile] = {}
        self._rows = 0

    def add(self, piece: Rows) -> int:
        """Checks and writes a piece; returns its number of rows."""
        features = {name: np.asarray(values) for name, values in piece.features.items()}
        labels = np.asarray(piece.labels)
        check_lengths(features, labels)
        arrays = {_feature_file(name): values for name, values in features.items()}
        arrays[LABELS] = labels
        if not self._files:
            self._files = {name: _ArrayFile(self._folder / name) for name in arrays}
        if arrays.keys() != self._files.keys():
            raise InputError(
                f"features={sorted(features)} are not those of the rows before; give every piece "
                "the same"
            )
        for name, values in arrays.items():
            check_finite(Path(name).stem, values, first_row=self._rows)
            self._files[name].add(values)
        self._rows += len(labels)
        return len(labels)

    def close(self) -> dict[str, Any]:
        """Ends the files; returns what the manifest says of each."""
        return {name: file.close() for name, file in self._files.items()}


class _ClientsSoFar:
    """Who came so far, with how many rows; the last client may go on."""

    def __init__(self) -> None:
        """Starts with nobody."""
        self._ids: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._rows = 0

    def add(self, client_ids: np.ndarray | Sequence[Any] | None, rows: int) -> None:
        """Takes the clients of the next rows."""
        if rows == 0:
            return
        if client_ids is None:
            ids = np.arange(self._rows, self._rows + rows)
        else:
            ids = np.asarray(client_ids)
            if len(ids) != rows:
                raise InputError(
                    f"client_ids has {len(ids)} rows, labels has {rows}; give one id a row"
                )
            missing = np.asarray(pd.isna(ids))
            if missing.any():
                row = self._rows + int(np.argmax(missing))
                raise InputError(f"the client id is missing in row {row}; name or drop the client")
            if ids.dtype.kind not in "iuU":
                ids = ids.astype(object).astype(np.str_)
        starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
        lengths = np.diff(np.append(starts, rows))
        if self._ids and str(self._ids[-1][-1]) == str(ids[0]):
            self._lengths[-1][-1] += lengths[0]
            starts, lengths = starts[1:], lengths[1:]
        if len(starts):
            self._ids.append(ids[starts])
            self._lengths.append(lengths)
        self._rows += rows

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns row splits and ids of all clients."""
        if not self._rows:
            raise InputError("there are no rows to write; give at least one")
        if len({ids.dtype.kind for ids in self._ids}) > 1:  # Whole numbers must not become floats.
            self._ids = [ids.astype(np.str_) for ids in self._ids]
        ids = np.concatenate(self._ids)
        names, counts = np.unique(ids, return_counts=True)
        if len(names) < len(ids):
            raise InputError(
                f"client {names[np.argmax(counts)].item()!r} comes back after other clients' rows; "
                "sort the rows by client first"
            )
        row_splits = np.zeros(len(ids) + 1, np.int64)
        np.cumsum(np.concatenate(self._lengths), out=row_splits[1:])
        return row_splits, ids


class _ArrayFile:
    """A `.npy` file that grows by rows; its header is written at the end."""

    def __init__(self, path: Path) -> None:
        """Opens the file and leaves room for the header."""
        self._path = path
        self._file = open(path, "xb")  # noqa: SIM115 - closed by `close`
        self._file.write(bytes(_HEADER_BYTES))
        self._digest = hashlib.sha256()
        self._row: tuple[tuple[int, ...], np.dtype] | None = None
        self._rows = 0

    def add(self, values: np.ndarray) -> None:
        """Appends rows of the type and shape of those before."""
        row = (values.shape[1:], values.dtype)
        if self._row is None:
            if values.dtype.kind not in "biuf" and values.dtype.kind != "U":
                raise InputError(
                    f"{self._path.stem} has values of type {values.dtype}; give numbers"
                )
            self._row = row
        if row != self._row:
            raise InputError(
                f"{self._path.stem} has rows of {row[1]}{list(row[0])}, those before were of "
                f"{self._row[1]}{list(self._row[0])}; give every piece the same"
            )
        values = np.ascontiguousarray(values)
        update_sha256(self._digest, values)
        values.tofile(self._file)
        self._rows += len(values)

    def close(self) -> dict[str, Any]:
        """Writes the header and flushes the file to the disk; returns its facts."""
        shape, dtype = self._row or ((), np.dtype(np.float32))
        shape = (self._rows, *shape)
        with self._file:
            self._file.seek(0)
            self._file.write(_header(shape, dtype))
            self._file.flush()
            os.fsync(self._file.fileno())
        return {"dtype": dtype.str, "shape": list(shape), "sha256": self._digest.hexdigest()}


def _write_array(path: Path, values: np.ndarray) -> dict[str, Any]:
    """Writes a whole array; returns its facts."""
    file = _ArrayFile(path)
    try:
        file.add(values)
    finally:
        facts = file.close()
    return facts


def _header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """A header of version 1.0 of NumPy's format, of always the same length."""
    magic = np.lib.format.magic(1, 0)
    facts = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    room = _HEADER_BYTES - len(magic) - 2
    assert len(facts) < room
    return magic + room.to_bytes(2, "little") + facts.ljust(room - 1).encode("latin-1") + b"\n"


def _feature_file(name: str) -> str:
    """The file of a feature, by its name."""
    if not name.isidentifier():
        raise InputError(f"feature {name!r} has no name for a file; use letters, digits and _")
    return f"features/{name}.npy"


def _check_feature_names(description: PopulationDescription, arrays: Mapping[str, Any]) -> None:
    """Raises InputError unless the names are as many as the columns of `inputs`."""
    names = description.feature_names
    if names is None:
        return
    inputs = arrays.get(_feature_file("inputs"), {"shape": []})["shape"]
    if list(inputs[1:]) != [len(names)]:
        raise InputError(
            f"feature_names has {len(names)} names, a row of inputs has the shape {inputs[1:]}; "
            "give one name a column"
        )
