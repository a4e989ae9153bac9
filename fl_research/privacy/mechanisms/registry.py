"""The mechanisms: each file of this folder is one, named as the file is.

A mechanism has a frozen, keyword-only dataclass `Config` and a function
`make_plan(config, setting) -> PrivacyPlan`. Importing its file does not import TensorFlow.
"""

from types import ModuleType

from fl_research import registry
from fl_research.privacy import mechanisms


def names() -> tuple[str, ...]:
    """Returns the name of every mechanism, sorted."""
    return registry.names(mechanisms)


def load(name: str) -> ModuleType:
    """Returns the module of one mechanism; raises InputError if there is no such mechanism."""
    return registry.load(mechanisms, "mechanism", name)
