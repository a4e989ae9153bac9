"""What the terminal shows while rounds run: a bar, or plain lines where there is no terminal."""

import sys
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol

from rich import progress as rich_progress
from rich.console import Console

from fl_research.privacy.rounding import rounded_up


class Progress(Protocol):
    """What a run tells while it lasts."""

    def round_done(self, row: Mapping[str, Any]) -> None:
        """Takes the metrics row of one finished round."""

    def steps(self, label: str, total: int) -> Iterator[int]:
        """Yields 1 to `total` and counts them as they are asked for."""

    def note(self, message: str) -> None:
        """Takes one line that the user should see."""


def _describe(row: Mapping[str, Any], primary_metric: str) -> dict[str, str]:
    """The figures of a metrics row that are there, as text."""
    shown = {}
    if row.get("train_loss") is not None:
        shown["loss"] = f"{row['train_loss']:.4f}"
    metric = row.get(f"validation_{primary_metric}")
    if metric is not None:
        shown[primary_metric] = f"{metric:.4f}"
    if row.get("epsilon") is not None:
        shown["epsilon"] = rounded_up(row["epsilon"])
    return shown


class TerminalProgress:
    """A progress bar with round, loss, metric, epsilon so far and time left.

    Args:
      rounds: Rounds planned.
      primary_metric: The validation metric to show.
      console: Where to print; stderr by default, so that stdout stays clean.
    """

    def __init__(self, rounds: int, primary_metric: str, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._rounds = rounds
        self._metric = primary_metric
        self._shown: dict[str, str] = {}
        self._bar = rich_progress.Progress(
            rich_progress.TextColumn("{task.description} {task.completed:.0f}/{task.total:.0f}"),
            rich_progress.BarColumn(bar_width=24),
            rich_progress.TextColumn("{task.fields[figures]}"),
            rich_progress.TimeElapsedColumn(),
            rich_progress.TextColumn("left"),
            rich_progress.TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("round", total=rounds, figures="starting")

    def __enter__(self) -> "TerminalProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def round_done(self, row: Mapping[str, Any]) -> None:
        """Shows one finished round; without a terminal only the evaluated ones."""
        figures = _describe(row, self._metric)
        evaluated = self._metric in figures
        self._shown |= figures
        text = "  ".join(f"{name} {value}" for name, value in self._shown.items())
        self._bar.update(self._task, completed=row["round"], figures=text)
        if evaluated and not self._console.is_terminal:
            self._console.print(f"round {row['round']}/{self._rounds}  {text}", soft_wrap=True)

    def steps(self, label: str, total: int) -> Iterator[int]:
        """Yields 1 to `total`, with a bar of its own below the rounds'."""
        task = self._bar.add_task("step ", total=total, figures=label)
        for step in range(1, total + 1):
            yield step
            self._bar.update(task, completed=step)

    def note(self, message: str) -> None:
        """Prints one line above the bar."""
        self._console.print(message, soft_wrap=True, highlight=False, markup=False)
