"""The preparations: each file of this folder is one kind, named as the file is.

A preparation has a function `prepare(records, settings)` that returns `Prepared`, with the settings
that a saved model's description has; where `ids` are names and not numbers of records, `NAMES` says
of what.
"""

from types import ModuleType

from fl_research import registry
from fl_research.data import preparation


def names() -> tuple[str, ...]:
    """Returns the name of every kind, sorted."""
    return registry.names(preparation)


def load(name: str) -> ModuleType:
    """Returns the module of one kind; raises InputError if there is no such kind."""
    return registry.load(preparation, "preparation", name)
