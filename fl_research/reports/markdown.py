"""Renders report.json as report.md: the sentence, the setting and the unit first.

A function of report.json alone. Upper bounds are printed rounded up; the full values are in
report.json.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fl_research.privacy.rounding import rounded_up
from fl_research.reports import wording
from fl_research.reports.wording import NOT_STATED, number

Lines = list[str]


def render(report: Mapping[str, Any]) -> str:
    """Renders the report as Markdown.

    Args:
      report: The content of report.json.
    """
    sections = [
        _head(report),
        _setting(report),
        _unit(report),
        _adjacency(report),
        _released(report),
        _not_covered(report),
        _mechanism(report),
        _sampling(report),
        _accounting(report),
        _evidence(report),
        _seeds(report),
        _utility(report),
        _data(report),
        _repeat(report),
    ]
    lines = []
    for line in (line for section in sections for line in [*section, ""]):
        lines += [line, ""] if line.startswith("#") else [line]
    return "\n".join(lines)


def _head(report: Mapping[str, Any]) -> Lines:
    """Title, sentence, plain words, warnings, and the figures at a glance."""
    privacy, run, utility = report["privacy"], report["run"], report["utility"]
    primary = utility["primary_metric"]
    lines = [
        f"# Privacy report: {wording.sentence_case(report['title'].replace('_', ' '))}",
        "## 1. The claim",
        f"> **{privacy['sentence']}**",
        "",
        *_bullets(privacy["plain_words"]),
        *_warnings(privacy["warnings"]),
    ]
    rows = [
        ("ε", "none" if privacy["epsilon"] is None else rounded_up(privacy["epsilon"])),
        ("δ", "none" if privacy["delta"] is None else wording.probability(privacy["delta"])),
        ("Unit", privacy["unit"]),
        (f"Test {wording.metric(primary)}", number(utility["test"].get(primary))),
        ("Clients, examples", f"{report['data']['clients']:,}, {report['data']['examples']:,}"),
        ("Rounds", f"{run['rounds']:,} of {run['rounds_planned']:,} planned"),
        ("Status", run["status"].replace("_", " ")),
        ("Time", wording.seconds(run["seconds"])),
    ]
    return [*lines, "", *_table(("At a glance", ""), rows)]


def _warnings(warnings: Sequence[str]) -> Lines:
    """The warnings, set apart."""
    return ["", *(f"**Warning:** {warning}\n" for warning in warnings)] if warnings else []


def _setting(report: Mapping[str, Any]) -> Lines:
    """The model of trust: who is trusted with what, and what the attacker sees."""
    setting = report["setting"]
    return [
        "## 2. Setting",
        f"- Model of trust: {setting['model']}.",
        f"- Trusted: {setting['trusted_party']}",
        f"- Attacker: {setting['attacker']}",
        f"- Simulation: {setting['simulation']}",
    ]


def _unit(report: Mapping[str, Any]) -> Lines:
    """Whom the guarantee is for, and how much one unit can contribute."""
    unit = report["unit"]
    return [
        "## 3. Unit and contribution bound",
        f"- Unit: **{unit['unit']}**. It contains {unit['contains']}.",
        *(f"- Bound on {line}." for line in unit["bound"]),
        f"- Largest client: {wording.count(unit['largest_client_rows'], 'row')}.",
        f"- Several clients: {unit['several_clients']}",
    ]


def _adjacency(report: Mapping[str, Any]) -> Lines:
    """Which data sets are compared, and how far the noised sum can differ between two."""
    adjacency = report["adjacency"]
    lines = [
        "## 4. Adjacency",
        f"- Relation: **{wording.relation(adjacency['relation'])}**: {adjacency['meaning']}.",
    ]
    if adjacency["sensitivity"] is None:
        return [*lines, "- L2 sensitivity: unbounded, nothing is clipped."]
    return [
        *lines,
        f"- L2 sensitivity: {number(adjacency['sensitivity'])}, which is "
        f"{number(adjacency['sensitivity_in_clips'])} times the clip norm "
        f"({adjacency['sensitivity_meaning']}).",
    ]


def _released(report: Mapping[str, Any]) -> Lines:
    """What left the run: what ε is about, and what it is not about."""
    released = report["released"]
    with_noise = released["with_noise"] or ["nothing"]
    return [
        "## 5. What was released",
        "With noise; ε is about these:",
        *_bullets(with_noise),
        "",
        "Without noise; **ε does not cover these**:",
        *_bullets(released["without_noise"]),
    ]


def _not_covered(report: Mapping[str, Any]) -> Lines:
    """The limits of the claim, and what was declared public."""
    public = report["declared_public"] or [NOT_STATED]
    return [
        "## 6. What the guarantee does not cover",
        *_bullets(report["not_covered"]),
        "",
        "Declared public:",
        *_bullets(public),
    ]


def _mechanism(report: Mapping[str, Any]) -> Lines:
    """The query with its clip and noise, as planned and as released."""
    mechanism = report["mechanism"]
    sizes = mechanism["cohort_size"]
    realised = NOT_STATED
    if sizes["mean"] is not None:
        realised = (
            f"mean {number(float(sizes['mean']))}, from {number(sizes['lowest'])} to "
            f"{number(sizes['highest'])}"
        )
    rows = [
        ("Query", mechanism["name"].replace("_", " ")),
        ("Clip norm", _span(mechanism["clip_norm"], "no clip")),
        (
            "Noise multiplier (of all noise of a round, / clip norm)",
            number(mechanism["noise_multiplier"]),
        ),
        (
            "Least noise multiplier of any release",
            number(mechanism["least_noise_multiplier_released"]),
        ),
        ("Noise, standard deviation of the sum", _span(mechanism["noise_stddev_of_sum"], "none")),
        ("Noise, standard deviation of the mean", _span(mechanism["noise_stddev_of_mean"], "none")),
        ("Expected cohort size", number(mechanism["expected_cohort_size"])),
        ("Realised cohort size", realised),
        *(
            (wording.sentence_case(name.replace("_", " ")), _value(value))
            for name, value in mechanism["parameters"].items()
            if name not in ("clip_norm", "noise_multiplier")
        ),
    ]
    references = [f"{reference}." for reference in mechanism["references"]]
    return ["## 7. Mechanism", *_table(("Setting", "Value"), rows), "", *_bullets(references)]


def _span(values: Mapping[str, Any], missing: str) -> str:
    """A value that is the same in all rounds, or its first and last."""
    first, last = values["first"], values["last"]
    if first is None and last is None:
        return missing
    if first == last:
        return number(first)
    return f"{number(first)} in the first round, {number(last)} in the last"


def _sampling(report: Mapping[str, Any]) -> Lines:
    """How cohorts were drawn, and how often clients took part."""
    sampling = report["sampling"]
    rate = sampling.get("sampling_rate")
    size = sampling.get("cohort_size")
    separation = sampling["smallest_separation"]
    rows = [
        ("Sampler that ran", f"{sampling['name'].replace('_', ' ')}: {sampling['meaning']}"),
        ("Population", number(sampling["population"])),
        *([("Sampling rate", f"{rate:.6g}")] if rate is not None else []),
        *([("Cohort size", number(size))] if size is not None else []),
        ("Expected cohort size", number(sampling["expected_cohort_size"])),
        ("Seed", sampling["seed_policy"]),
        ("Highest number of rounds of any client", number(sampling["highest_participation"])),
        (
            "Smallest separation of two rounds of one client",
            "no client took part twice"
            if separation is None
            else wording.count(separation, "round"),
        ),
    ]
    return ["## 8. Sampling", *_table(("Setting", "Value"), rows)]


def _accounting(report: Mapping[str, Any]) -> Lines:
    """ε by every accountant side by side, and which one is the claim."""
    accounting = report["accounting"]
    lines = ["## 9. Accounting"]
    if accounting["claim"] is None:
        return [*lines, "No noise was added: no accountant gives a finite ε."]
    rows = [
        (
            row["name"],
            wording.accountant(row["accountant"]) if row["accountant"] else "",
            "does not apply" if row["epsilon"] is None else rounded_up(row["epsilon"]),
        )
        for row in accounting["side_by_side"]
    ]
    zcdp = accounting["zero_concentrated"]
    return [
        *lines,
        *_table(("Releases", "Accountant", "ε (rounded up)"), rows),
        "",
        f"The claim is {wording.accountant(accounting['claim'])}: {accounting['reason']}.",
        "",
        *(
            f"- {wording.accountant(name)}: {text}."
            for name, text in accounting["settings"].items()
        ),
        f"- zCDP: rho = {rounded_up(zcdp['rho'])}, for {zcdp['applies_to']}.",
        "",
        f"Projection for a larger population: {accounting['projection']}.",
    ]


def _evidence(report: Mapping[str, Any]) -> Lines:
    """Ledger, noise self-test and audit, and the command that checks them."""
    evidence = report["evidence"]
    ledger, test = evidence["ledger"], evidence["noise_self_test"]
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
        ("Audit (lower bound of ε)", evidence["audit"]),
    ]
    return [
        "## 10. Evidence",
        *_table(("Evidence", "Value"), rows),
        "",
        "Check this report against the ledger, with FOLDER the folder that holds it:",
        "",
        f"    {evidence['verify']}",
        "",
        evidence["limits"],
    ]


def _seeds(report: Mapping[str, Any]) -> Lines:
    """What can be repeated, and what has to stay secret."""
    return ["## 11. Seeds", *_bullets(report["seeds"]["statements"])]


def _utility(report: Mapping[str, Any]) -> Lines:
    """What the model is worth beside the baselines, over all and by client, with the plots."""
    utility = report["utility"]
    names = list(utility["test"])
    columns = ("", *(wording.metric(name) for name in names))
    rows = [("**this run**", *(number(utility["test"][name]) for name in names))]
    for name, values in utility["baselines"].items():
        rows.append((wording.baseline(name), *(number(values.get(metric)) for metric in names)))
    lines = [
        "## 12. Utility at this ε",
        f"Primary metric: **{wording.metric(utility['primary_metric'])}**, on "
        f"{utility['split']} clients that were never trained on.",
        "",
        *_table(columns, rows),
        "",
    ]
    if not utility["baselines"]:
        lines += ["Baselines: not run.", ""]
    lines += [
        *_table(
            ("Over test clients", "10th percentile", "50th", "90th", "clients"),
            [_percentiles(name, values) for name, values in utility["per_client"].items()],
        ),
    ]
    for plot in report["plots"]:
        lines += ["", f"![{plot['title']}]({plot['file']})"]
    return lines


def _percentiles(name: str, values: Mapping[str, Any] | None) -> tuple[str, ...]:
    """A row of the per-client table."""
    if values is None:
        return (wording.metric(name), "not defined for any client", "", "", "0")
    return (
        wording.metric(name),
        *(number(values[key]) for key in ("p10", "p50", "p90", "clients")),
    )


def _data(report: Mapping[str, Any]) -> Lines:
    """Data and model."""
    data = report["data"]
    split = ", ".join(
        f"{name.removesuffix('_clients')} {count:,}" for name, count in data["split"].items()
    )
    rows = [
        ("Data set", _value(data["dataset"])),
        ("Source", _value(data["source"])),
        ("Terms of use", _value(data["terms"])),
        ("Clients", f"{data['clients']:,} ({split})"),
        ("Examples, features", f"{data['examples']:,}, {number(data['features'])}"),
        ("Schema", "inferred from the data" if data["schema_inferred"] else "declared"),
        *(("Note", note) for note in data["notes"]),
        *((f"Cleaning: {rule}", number(count)) for rule, count in data["cleaning"].items()),
        *(
            (wording.sentence_case(name.replace("_", " ")), _value(value))
            for name, value in report["model"].items()
        ),
    ]
    return ["## Data and model", *_table(("", ""), rows)]


def _repeat(report: Mapping[str, Any]) -> Lines:
    """Everything that is needed to run it again."""
    repeat = report["repeat"]
    rows = [
        ("Flags", f"`{repeat['flag_file']}` in this folder, works as `--flagfile`"),
        ("Data checksum (sha256)", _value(repeat["data_sha256"])),
        ("git commit", _value(repeat["git_commit"])),
        ("Versions", _value(repeat["versions"])),
        ("Machine", _value(repeat["machine"])),
    ]
    return [
        "## 13. How to repeat it",
        f"    {repeat['command']}",
        "",
        *_table(("", ""), rows),
    ]


def _value(value: Any) -> str:
    """Any value of a record in one line."""
    if value is None:
        return NOT_STATED
    if isinstance(value, Mapping):
        parts = [f"{n} {'none' if item is None else _value(item)}" for n, item in value.items()]
        return ", ".join(parts) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value)) or "none"
    return str(value)


def _bullets(lines: Iterable[str]) -> Lines:
    """A list."""
    return [f"- {line}" for line in lines]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Lines:
    """A Markdown table; bars in cells are escaped."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], f"|{'---|' * len(head)}", *lines[1:]]
