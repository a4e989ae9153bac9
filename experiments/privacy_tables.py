"""The tables that `plan_privacy` prints; plain text where the output is no terminal."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from fl_research.privacy.accountants import ACCOUNTANT_DESCRIPTIONS
from fl_research.privacy.planning import MOST_ROUNDS
from fl_research.privacy.published import PublishedCheck
from fl_research.privacy.rounding import rounded_up


def print_answer(answer: Mapping[str, Any]) -> None:
    """Prints what `planning.answer_to` returned."""
    table = Table(box=box.SIMPLE, show_header=False, title="Privacy plan")
    claim, target = answer["claim"], answer["target_epsilon"]
    rows = [
        ("epsilon (the claim)", _epsilon(claim["epsilon"])),
        ("why this one", claim["reason"]),
        ("delta", f"{answer['delta']:.6g}"),
        ("rounds", f"{answer['rounds']:,}"),
        ("noise multiplier", f"{answer['noise_multiplier']:.6g}"),
        ("sampling", answer["sampling"]),
        ("neighbouring relation", answer["neighboring_relation"]),
        ("sensitivity in clip norms", f"{answer['sensitivity_in_clips']:.6g}"),
        ("epsilon without amplification", _epsilon(answer["epsilon_without_amplification"])),
    ]
    if answer["rounds_within_target"] is not None:
        more = " or more" if answer["rounds_within_target"] == MOST_ROUNDS else ""
        rows += [
            (f"rounds within epsilon {target:g}", f"{answer['rounds_within_target']:,}{more}"),
            ("rounds left", f"{answer['rounds_left']:,}{more}"),
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
            "" if check.ours is None else f"{unit}{rounded_up(check.ours, 8)}",
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
