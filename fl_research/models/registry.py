"""Finds model families by file name.

A model family is one file in this package with a frozen `Config` and a function
`build(config, *, num_inputs, seed)`. Adding a file adds the family; nobody edits a list.
"""

import importlib
import pkgutil
from types import ModuleType

from fl_research import models
from fl_research.errors import InputError

_NOT_A_FAMILY = frozenset({"registry"})


def names() -> tuple[str, ...]:
    """Returns the name of every model family, sorted; reads file names only."""
    found = {module.name for module in pkgutil.iter_modules(models.__path__)}
    return tuple(sorted(found - _NOT_A_FAMILY))


def load(name: str) -> ModuleType:
    """Returns the module of one model family, with its `Config` and `build`.

    Raises:
      InputError: If there is no such family.
    """
    if name not in names():
        raise InputError(f"model: {name!r} is unknown; choose one of {', '.join(names())}")
    return importlib.import_module(f"{models.__name__}.{name}")
