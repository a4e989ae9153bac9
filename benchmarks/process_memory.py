"""What one process holds in memory, as /proc shows it. Linux alone."""

import dataclasses
from pathlib import Path

_FIELDS = {"VmRSS": "resident", "RssAnon": "own", "RssFile": "files", "VmHWM": "peak"}
_MIB = 1024.0  # In the KiB that /proc counts in.


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessMemory:
    """Memory of a process, in MiB.

    Attributes:
      resident: All that it holds now.
      own: Of that, what belongs to it alone and cannot be read from a file again.
      files: Of that, pages of files, which the kernel takes back when it needs them.
      peak: The most that it ever held.
    """

    resident: float
    own: float
    files: float
    peak: float


def memory_of(process: int | str = "self") -> ProcessMemory:
    """Returns the memory of a process.

    Args:
      process: Its id, or "self".

    Raises:
      OSError: There is no such process.
    """
    found = {}
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in _FIELDS:
            found[_FIELDS[name]] = int(value.split()[0]) / _MIB
    return ProcessMemory(**found)
