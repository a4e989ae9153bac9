"""The tables that `plan_privacy` prints; plain text where the output is no terminal."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box, progress
from rich.console import Console
from rich.table import Table

from fl_research.privacy.accountants import ACCOUNTANT_DESCRIPTIONS
from fl_research.privacy.planning import MOST_ROUNDS
from fl_research.privacy.published import PublishedCheck
from fl_research.privacy.rounding import rounded_up

_PATIENCE_SECONDS = 2.0
_SHOWN_EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0)
_TRUST = {
    "central": "central: the server is trusted with the clients' updates",
    "local": "local: the server is not trusted",
}


def print_answer(answer: Mapping[str, Any]) -> None:
    """Prints what `planning.answer_to` returned."""
    table = Table(box=box.SIMPLE, show_header=False, title="Privacy plan")
    claim = answer["claim"]
    rows = [
        ("mechanism", _mechanism(answer)),
        ("epsilon (the claim)", _epsilon(claim["epsilon"])),
        ("why this one", claim["reason"]),
        ("delta", f"{answer['delta']:.6g}"),
        ("rounds", f"{answer['rounds']:,}"),
        ("noise multiplier", f"{answer['noise_multiplier']:.6g}"),
        ("sampling", answer["sampling"]),
        ("neighbouring relation", answer["neighboring_relation"]),
        ("protects", f"each {answer['unit']}"),
        ("trust", _TRUST[answer["trust"]]),
        (
            f"sensitivity in {answer['norm_of_clip']} clip norms",
            f"{answer['sensitivity_in_clips']:.6g}",
        ),
        *_measures(answer),
        *_fitting(answer),
    ]
    for row in rows:
        table.add_row(*row)
    by_accountant = Table(box=box.SIMPLE, title="Epsilon by accountant")
    for heading in ("accountant", "epsilon", "by"):
        by_accountant.add_column(heading)
    for name, value in answer["epsilon"].items():
        applies = value is not None or claim["epsilon"] is None
        by_accountant.add_row(
            name, _epsilon(value) if applies else "does not apply", ACCOUNTANT_DESCRIPTIONS[name]
        )
    _print(table, by_accountant)
    if "curves" in answer:
        _print(_comparison(answer["curves"]["error_at_equal_epsilon"]))
        print(f"drawn: {answer['plot']}")


def _mechanism(answer: Mapping[str, Any]) -> str:
    """The mechanism with its settings."""
    settings = [f"{name} {value:g}" for name, value in answer["parameters"].items()]
    return ", ".join([answer["mechanism"], *settings])


def _measures(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What else follows from the releases; what does not apply is left out."""
    rows = []
    if answer["squared_sensitivity"] is not None:
        kind = "exact" if answer["squared_sensitivity_is_exact"] else "upper bound"
        squared = rounded_up(answer["squared_sensitivity"], 6)
        rows.append(("squared sensitivity, all rounds", f"{squared} squared clip norms ({kind})"))
    rows.append(
        ("epsilon without amplification", _epsilon(answer["epsilon_without_amplification"]))
    )
    if answer["zcdp_rho"] is not None:
        rows.append(("zCDP rho, no amplification", rounded_up(answer["zcdp_rho"], 6)))
    if answer["mu_gdp"] is not None:
        rows.append(("mu-GDP (exact)", rounded_up(answer["mu_gdp"], 6)))
    if answer["prefix_rmse"] is not None:
        norms = f"{answer['norm_of_clip']} clip norms"
        error = f"{answer['prefix_rmse']:.4g} {norms} per expected cohort member (RMS)"
        rows.append(("noise on the prefix sums", error))
    return rows


def _fitting(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The rounds within the target, where noise and target were given."""
    fitting, left = answer["rounds_within_target"], answer["rounds_left"]
    if fitting is None:
        return []
    more = " or more" if fitting == MOST_ROUNDS else ""
    label = f"rounds within epsilon {answer['target_epsilon']:g}"
    if left is None:
        return [(label, f"{fitting:,} of the {answer['rounds']:,} that the noise is made for")]
    return [(label, f"{fitting:,}{more}"), ("rounds left", f"{left:,}{more}")]


def _comparison(curves: Mapping[str, Any]) -> Table:
    """The error of each mechanism at some epsilons."""
    shown = [(place, e) for place, e in enumerate(curves["epsilon"]) if e in _SHOWN_EPSILONS]
    table = Table(
        box=box.SIMPLE,
        title="Noise on the prefix sums at equal epsilon, clip norms per expected cohort member",
    )
    table.add_column("mechanism")
    table.add_column("once in rounds", justify="right")
    table.add_column("neighbouring relation")
    table.add_column("trust")
    table.add_column("amplified")
    for _, epsilon in shown:
        table.add_column(f"epsilon {epsilon:g}", justify="right")
    for line in curves["mechanisms"]:
        values = [line["prefix_rmse"][place] for place, _ in shown]
        table.add_row(
            line["label"],
            str(line["sampling"].get("min_separation", "any")),
            line["neighboring_relation"],
            line["trust"],
            "yes" if line["amplified"] else "no",
            *("out of reach" if value is None else f"{value:.3g}" for value in values),
        )
    return table


@contextmanager
def slow_steps(total: int) -> Iterator[Callable[[str], None]]:
    """Shows a bar on stderr once the work has taken two seconds, and takes it away at the end.

    Args:
      total: Pieces of work.

    Yields:
      A function to call before each piece, with its name.
    """
    console = Console(file=sys.stderr)
    bar = progress.Progress(
        progress.BarColumn(bar_width=24),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.description}"),
        progress.TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task("starting", total=total)
    started = 0
    timer = threading.Timer(_PATIENCE_SECONDS, bar.start)
    timer.daemon = True

    def step(label: str) -> None:
        """The pieces before this one are done."""
        nonlocal started
        bar.update(task, completed=started, description=label)
        started += 1

    timer.start()
    try:
        yield step
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


def print_published(checks: Sequence[PublishedCheck]) -> None:
    """Prints published values beside ours."""
    table = Table(box=box.SIMPLE, title="Published values and ours")
    for heading in ("id", "source", "accountant", "published", "ours", "tolerance", "result"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("id", "result"))
    for check in checks:
        unit = "cohort " if check.quantity == "smallest cohort" else ""
        table.add_row(
            check.id,
            check.source,
            check.accountant,
            f"{unit}{check.published:.8g}",
            f"{unit}{rounded_up(check.ours, 8)}",
            f"{check.relative_tolerance:.2%}" if check.relative_tolerance else "exact",
            check.status,
        )
    _print(table)


def _print(*tables: Table) -> None:
    """Prints tables as wide as the terminal, or 150 columns wide into a file or pipe."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    for table in tables:
        console.print(table)


def _epsilon(value: float | None) -> str:
    """Up to six digits, rounded up; infinite where there is no number."""
    return "infinite: no guarantee" if value is None else rounded_up(value, 6)
