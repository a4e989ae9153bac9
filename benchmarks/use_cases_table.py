"""The tables and the picture of what every use case can do: means over seeds, utility over ε.

The number of clients that would be needed is a projection. At the same sampling rate and number of
rounds the noise multiplier of an ε does not depend on the number of clients N, and the noise on the
mean update falls as 1/N. So N times z(ε) / z(ε') clients have at ε the noise that N have at ε'.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fl_research.metric_table import sign, words
from fl_research.reports.plot_base import BLUE, DASHED, INK, MUTED, ORANGE

NO_PRIVACY = "none"
SHOWN = "2"
"""The ε that the first table shows."""

TOLERANCE = 0.02
"""A metric is near that without privacy where it is at most this share of it worse."""

FEWEST_CLIENTS = 100
"""Below, ε is for records of departments, and more departments would not change their noise."""

Rows = Sequence[Mapping[str, Any]]


def table(rows: Rows) -> str:
    """Returns both tables as Markdown.

    Args:
      rows: As in use_cases.csv.
    """
    seeds = sorted({row["seed"] for row in rows}, key=int)
    lines = [
        "# What each use case can do",
        "",
        f"Primary test metric, mean over seeds {', '.join(seeds)}; δ = 1e-5. Settings are those of "
        "`benchmarks/use_cases.py`, whose private settings differ from those without privacy where "
        "it names another flag file. The gap is that of the model without privacy to the central "
        "one, positive where the central one is better; seconds are those of the private run, from "
        "command to report. Measured by `python -m benchmarks.use_cases`.",
        "",
        f"| use case / data | clients | metric | with privacy, ε = {SHOWN} | without | central | "
        "gap | best without a model | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case, of_case in _by_case(rows).items():
        lines.append(_first_row(case, of_case))
    epsilons = _epsilons(rows)
    lines += [
        "",
        "## Utility against ε, and how many clients would be needed",
        "",
        "Mean ± standard deviation over seeds. The last columns are the training clients with whom "
        f"the noise would be that of the smallest ε here which is within {TOLERANCE:.0%} of the "
        "metric without privacy (of the largest ε, marked ≥, where none is): a projection at the "
        "same sampling rate, no measurement.",
        "",
        "| use case / data | metric | no privacy | "
        + " | ".join(f"ε = {e}" for e in epsilons)
        + " | clients | "
        + " | ".join(f"for ε = {e}" for e in epsilons[:2])
        + " |",
        "|---|---|---|" + "---|" * (len(epsilons) + 1 + len(epsilons[:2])),
    ]
    for case, of_case in _by_case(rows).items():
        if any(row["target_epsilon"] != NO_PRIVACY for row in of_case):
            lines.append(_privacy_row(case, of_case, epsilons))
    return "\n".join(lines) + "\n"


def best_of(metric: str, values: Mapping[str, float | None]) -> tuple[str, float | str]:
    """Returns the name and the value of the best of some baselines; empty where there is none."""
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return "", ""
    best = max(known, key=lambda name: sign(metric) * known[name])
    return best, known[best]


def clients_needed(rows: Rows, epsilon: str) -> tuple[int, bool] | None:
    """Returns how many training clients the projection asks for at an ε.

    Args:
      rows: Of one case.
      epsilon: The target ε.

    Returns:
      The number, and whether it is the number (False: a bound from below, since no ε that was
      measured is near the metric without privacy); None where nothing was measured, or ε is not
      for clients.
    """
    reference = _mean([r for r in rows if r["target_epsilon"] == NO_PRIVACY], "value")
    asked = [r for r in rows if r["target_epsilon"] == epsilon]
    measured = _epsilons(rows)
    if reference is None or not asked or not measured:
        return None
    metric = rows[0]["metric"]
    near = [e for e in measured if is_near(metric, _value_at(rows, e), reference)]
    at = near[0] if near else measured[-1]
    multiplier, other = (
        _mean([r for r in rows if r["target_epsilon"] == e], "noise_multiplier")
        for e in (epsilon, at)
    )
    if not multiplier or not other:
        return None
    clients = statistics.fmean(float(r["clients"]) for r in asked)
    if clients < FEWEST_CLIENTS:
        return None
    return round(clients * max(1.0, multiplier / other)), bool(near)


def is_near(metric: str, value: float, reference: float) -> bool:
    """Returns whether a metric is at most `TOLERANCE` worse than a reference, relatively."""
    return sign(metric) * (value - reference) >= -TOLERANCE * abs(reference)


def draw(rows: Rows, path: Path) -> None:
    """Draws the primary metric against ε, a panel a case with several ε, into a PNG file.

    Args:
      rows: As in use_cases.csv.
      path: Where the picture goes.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cases = {
        case: of_case for case, of_case in _by_case(rows).items() if len(_epsilons(of_case)) > 1
    }
    if not cases:
        return
    columns = 3
    height = -(-len(cases) // columns)
    with mpl.rc_context({"font.size": 8.5, "axes.titlesize": 9, "text.color": INK}):
        figure = Figure(figsize=(11, 2.7 * height), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(height, columns, squeeze=False).ravel()
        for panel, (case, of_case) in zip(panels, cases.items(), strict=False):
            _draw_panel(panel, case, of_case)
        for panel in panels[len(cases) :]:
            panel.set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
        figure.savefig(path, metadata={"Software": None})


def _draw_panel(panel: Any, case: str, rows: Rows) -> None:
    """One case: the line over ε, and what it is compared with."""
    epsilons = _epsilons(rows)
    values = [[float(r["value"]) for r in rows if r["target_epsilon"] == e] for e in epsilons]
    means = [statistics.fmean(v) for v in values]
    at = [float(e) for e in epsilons]
    panel.fill_between(
        at, [min(v) for v in values], [max(v) for v in values], color=BLUE, alpha=0.15, linewidth=0
    )
    panel.plot(at, means, color=BLUE, marker="o", markersize=3.5, label="with privacy")
    free = [r for r in rows if r["target_epsilon"] == NO_PRIVACY]
    for column, color, style, label in (
        ("value", INK, "-", "no privacy"),
        ("central", ORANGE, DASHED, "central"),
        ("best_trivial", MUTED, ":", "best without a model"),
    ):
        value = _mean(free, column)
        if value is not None:
            panel.axhline(value, color=color, linestyle=style, linewidth=1, label=label)
    panel.set_xscale("log", base=2)
    panel.set_xticks(at, epsilons)
    panel.minorticks_off()
    title = case.replace("_", " ").replace("/", ":\n")
    panel.set_title(title, loc="left", fontweight="bold")
    panel.set_ylabel(words(rows[0]["metric"]))
    panel.set_xlabel("ε")
    panel.spines[["top", "right"]].set_visible(False)


def _first_row(case: str, rows: Rows) -> str:
    """What a case reaches without privacy, beside what it is compared with."""
    free = [r for r in rows if r["target_epsilon"] == NO_PRIVACY]
    private = [r for r in rows if r["target_epsilon"] == SHOWN]
    metric = rows[0]["metric"]
    value, central = _mean(free, "value"), _mean(free, "central")
    gap = "-"
    if value is not None and central:
        gap = f"{sign(metric) * (central - value) / abs(central):+.2%}"
    trivial = _mean(free, "best_trivial")
    names = sorted({r["trivial"] for r in free if r["trivial"]})
    cells = (
        case.replace("_", " "),
        f"{round(statistics.fmean(float(r['clients']) for r in free or rows)):,}",
        words(metric),
        *(_text(v) for v in (_mean(private, "value"), value, central)),
        gap,
        f"{_text(trivial)} ({' or '.join(n.replace('_', ' ') for n in names)})",
        _text(_mean(private, "seconds"), 0),
    )
    return f"| {' | '.join(cells)} |"


def _privacy_row(case: str, rows: Rows, epsilons: Sequence[str]) -> str:
    """The metric of a case at each ε, and the clients that would be needed."""
    cells = [case.replace("_", " "), words(rows[0]["metric"])]
    for target in (NO_PRIVACY, *epsilons):
        values = [float(r["value"]) for r in rows if r["target_epsilon"] == target]
        spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        cells.append(_text(statistics.fmean(values)) + spread if values else "-")
    private = [r for r in rows if r["target_epsilon"] != NO_PRIVACY]
    cells.append(f"{round(statistics.fmean(float(r['clients']) for r in private)):,}")
    for target in epsilons[:2]:
        needed = clients_needed(rows, target)
        cells.append("-" if needed is None else f"{'' if needed[1] else '≥ '}{needed[0]:,}")
    return f"| {' | '.join(cells)} |"


def _by_case(rows: Rows) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each case, in the order of the file."""
    cases: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        cases.setdefault(row["case"], []).append(row)
    return cases


def _epsilons(rows: Rows) -> list[str]:
    """The target ε of the private rows, rising."""
    targets = {row["target_epsilon"] for row in rows} - {NO_PRIVACY}
    return sorted(targets, key=float)


def _value_at(rows: Rows, epsilon: str) -> float:
    """The mean metric at an ε."""
    return statistics.fmean(float(r["value"]) for r in rows if r["target_epsilon"] == epsilon)


def _mean(rows: Rows, column: str) -> float | None:
    """The mean of a column over the rows that have it; None where none has."""
    values = [float(row[column]) for row in rows if row[column] not in ("", None)]
    return statistics.fmean(values) if values else None


def _text(value: float | None, digits: int = 4) -> str:
    """A value in the table."""
    if value is None:
        return "-"
    return f"{value:,.{digits}f}" if abs(value) < 100 or digits == 0 else f"{value:,.1f}"
