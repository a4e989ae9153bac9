"""The model families: each file of this folder is one, named as the file is.

A family has a frozen dataclass `Config` and a function `build(config, *, row_types,
objective, seed)`.
"""

from types import ModuleType

from fl_research import models, registry


def names() -> tuple[str, ...]:
    """Returns the name of every model family, sorted."""
    return registry.names(models)


def load(name: str) -> ModuleType:
    """Returns the module of one model family; raises InputError if there is no such family."""
    return registry.load(models, "model", name)
