"""The named data sets: each file of this folder is one, named as the file is.

A data set has a function `load(*, path, seed)` that returns `LoadedRecords`: `path` is the user's
copy of a published file, `seed` that of a generator or of a split.
"""

from types import ModuleType

from fl_research import registry
from fl_research.data import datasets
from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.sources import redact
from fl_research.errors import InputError


def names() -> tuple[str, ...]:
    """Returns the name of every data set, sorted."""
    return registry.names(datasets)


def module(name: str) -> ModuleType:
    """Returns the module of one data set; raises InputError if there is no such data set."""
    return registry.load(datasets, "dataset", name)


def load(name: str, *, path: str | None = None, seed: int = 0) -> LoadedRecords:
    """Returns the records of a data set.

    Args:
      name: One of `names()`.
      path: A copy of the file or folder that the user has; None: found or downloaded.
      seed: Of the generator, where the data is generated.

    Raises:
      InputError: The name is unknown, the file cannot be had or read, its checksum is wrong, or
        a path is given for generated data.
    """
    found = module(name)
    if name.startswith("synthetic") and path is not None:
        raise InputError(
            f"data={redact(path)} does not go with dataset={name!r}, which is generated; "
            "leave it out"
        )
    loaded: LoadedRecords = found.load(path=path, seed=seed)
    return loaded
