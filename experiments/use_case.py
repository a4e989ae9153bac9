"""UseCase: what an experiment binary is, apart from the wiring that all of them share."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from absl import flags

from fl_research.errors import InputError

if TYPE_CHECKING:
    from fl_research.task import FederatedTask

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True, kw_only=True)
class UseCase:
    """One use case.

    Attributes:
      name: The binary's name, such as `"churn_prevention"`.
      datasets: What is typed as --dataset, besides `table` -> a file of `data.datasets`.
      load: Reads the flags and the records; takes the seed.
      defaults: Flags whose default is another here than where they are declared.
      default_clip_norm: The clip of mechanisms that have one, where none is given.
      settle: Sets the defaults that depend on other flags, after these are parsed.
    """

    name: str
    datasets: Mapping[str, str]
    load: Callable[[int], FederatedTask]
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    default_clip_norm: float = 1.0
    settle: Callable[[], None] = lambda: None

    def set_defaults(self) -> None:
        """Sets the defaults of the flags, before they are parsed."""
        for name, value in self.defaults.items():
            FLAGS.set_default(name, value)


def find(name: str) -> UseCase:
    """Returns the use case of a binary.

    Raises:
      InputError: There is no binary of that name, or it is no experiment.
    """
    try:
        binary = importlib.import_module(f"experiments.{name}")
    except ImportError:
        binary = None
    if not isinstance(found := getattr(binary, "USE_CASE", None), UseCase):
        raise InputError(
            f"use case {name!r} is none of this program; give one such as churn_prevention"
        )
    return found
