"""Runs the systems on a workload and times their rounds, each in turn on the same cohort.

Every system first runs one round without noise in a process of its own, and its weights must agree
with those of this project. Then each starts in a fresh process, whose memory is that of the timed
rounds alone. Warm-up rounds are left out. A repetition is a turn of each system on the same
rounds, and the order rotates; the systems that wait are paused. So a change of the machine's pace
meets all of them alike. A turn is two rounds, of which the second is timed: whoever was paused
finds its memory out of the processor's caches, and in a training run rounds follow each other.
"""

import contextlib
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import workloads
from benchmarks.agreement import disagreement
from benchmarks.driver_process import DriverError, DriverProcess
from benchmarks.systems import OURS, SystemEntry
from benchmarks.workloads import Workload

BUILD_TIMEOUT_SECONDS = 900.0  # also of a check, which builds everything as well
ROUND_TIMEOUT_SECONDS = 300.0
CHECK = "check"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
      cores: Threads that a system may use.
      repetitions: Turns of a system on a workload at most; each gives one timed round.
      min_repetitions: As many are timed however long they take.
      seconds_per_workload: After so long no further repetition of a workload begins.
      warm_up_rounds: Turns before the timed ones, besides the first round.
    """

    cores: int
    repetitions: int
    min_repetitions: int
    seconds_per_workload: float
    warm_up_rounds: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """One system on one workload.

    Attributes:
      workload: The workload's name.
      system: The system's name.
      threads: Threads that it was given.
      seconds: Of each timed round.
      peak_memory_mib: Of all its processes.
      build_seconds: Until the first round could begin, imports included.
      first_round_seconds: The first round, with whatever is traced or compiled in it.
      version: Of the system.
      note: How it was run.
    """

    workload: str
    system: str
    threads: int
    seconds: tuple[float, ...]
    peak_memory_mib: float
    build_seconds: float
    first_round_seconds: float
    version: str
    note: str

    @property
    def median(self) -> float:
        """The median of the timed rounds."""
        return statistics.median(self.seconds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """A system that gave no measurement of a workload.

    Attributes:
      workload: The workload's name.
      system: The system's name.
      reason: One line.
      disagrees: Whether it ran, and did other work than the others.
    """

    workload: str
    system: str
    reason: str
    disagrees: bool = False


class Bench:
    """Starts drivers and asks them.

    Args:
      repository: Where the drivers are found and run.
      logs: Folder for the drivers' logs and weights.
      plan: How much is measured.
      tell: Takes a line of progress, such as what is being done now.
      command_of: Gives the command that starts a system's driver.
    """

    def __init__(
        self,
        repository: Path,
        logs: Path,
        plan: Plan,
        *,
        tell: Callable[[str], None],
        command_of: Callable[[SystemEntry], Sequence[str]],
    ) -> None:
        """Starts nothing yet."""
        self._repository = repository
        self._logs = logs
        self._plan = plan
        self._tell = tell
        self._command_of = command_of

    # ------------------------------------------------------------------------------- the check

    def check(
        self, systems: Sequence[SystemEntry], names: Sequence[str]
    ) -> tuple[list[Failure], dict[str, set[str]]]:
        """Compares every system with ours on each workload.

        Args:
          systems: The systems, ours among them.
          names: The workloads.

        Returns:
          The failures, and for each workload the names of the systems that agree.
        """
        answers = {entry.name: self._check_one(entry, names) for entry in systems}
        failures = []
        agreeing: dict[str, set[str]] = {name: set() for name in names}
        for name in names:
            expected = answers[OURS][name]
            initial = workloads.load(name).initial_weights
            for entry in systems:
                found = answers[entry.name][name]
                wrong, disagrees = None, False
                if isinstance(found, str):
                    wrong = found
                elif isinstance(expected, str):
                    wrong = f"not compared, because {OURS} failed: {expected}"
                else:
                    wrong = disagreement(found, expected, initial)
                    disagrees = wrong is not None
                if wrong is None:
                    agreeing[name].add(entry.name)
                else:
                    failures.append(
                        Failure(workload=name, system=entry.name, reason=wrong, disagrees=disagrees)
                    )
        return failures, agreeing

    def _check_one(
        self, entry: SystemEntry, names: Sequence[str]
    ) -> dict[str, dict[str, np.ndarray] | str]:
        """Returns a system's weights for each workload, or why there are none."""
        found: dict[str, dict[str, np.ndarray] | str] = {}
        for name in names:
            found[name] = "its check was not reached"
        try:
            with self._driver(entry, CHECK) as driver:
                for name in names:
                    self._tell(f"{CHECK} {name}: {entry.name}")
                    found[name] = self._weights(driver, workloads.load(name))
        except DriverError as error:
            missing = [name for name in names if isinstance(found[name], str)]
            found |= dict.fromkeys(missing, str(error))
        return found

    def _weights(self, driver: DriverProcess, workload: Workload) -> dict[str, np.ndarray] | str:
        """Returns a driver's weights after the check's round, or its error."""
        path = self._logs / f"{driver.name}_{workload.name}.npz"
        driver.send(
            CHECK, workload=workload.name, clip_norm=workload.check_clip_norm, path=str(path)
        )
        try:
            driver.receive(BUILD_TIMEOUT_SECONDS)
        except DriverError as error:
            return str(error)
        with np.load(path) as weights:
            return dict(weights)

    # --------------------------------------------------------------------------------- the times

    def measure(
        self, systems: Sequence[SystemEntry], name: str
    ) -> tuple[list[Measurement], list[Failure]]:
        """Times the rounds of the systems on one workload.

        Args:
          systems: The systems that agree on it.
          name: The workload.

        Returns:
          The measurements, of each system that of its fastest number of threads, and the failures.
          Nothing is timed where ours does not start.
        """
        variants = [(entry, n) for entry in systems for n in entry.threads(self._plan.cores)]
        failures: list[Failure] = []
        with contextlib.ExitStack() as stack:
            runs: list[_Run] = []
            for entry, threads in variants:
                self._tell(f"{name}: {entry.name} starts")
                with _noted(failures, name, entry.name), contextlib.ExitStack() as until_started:
                    purpose = f"{name}_{threads}"
                    driver = until_started.enter_context(self._driver(entry, purpose))
                    start = driver.ask(
                        "start",
                        workload=name,
                        threads=threads,
                        timeout_seconds=BUILD_TIMEOUT_SECONDS,
                    )
                    driver.allow_pauses(bool(start["may_pause"]))
                    driver.pause()
                    runs.append(_Run(entry.name, threads, driver, start))
                    stack.push(until_started.pop_all())
            if any(run.system == OURS for run in runs):
                self._time_rounds(runs, name, failures)
            done = [run for run in runs if run.seconds]
            measurements = [_measurement(name, run) for run in done]
        return _fastest_variants(measurements), failures

    def _time_rounds(self, runs: list["_Run"], name: str, failures: list[Failure]) -> None:
        """Lets the drivers run the same rounds in turn; a driver that fails drops out."""
        plan = self._plan
        begin = None
        active = list(runs)
        for number in range(1, plan.warm_up_rounds + plan.repetitions + 1):
            repetition = number - plan.warm_up_rounds
            if repetition == 1:
                begin = time.monotonic()
            late = begin is not None and time.monotonic() - begin > plan.seconds_per_workload
            if late and repetition > plan.min_repetitions:
                return
            for turn in range(len(active)):
                run = active[(turn + number) % len(active)]
                with _noted(failures, name, run.system, on_failure=run.drop):
                    seconds = run.one_turn(2 * number)
                    if repetition >= 1:
                        run.seconds.append(seconds)
            active = [run for run in active if not run.dropped]
            medians = [
                f"{r.system} {statistics.median(r.seconds):.4g} s" for r in active if r.seconds
            ]
            self._tell(f"{name}: {max(repetition, 0)}/{plan.repetitions} " + ", ".join(medians))

    @contextlib.contextmanager
    def _driver(self, entry: SystemEntry, purpose: str) -> Iterator[DriverProcess]:
        """Starts a system's driver, and ends it whatever happens."""
        driver = DriverProcess(
            entry.name,
            self._command_of(entry),
            directory=self._repository,
            log_path=self._logs / f"{entry.name}_{purpose}.log",
        )
        try:
            yield driver
            driver.close()
        finally:
            driver.kill()


class _Run:
    """A started driver with what it has measured so far."""

    def __init__(
        self, system: str, threads: int, driver: DriverProcess, start: Mapping[str, Any]
    ) -> None:
        self.system = system
        self.threads = threads
        self.driver = driver
        self.start = start
        self.seconds: list[float] = []
        self.dropped = False

    def one_turn(self, round_number: int) -> float:
        """Runs the round before a round, and then this one; returns its seconds."""
        for number in (round_number - 1, round_number):
            answer = self.driver.ask("round", round=number, timeout_seconds=ROUND_TIMEOUT_SECONDS)
        self.driver.pause()
        return float(answer["seconds"])

    def drop(self) -> None:
        """Takes the driver out, with what it has measured."""
        self.dropped = True
        self.seconds.clear()
        self.driver.kill()


@contextlib.contextmanager
def _noted(
    failures: list[Failure],
    workload: str,
    system: str,
    on_failure: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Turns a driver's error into a failure on the list."""
    try:
        yield
    except DriverError as error:
        failures.append(Failure(workload=workload, system=system, reason=str(error)))
        on_failure()


def _measurement(workload: str, run: _Run) -> Measurement:
    """Returns what a run has measured; its driver still lives."""
    return Measurement(
        workload=workload,
        system=run.system,
        threads=run.threads,
        seconds=tuple(run.seconds),
        peak_memory_mib=run.driver.peak_memory_mib(),
        build_seconds=float(run.start["build_seconds"]),
        first_round_seconds=float(run.start["first_round_seconds"]),
        version=str(run.start["version"]),
        note=str(run.start["note"]),
    )


def _fastest_variants(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Returns one measurement a system, with a note of the number of threads that lost."""
    fastest = []
    for system in dict.fromkeys(m.system for m in measurements):
        best, *others = sorted(
            (m for m in measurements if m.system == system), key=lambda m: m.median
        )
        for other in others:
            tried = f"{best.threads} thread(s); with {other.threads}: {other.median:.3g} s"
            best = dataclasses.replace(best, note=f"{best.note}; {tried}")
        fastest.append(best)
    return fastest


def driver_command(repository: Path, entry: SystemEntry) -> tuple[str, ...]:
    """Returns the command that starts a system's driver in its environment.

    Raises:
      DriverError: The environment is not there; the message says what makes it.
    """
    python = repository / entry.environment / "bin" / "python"
    if not python.exists():
        raise DriverError(
            f"there is no Python at {entry.environment}; make it with `make {entry.make_target}`"
        )
    return (str(python), "-m", f"benchmarks.systems.{entry.name}")


def restrict_to_cores(cores: int) -> None:
    """Keeps this process, and those that it starts, to the first of its cores."""
    if sys.platform == "linux":
        import os

        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
