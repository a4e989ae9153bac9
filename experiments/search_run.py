"""A hyperparameter search from its plan to the chosen run's report.

What every point of the grid would cost is found first, in a process of its own, so that a wrong
setting ends the search before anything is trained. Then each trial runs as the experiment binary
does, one after the other; the log of `run.search_log` counts it before and after.
"""

import concurrent.futures
import dataclasses
import functools
import math
import multiprocessing
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import progress
from rich.console import Console

from experiments.planned_run import is_binary, plans_of
from experiments.search_grid import (
    Grid,
    common_flags,
    parse_grid,
    planned_trials,
    points_of,
    settings_text,
)
from fl_research.errors import InputError
from fl_research.privacy.ledger import Entry, read_ledger
from fl_research.privacy.rounding import rounded_up
from fl_research.privacy.search_spending import (
    relation_named,
    spending_of_trials,
    the_one,
    trials_of,
)
from fl_research.privacy.selection import FixedTrials, RandomTrials
from fl_research.reports import run_report, selection
from fl_research.run import search_log
from fl_research.run.durable_files import lock
from fl_research.run.record_files import read_json
from fl_research.run.run_directory import LEDGER, REPORT_MARKDOWN, RUN
from fl_research.run.run_status import command_line
from fl_research.runtime import interrupts

_WRONG_INPUT = 2
_INTERRUPTED = (130, 143, -signal.SIGINT, -signal.SIGTERM)
_STATED_FOR = ("delta", "neighboring_relation", "unit", "primary_metric")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched.

    Attributes:
      binary: The experiment binary.
      name: The search's name; its runs' names begin with it.
      grid: Flags and their values.
      trials: How many trials there are.
      output_dir: Folder of all runs.
      arguments: Flags of every trial.
    """

    binary: str
    name: str
    grid: Grid
    trials: FixedTrials | RandomTrials
    output_dir: Path
    arguments: Sequence[str]

    @classmethod
    def from_flags(
        cls,
        *,
        binary: str,
        name: str | None,
        grid: str | None,
        trials_mean: float | None,
        trials_shape: float | None,
        output_dir: str,
        arguments: Sequence[str],
    ) -> "Search":
        """Returns the search that the flags of `search_hyperparameters` describe.

        Raises:
          InputError: If a flag is missing or wrong.
        """
        if not is_binary(binary):
            raise InputError(
                f"--binary={binary} is no experiment binary; give one such as churn_prevention"
            )
        if not name or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise InputError(
                f"--search={name} is no name; give one of letters, digits, dots and dashes"
            )
        if not grid:
            raise InputError("--grid is not given; write name=value,value;name=value,value")
        if trials_mean is None and trials_shape is not None:
            raise InputError(f"--trials_shape={trials_shape} needs --trials_mean")
        parsed = parse_grid(grid)
        trials: FixedTrials | RandomTrials = FixedTrials(count=len(points_of(parsed)))
        if trials_mean is not None:
            trials = RandomTrials(
                mean=trials_mean, shape=1.0 if trials_shape is None else trials_shape
            )
        return cls(
            binary=binary,
            name=name,
            grid=parsed,
            trials=trials,
            output_dir=Path(output_dir),
            arguments=common_flags(arguments, parsed),
        )

    def entry(self) -> dict[str, Any]:
        """Returns what the log's "search" entry says, apart from the points."""
        random = self.trials if isinstance(self.trials, RandomTrials) else None
        shape = None if random is None else random.shape
        return {
            "name": self.name,
            "binary": self.binary,
            "kind": "grid" if random is None else "random",
            "grid": self.grid,
            "mean": None if random is None else random.mean,
            "shape": "infinity" if shape == math.inf else shape,
            "command": command_line(f"experiments.{self.binary}", self.arguments),
        }


def run_search(search: Search, *, skip_failed: bool) -> None:
    """Runs all trials that are not counted yet, chooses, and writes the chosen run's report.

    Args:
      search: What is searched.
      skip_failed: Whether a trial that stopped with an error is counted as failed.

    Raises:
      InputError: If something in the flags is wrong, a trial stopped, or none has a metric.
      LedgerError: If the log or a run's ledger is not what was written.
    """
    console = Console(stderr=True)
    search.output_dir.mkdir(parents=True, exist_ok=True)
    with open(search.output_dir / f".{search.name}.search.lock", "wb") as held:
        if not lock(held.fileno(), Path(held.name)):
            raise InputError(f"--search={search.name} runs in another process; wait for it")
        with interrupts.sigterm_exits():
            _run_trials(search, _begun(search, console), console, skip_failed)
        run = search_log.choose(search.output_dir, search.name)
        if run is None:
            raise InputError(
                f"search {search.name}: there is no trial with a validation metric, so that nothing"
                " is chosen; look into the runs' run.log, if any, and begin another search"
            )
        folder = search.output_dir / run
        run_report.write(folder)
        _print_chosen(folder)


def _begun(search: Search, console: Console) -> tuple[Entry, ...]:
    """The log's entries, after planning where it is a new one."""
    if search_log.log_path(search.output_dir, search.name).exists():
        # What was planned is in the log. Where it was cut short before that, it is planned now.
        entries = read_ledger(search_log.log_path(search.output_dir, search.name))
        if any(entry.kind == "trials" for entry in entries):
            return search_log.begin(search.output_dir, search.entry(), ())
    points = points_of(search.grid)
    console.print(f"planning {len(points)} points of the grid", highlight=False)
    given = [[*search.arguments, *_flags_of(point)] for point in points]
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        plans = pool.submit(plans_of, search.binary, given).result()
    _require_comparable(search, plans)
    stated = ("events", "delta", "neighboring_relation", "unit", "epsilon")
    entry = search.entry() | {
        "metric": f"validation_{plans[0]['primary_metric']}",
        "relation": plans[0]["neighboring_relation"],
        "points": [
            {"settings": point, **{name: plan[name] for name in stated}}
            for point, plan in zip(points, plans, strict=True)
        ],
    }
    drawn = planned_trials(search.name, len(points), search.trials)
    return search_log.begin(search.output_dir, entry, drawn)


def _require_comparable(search: Search, plans: Sequence[Mapping[str, Any]]) -> None:
    """Raises unless all points can be scored, and their epsilons are of the same thing."""
    if not plans[0]["validation_clients"]:
        raise InputError(
            "--validation_fraction leaves no validation clients, by whom the best trial is chosen; "
            "give a larger one"
        )
    for name in _STATED_FOR:
        values = list(dict.fromkeys(plan[name] for plan in plans))
        if len(values) > 1:
            raise InputError(
                f"--grid mixes the {name.replace('_', ' ')} {values[0]} and {values[1]}, for which "
                f"no one epsilon stands; search separately (--search={search.name})"
            )


def _run_trials(
    search: Search, entries: tuple[Entry, ...], console: Console, skip_failed: bool
) -> None:
    """Runs what is not counted yet, with a bar over the trials."""
    planned, points = the_one(entries, "trials")["trials"], the_one(entries, "search")["points"]
    _describe(entries, console)
    with progress.Progress(
        progress.TextColumn("trial {task.completed:.0f}/{task.total:.0f}"),
        progress.BarColumn(bar_width=24),
        progress.TextColumn("{task.description}", markup=False),
        progress.TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=len(planned))
        for trial in planned:
            run, settings = trial["run"], points[trial["point"]]["settings"]
            counted = search_log.counted_trials(entries).get(run)
            if counted is None:
                show = functools.partial(_show, bar, task, settings_text(settings))
                counted = _run_trial(search, run, settings, skip_failed=skip_failed, show=show)
                metric = "no metric" if counted["metric"] is None else f"{counted['metric']:.4f}"
                bar.console.print(
                    f"{run}  {settings_text(settings)}  {counted['status']}: {metric}",
                    soft_wrap=True,
                    highlight=False,
                    markup=False,
                )
            bar.advance(task)


def _show(bar: progress.Progress, task: progress.TaskID, settings: str, line: str) -> None:
    """Shows what a trial says last."""
    bar.update(task, description=f"{settings}  {line}")


def _describe(entries: Sequence[Entry], console: Console) -> None:
    """What the search will cost, from the plan of every point."""
    search = the_one(entries, "search")
    points = search["points"]
    spent = spending_of_trials(
        [point["events"] for point in points],
        trials=trials_of(search),
        delta=points[0]["delta"],
        relation=relation_named(search["relation"]),
    )
    console.print(
        f"choosing the best will cost epsilon {rounded_up(spent.epsilon)}; the costliest trial "
        f"alone costs {rounded_up(spent.costliest_epsilon)}",
        soft_wrap=True,
        highlight=False,
    )


def _run_trial(
    search: Search,
    run: str,
    settings: Mapping[str, str],
    *,
    skip_failed: bool,
    show: Callable[[str], None],
) -> Mapping[str, Any]:
    """Runs one trial or goes on with it; returns what the log says of it then."""
    output_dir, name = search.output_dir, search.name
    if _is_started(search, run) and _is_lost(output_dir / run):
        return search_log.finish(output_dir, name, run, status=search_log.LOST)
    command = [sys.executable, "-m", f"experiments.{search.binary}", *search.arguments]
    command += [*_flags_of(settings), f"--search={name}"]
    code, last_line = _call([*command, f"--output_dir={output_dir}", f"--run_name={run}"], show)
    if code == 0:
        return search_log.finish(output_dir, name, run, status=search_log.COMPLETED)
    if code in _INTERRUPTED:
        raise KeyboardInterrupt
    if _is_started(search, run):
        gave_up = code == _WRONG_INPUT and _status(output_dir / run) == "failed"
        if gave_up or skip_failed:
            return search_log.finish(output_dir, name, run, status=search_log.FAILED)
    raise InputError(
        f"trial {run} ({settings_text(settings)}) stopped: {last_line}; the same command goes on "
        "with it, with --skip_failed it counts as failed"
    )


def _call(command: Sequence[str], show: Callable[[str], None]) -> tuple[int, str]:
    """Runs a trial's process; returns its exit code and the last line that it wrote.

    Ctrl-C reaches this process only, which passes it on once and waits: the trial ends in order.
    """
    last_line = "no message"
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if line.strip():
                    last_line = line.strip()
                    show(last_line)
            return process.wait(), last_line
        except BaseException:
            process.send_signal(signal.SIGINT)
            process.communicate()
            raise


def _flags_of(settings: Mapping[str, str]) -> list[str]:
    """The settings of a point as flags."""
    return [f"--{name}={value}" for name, value in settings.items()]


def _is_started(search: Search, run: str) -> bool:
    """Whether the log says that a trial may have released something."""
    entries = read_ledger(search_log.log_path(search.output_dir, search.name))
    return search_log.is_started(entries, run)


def _is_lost(folder: Path) -> bool:
    """Whether a started trial has no ledger to go on with."""
    path = folder / LEDGER
    return not path.exists() or not path.stat().st_size


def _status(folder: Path) -> str | None:
    """How a run says that it ended."""
    path = folder / RUN
    return read_json(path).get("status") if path.exists() else None


def _print_chosen(folder: Path) -> None:
    """The outcome: which run, how good, and what may be stated of it."""
    found = selection.section(folder)
    assert found is not None and found["chosen"], "it was chosen just now"
    print(f"chosen: {folder}")
    print(f"settings: {settings_text(found['settings'])}")
    print(f"{found['metric'].replace('_', ' ')}: {found['metric_value']:.4f}")
    print(found["statement"])
    print(f"report: {folder / REPORT_MARKDOWN}")
