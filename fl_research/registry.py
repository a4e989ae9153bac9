"""Finds the components of a package by file name: adding a file adds one; nobody edits a list.

The package's own `registry.py`, which says what a component of it is, is none of them.
"""

import importlib
import pkgutil
from types import ModuleType

from fl_research.argument_checks import require_choice


def names(package: ModuleType) -> tuple[str, ...]:
    """Returns the name of every component, sorted; reads file names only."""
    found = {module.name for module in pkgutil.iter_modules(package.__path__)}
    return tuple(sorted(found - {"registry"}))


def load(package: ModuleType, argument: str, name: str) -> ModuleType:
    """Returns the module of one component.

    Args:
      package: Where the components are.
      argument: What the user calls this kind of component, such as "model".
      name: One of `names(package)`.

    Raises:
      InputError: There is no component of that name.
    """
    require_choice(argument, name, names(package))
    return importlib.import_module(f"{package.__name__}.{name}")
