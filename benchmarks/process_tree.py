"""A process with all its descendants, as /proc shows them: memory, pausing, killing.

A descendant is found by its parent, or by a variable of its environment, since a process whose
parent ended belongs to another one. Linux alone.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_KIB_PER_MIB = 1024
_STOP_SECONDS = 1.0


class ProcessTree:
    """The processes that descend from one.

    Args:
      root: Id of that process, whose parent is this one.
      mark: `NAME=value` in the environment of the root and of nobody else.
    """

    def __init__(self, root: int, mark: str) -> None:
        """Looks at nothing yet."""
        self._root = root
        self._mark = mark.encode()

    def process_ids(self) -> list[int]:
        """Returns the ids of the processes that live, the root first if it does."""
        parents = dict(_parents())
        # The parent is looked at because the root's number may be another process's by now.
        found = {self._root} if parents.get(self._root) == os.getpid() else set()
        found |= {process for process in parents if _environment_has(process, self._mark)}
        while True:
            children = {process for process, parent in parents.items() if parent in found} - found
            if not children:
                return sorted(found, key=lambda process: (process != self._root, process))
            found |= children

    def peak_memory_mib(self) -> float:
        """Returns the sum over the living processes of the most memory that each ever held.

        Pages that two processes share count twice.
        """
        return sum(map(_peak_kib, self.process_ids())) / _KIB_PER_MIB

    def pause(self) -> None:
        """Stops every process until `resume`; returns when they stand still."""
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline and any(map(_is_running, self.process_ids())):
            time.sleep(0.001)

    def resume(self) -> None:
        """Lets every process go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends every process."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """Sends a signal to every process, and again to those that have appeared meanwhile."""
        reached: set[int] = set()
        while new := [process for process in self.process_ids() if process not in reached]:
            for process in new:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, number)
            reached.update(new)


def _parents() -> Iterator[tuple[int, int]]:
    """Yields (process, its parent) for all processes that have not ended."""
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # The name, in parentheses, may hold anything; state and parent follow it.
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if fields[0] not in ("Z", "X"):
                yield int(entry.name), int(fields[1])


def _environment_has(process: int, mark: bytes) -> bool:
    """Returns whether a variable with this value was in a process's environment at its start."""
    try:
        return mark in (_PROC / str(process) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _peak_kib(process: int) -> int:
    """Returns the most memory that a process ever held; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in (_PROC / str(process) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


def _is_running(process: int) -> bool:
    """Returns whether a process is neither stopped nor gone."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "TtZX"
