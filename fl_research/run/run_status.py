"""run.json: what ran, where, with which versions, and how it ended. No TensorFlow."""

import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from fl_research.run.run_directory import RunDirectory

_PACKAGES = (
    "tensorflow",
    "tensorflow-federated",
    "tensorflow-privacy",
    "dp-accounting",
    "numpy",
    "pandas",
)


class RunStatus:
    """Keeps run.json up to date over all sessions of a run.

    Args:
      directory: The run's folder.
      facts: What does not change while the run lasts: task, model, data, seeds.
    """

    def __init__(self, directory: RunDirectory, facts: Mapping[str, Any]) -> None:
        self._directory = directory
        earlier = directory.read_json("run.json") or {}
        self._earlier_seconds = float(earlier.get("seconds", 0.0))
        self._started = time.monotonic()
        self._record = {
            **facts,
            "rounds_completed": earlier.get("rounds_completed", 0),
            "participation": earlier.get("participation"),
            "sessions": int(earlier.get("sessions", 0)) + 1,
            "versions": {"python": platform.python_version()}
            | {name: metadata.version(name) for name in _PACKAGES},
            "machine": {
                "cpus": available_cores(),
                "memory_gib": round(_memory_bytes() / 2**30, 1),
                "platform": platform.platform(),
            },
            "git_commit": _git_commit(),
        }

    def write(self, status: str, **changed: Any) -> None:
        """Writes the record with its status, the seconds so far, and what has changed."""
        seconds = self._earlier_seconds + time.monotonic() - self._started
        self._record |= {"status": status, "seconds": round(seconds, 3), **changed}
        self._directory.write_json("run.json", self._record)


def available_cores() -> int:
    """Returns the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def command_line(module: str, typed: Sequence[str]) -> str:
    """Returns the command that was typed, with passwords in addresses hidden.

    Args:
      module: The binary's module, such as `"experiments.churn_prevention"`.
      typed: The arguments after it, as in `sys.argv[1:]`.
    """
    from fl_research.data.sources import redact

    arguments = []
    for argument in typed:
        name, equals, value = argument.partition("=")
        is_flag = argument.startswith("-") and equals
        arguments.append(f"{name}={redact(value)}" if is_flag else redact(argument))
    return " ".join([f"python -m {module}", *arguments])


def _memory_bytes() -> int:
    """Physical memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _git_commit() -> str | None:
    """The commit of the source tree, with `+changes` if it was edited; None outside git."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
