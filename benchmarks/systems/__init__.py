"""The systems that the benchmark knows, and where each one's Python is.

A driver in this folder runs in its system's own environment and speaks the protocol of
`protocol.py`. This file is imported there too: Python 3.9, standard library alone.
"""

from __future__ import annotations

import dataclasses

OURS = "ours"


@dataclasses.dataclass(frozen=True)
class SystemEntry:
    """How the driver of a system is started.

    Attributes:
      name: The module in this folder.
      environment: Folder of its Python environment, from the repository's root.
      make_target: What makes the environment.
      tries_one_thread: Whether one thread is tried beside all of them, and the faster one taken.
    """

    name: str
    environment: str
    make_target: str
    tries_one_thread: bool = False

    def threads(self, cores: int) -> tuple[int, ...]:
        """Returns the numbers of threads to try on this many cores."""
        return tuple(sorted({1, cores})) if self.tries_one_thread else (cores,)


def _peer(name: str, *, tries_one_thread: bool = False) -> SystemEntry:
    """Returns the entry of a peer with an environment of its own."""
    folder = f".benchmarks/{name}"
    return SystemEntry(name, folder, f"{folder}/.installed", tries_one_thread)


_ENTRIES = (
    SystemEntry(OURS, ".venv", "install"),
    SystemEntry("stock_tff", ".venv", "install"),
    SystemEntry("stock_tff_defaults", ".venv", "install"),
    _peer("pfl_research", tries_one_thread=True),
    _peer("fedjax", tries_one_thread=True),
    _peer("flower"),
)
SYSTEMS: dict[str, SystemEntry] = {entry.name: entry for entry in _ENTRIES}
