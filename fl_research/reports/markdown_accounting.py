"""The sections on accounting and evidence of report.md."""

import math
from collections.abc import Mapping
from typing import Any

from fl_research.privacy.rounding import rounded_up
from fl_research.reports import wording
from fl_research.reports.markdown_blocks import Lines, table
from fl_research.reports.wording import number


def accounting(report: Mapping[str, Any]) -> Lines:
    """Returns ε by every accountant side by side, which one is the claim, and what follows.

    Args:
      report: The content of report.json.
    """
    section = report["accounting"]
    lines = ["## 9. Accounting"]
    if section["claim"] is None:
        return [*lines, "No noise was added: no accountant gives a finite ε."]
    rows = [
        (
            row["name"],
            wording.accountant(row["accountant"]) if row["accountant"] else "",
            _epsilon(row["epsilon"], "does not apply"),
        )
        for row in section["side_by_side"]
    ]
    return [
        *lines,
        *table(("Releases", "Accountant", "ε (rounded up)"), rows),
        "",
        f"The claim is {wording.accountant(section['claim'])}: {section['reason']}.",
        "",
        *(f"- {wording.accountant(name)}: {text}." for name, text in section["settings"].items()),
        *_other_notions(section),
        *_units(section["units"]),
        *_clients(section["clients"]),
        *_curve(report),
        *_projection(section["projection"]),
    ]


def _other_notions(section: Mapping[str, Any]) -> Lines:
    """zCDP and Gaussian DP, where they are exact."""
    zcdp, mu = section["zero_concentrated"], section["gaussian_dp"]["mu"]
    return [
        f"- zCDP: rho = {rounded_up(zcdp['rho'])}, for {zcdp['applies_to']}.",
        "- Gaussian DP: not exact here, since the releases are not Gaussians without sampling."
        if mu is None
        else f"- Gaussian DP: mu = {rounded_up(mu)}, exact.",
    ]


def _units(section: Mapping[str, Any]) -> Lines:
    """ε for a record, a client, a person."""
    rows = [(row["unit"], _epsilon(row["epsilon"], "none"), row["note"]) for row in section["rows"]]
    return ["", *table(("For", "ε (rounded up)", ""), rows)]


def _clients(rows: list[Mapping[str, Any]] | None) -> Lines:
    """ε over clients of different sizes."""
    if rows is None:
        return []
    cells = [
        (
            number(row["rows"]),
            number(row["clients"]),
            number(row["steps_of_a_round"]),
            f"{row['sampling_rate']:.4g}",
            _epsilon(row["epsilon"], "infinite"),
        )
        for row in rows
    ]
    return [
        "",
        "ε follows from a client's own size; these are the clients at the 0th, 10th, 50th, 90th "
        "and 100th percentile by number of rows. The claim is that of the worst size of all.",
        "",
        *table(
            ("Rows of the client", "Clients", "Steps a round", "Sampling rate", "ε (rounded up)"),
            cells,
        ),
    ]


def _curve(report: Mapping[str, Any]) -> Lines:
    """The plot of ε over δ, and some of its points."""
    curve = report["accounting"]["curve"]
    shown = [
        (wording.probability(delta), rounded_up(epsilon))
        for delta, epsilon in curve
        if round(10 * math.log10(delta)) % 20 == 0
    ]
    lines = ["", *table(("δ", "ε (rounded up)"), shown)] if shown else []
    plots = {plot["file"]: plot for plot in report["plots"]}
    if plot := plots.get("plots/epsilon_curve.png"):
        lines += ["", f"![{plot['title']}]({plot['file']})"]
    return lines


def _projection(projection: Mapping[str, Any] | None) -> Lines:
    """ε for a larger population, set apart."""
    if projection is None:
        return ["", "Projection for a larger population: not asked for."]
    return [
        "",
        f"> **Projection, not a claim about this run.** If {number(projection['population'])} "
        "clients were drawn from, with the same noise, cohorts of "
        f"{number(projection['expected_cohort_size'])} and {number(projection['rounds'])} rounds, "
        f"ε would be {_epsilon(projection['epsilon'], 'infinite')} at the same δ.",
    ]


def evidence(report: Mapping[str, Any]) -> Lines:
    """Returns ledger, noise self-test and audit, and the command that checks them.

    Args:
      report: The content of report.json.
    """
    section = report["evidence"]
    ledger, test = section["ledger"], section["noise_self_test"]
    measured = "not run"
    if test is not None:
        measured = (
            f"{'passed' if test['passed'] else '**FAILED**'}: declared standard deviation "
            f"{number(test['declared_stddev'])}, measured {number(test['measured_stddev'])} on "
            f"{number(test['values'])} values (a correct generator fails with probability "
            f"{test['false_alarm_probability']:g})"
        )
    rows = [
        ("Releases in the ledger", number(ledger["releases"])),
        ("of these, repeated rounds (counted again)", number(ledger["repeated"])),
        (
            "Rounds started without a release (not counted)",
            number(ledger["started_without_release"]),
        ),
        ("Times resumed", number(ledger["resumed"])),
        ("Torn ledger lines recovered", number(ledger["recovered"])),
        ("Hash of the last entry", f"`{ledger['head']}`"),
        ("Noise self-test", measured),
        ("Audit (lower bound of ε)", audit_words(section["audit"], report["privacy"]["epsilon"])),
    ]
    return [
        "## 10. Evidence",
        *table(("Evidence", "Value"), rows),
        "",
        "Check this report against the ledger, with FOLDER the folder that holds it:",
        "",
        f"    {section['verify']}",
        "",
        section["limits"],
    ]


def audit_words(audit: Mapping[str, Any] | None, claim: float | None) -> str:
    """Returns the audit's bounds beside the claim, in a line.

    Args:
      audit: Of evaluation.json; None where none was run.
      claim: The claimed ε, None without a guarantee.
    """
    if audit is None:
        return "not run (--audit_canaries=100 runs it)"
    below = "no claim" if claim is None else f"claimed at most {rounded_up(claim)}"
    return (
        f"{'**ABOVE THE CLAIM**: ' if audit['exceeds_claim'] else ''}"
        f"ε is at least {audit['epsilon_lower']:.3g} with {100 * audit['confidence']:g} % "
        f"confidence, point estimate {audit['epsilon_estimate']:.3g}, {below} "
        f"({number(audit['canaries'])} canaries, {audit['statistic']}; {audit['bounded_by']})"
    )


def _epsilon(value: float | None, missing: str) -> str:
    """An upper bound, rounded up."""
    return missing if value is None else rounded_up(value)
