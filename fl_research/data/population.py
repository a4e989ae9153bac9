"""A population: clients with encoded records in a folder, larger than memory if need be.

    population/
      population.json        what is in it, with the checksum of every array; written last
      features/<name>.npy    [rows, ...], a client's rows one after another
      labels.npy             [rows, ...]
      row_splits.npy         int64[clients + 1]: client k owns rows row_splits[k]:row_splits[k + 1]
      client_ids.npy         [clients]

The arrays are NumPy's own files. Opening them reads neither features nor labels: that every value
is finite and every client comes once was checked by `write_population`, and the
checksums are of what it wrote. What opening does check is each file's size, type and shape. A file
that is newer than `population.json` was changed, or copied without its times (use `cp -a`): its
values are then read once more and compared with their checksum. An edit that leaves size and times
as they were goes unnoticed, as it would in a file that is read only in part.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fl_research.data.array_file import ArrayFile
from fl_research.data.population_clients import PopulationClients, PopulationFiles
from fl_research.errors import InputError

MANIFEST = "population.json"
LABELS, ROW_SPLITS, CLIENT_IDS = "labels.npy", "row_splits.npy", "client_ids.npy"
FORMAT = "fl_research population"
VERSION = 1

_HASHED_BYTES = 1 << 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class PopulationDescription:
    """What whoever writes a population says of it.

    Attributes:
      encoding_from_records: Whether bounds, scales, categories or vocabularies of the features
        were read off the records themselves, an access that no epsilon covers.
      client: What a client is called, such as the column of its name; None where each row is one.
      feature_names: Names of the columns of the feature `inputs`; None numbers them.
      schema: The schema that encoded the records, as `Schema.to_dict` gives it, if one did.
      source: Where the records came from.
      cleaning: How many rows each rule of the schema acted on.
    """

    encoding_from_records: bool
    client: str | None = None
    feature_names: tuple[str, ...] | None = None
    schema: Mapping[str, Any] | None = None
    source: str | None = None
    cleaning: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """An open population.

    Attributes:
      path: Its folder.
      sha256: Digest of `population.json`, and so of everything that was written.
      clients: All its clients.
      description: What its writer said of it.
    """

    path: Path
    sha256: str
    clients: PopulationClients
    description: PopulationDescription


def is_population(address: str) -> bool:
    """Returns whether an address is the folder of a population."""
    return "://" not in address and (Path(address).expanduser() / MANIFEST).is_file()


def open_population(folder: str | Path) -> Population:
    """Opens a population; its size does not matter.

    Raises:
      InputError: The folder is no population, of a newer version, or one of its files is absent,
        damaged or not the one that was written.
    """
    path = Path(folder).expanduser()
    text = _read_manifest(path)
    try:
        manifest = json.loads(text)
        if manifest["format"] != FORMAT or manifest["version"] != VERSION:
            raise InputError(
                f"{path / MANIFEST} is {manifest['format']!r}, version {manifest['version']}; "
                f"this program reads {FORMAT!r}, version {VERSION}"
            )
        arrays = {
            name: _open_array(path, name, facts) for name, facts in manifest["arrays"].items()
        }
        description = PopulationDescription(
            **manifest["description"]
            | {"feature_names": _as_tuple(manifest["description"]["feature_names"])}
        )
        files = PopulationFiles(
            features={
                Path(name).stem: array
                for name, array in arrays.items()
                if name.startswith("features/")
            },
            labels=arrays[LABELS],
            row_splits=arrays[ROW_SPLITS],
            client_ids=arrays[CLIENT_IDS],
        )
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path / MANIFEST} is damaged ({error!r}); restore it") from None
    return Population(
        path=path,
        sha256=hashlib.sha256(text).hexdigest(),
        clients=PopulationClients(files),
        description=description,
    )


def array_sha256(values: np.ndarray) -> str:
    """Returns the SHA-256 of an array's values, in C order, reading it in pieces."""
    digest = hashlib.sha256()
    step = max(1, _HASHED_BYTES * len(values) // max(values.nbytes, 1))
    for start in range(0, len(values), step):
        update_sha256(digest, values[start : start + step])
    return digest.hexdigest()


def update_sha256(digest: Any, values: np.ndarray) -> None:
    """Adds an array's values, in C order, to a digest."""
    if values.size:  # An empty array has no bytes, and Python refuses a view of none.
        digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def _read_manifest(path: Path) -> bytes:
    """The manifest's bytes."""
    try:
        return (path / MANIFEST).read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} is no population: cannot read its {MANIFEST} ({error.strerror}); write one "
            "with experiments.convert_population"
        ) from None


def _open_array(folder: Path, name: str, facts: Mapping[str, Any]) -> ArrayFile:
    """Opens one array and compares it with what the manifest says."""
    path = folder / name
    array = ArrayFile(path)
    found = {"dtype": array.values.dtype.str, "shape": list(array.values.shape)}
    expected = {key: facts[key] for key in found}
    if found != expected:
        raise InputError(f"{path} is not what was written: {found}, not {expected}; restore it")
    if path.stat().st_mtime_ns > (folder / MANIFEST).stat().st_mtime_ns:
        changed = array_sha256(array.values) != facts["sha256"]
        array.release()
        if changed:
            raise InputError(
                f"{path} was changed after it was written; restore it, or write the population anew"
            )
    return array


def _as_tuple(names: list[str] | None) -> tuple[str, ...] | None:
    """JSON has lists only."""
    return None if names is None else tuple(names)
