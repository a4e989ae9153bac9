"""Finds the mechanisms: each file of this folder is one, named as the file is.

A mechanism file has a frozen, keyword-only dataclass `Config` and a function
`make_plan(config, setting) -> PrivacyPlan`. Listing them imports none, and importing one does not
import TensorFlow.
"""

import importlib
import pkgutil
from types import ModuleType

from fl_research.errors import InputError
from fl_research.privacy import mechanisms


def names() -> tuple[str, ...]:
    """Returns the names of all mechanisms, sorted."""
    found = {module.name for module in pkgutil.iter_modules(mechanisms.__path__)}
    return tuple(sorted(found - {"registry"}))


def load(name: str) -> ModuleType:
    """Returns the module of a mechanism, with its `Config` and `make_plan`.

    Raises:
      InputError: There is no mechanism of that name.
    """
    if name not in names():
        raise InputError(f"mechanism={name!r} is unknown; use one of {', '.join(names())}")
    return importlib.import_module(f"{mechanisms.__name__}.{name}")
