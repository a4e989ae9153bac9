"""Renders report.json as report.md: the sentence, the setting and the unit first.

A function of report.json alone. Upper bounds are printed rounded up; the full values are in
report.json.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fl_research.privacy.rounding import rounded_up
from fl_research.reports import wording
from fl_research.reports.findings import registry as findings
from fl_research.reports.markdown_accounting import accounting, evidence
from fl_research.reports.markdown_blocks import Lines, bullets, table, value_text
from fl_research.reports.wording import NOT_STATED, number


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
        accounting(report),
        evidence(report),
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
        *_selection(report["selection"]),
        *bullets(privacy["plain_words"]),
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
    return [*lines, "", *table(("At a glance", ""), rows)]


def _selection(selected: Mapping[str, Any] | None) -> Lines:
    """ε of the hyperparameter search that chose this run."""
    if selected is None:
        return []
    lines = [f"**Hyperparameter search.** {selected['statement']}", ""]
    if selected["chosen"]:
        lines += [f"Accounted by {selected['accounting']}.", ""]
    return lines


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
    lines += [
        f"- {adjacency['norm']} sensitivity: {number(adjacency['sensitivity'])}, which is "
        f"{number(adjacency['sensitivity_in_clips'])} times the clip norm "
        f"({adjacency['sensitivity_meaning']}).",
    ]
    squared = adjacency["squared_sensitivity_of_all_rounds"]
    if squared is not None:
        lines.append(
            "- The noise is correlated over rounds: what one client can move all planned rounds "
            f"together by, relative to the fresh noise, is √{number(squared)} clip norms."
        )
    return lines


def _released(report: Mapping[str, Any]) -> Lines:
    """What left the run: what ε is about, and what it is not about."""
    released = report["released"]
    with_noise = released["with_noise"] or ["nothing"]
    return [
        "## 5. What was released",
        "With noise; ε is about these:",
        *bullets(with_noise),
        "",
        "Without noise; **ε does not cover these**:",
        *bullets(released["without_noise"]),
    ]


def _not_covered(report: Mapping[str, Any]) -> Lines:
    """The limits of the claim, and what was declared public."""
    public = report["declared_public"] or [NOT_STATED]
    return [
        "## 6. What the guarantee does not cover",
        *bullets(report["not_covered"]),
        "",
        "Declared public:",
        *bullets(public),
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
            (wording.sentence_case(name.replace("_", " ")), value_text(value))
            for name, value in mechanism["parameters"].items()
            if name not in ("clip_norm", "noise_multiplier")
        ),
    ]
    if metrics := mechanism["private_metrics"]:
        rows.append(("Private metrics", value_text(metrics)))
    references = [f"{reference}." for reference in mechanism["references"]]
    return ["## 7. Mechanism", *table(("Setting", "Value"), rows), "", *bullets(references)]


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
        *(
            [("Probability in its group's turn", f"{sampling['turn_rate']:.6g}")]
            if sampling["turn_rate"] is not None
            else []
        ),
        ("Seed", sampling["seed_policy"]),
        ("Most rounds that a client can be in", number(sampling["most_participations"])),
        ("Highest number of rounds of any client", number(sampling["highest_participation"])),
        (
            "Smallest separation of two rounds of one client",
            "no client took part twice"
            if separation is None
            else wording.count(separation, "round"),
        ),
    ]
    return ["## 8. Sampling", *table(("Setting", "Value"), rows)]


def _seeds(report: Mapping[str, Any]) -> Lines:
    """What can be repeated, and what has to stay secret."""
    return ["## 11. Seeds", *bullets(report["seeds"]["statements"])]


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
        f"{utility['evaluated_on']}.",
        "",
        *table(columns, rows),
        "",
    ]
    if not utility["baselines"]:
        lines += ["Baselines: not run.", ""]
    lines += [
        *table(
            ("Over test clients", "10th percentile", "50th", "90th", "clients"),
            [_percentiles(name, values) for name, values in utility["per_client"].items()],
        ),
    ]
    for plot in report["plots"]:
        if plot["file"] != "plots/epsilon_curve.png":  # Shown under Accounting.
            lines += ["", f"![{plot['title']}]({plot['file']})"]
    for name, finding in utility["findings"].items():
        if found := findings.load(name).lines(finding):
            lines += ["", f"### {findings.load(name).TITLE}", "", *found]
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
        ("Data set", value_text(data["dataset"])),
        ("Source", value_text(data["source"])),
        ("Terms of use", value_text(data["terms"])),
        ("Clients", f"{data['clients']:,} ({split})"),
        ("Examples, features", f"{data['examples']:,}, {number(data['features'])}"),
        ("Schema", "inferred from the data" if data["schema_inferred"] else "declared"),
        *(("Note", note) for note in data["notes"]),
        *((f"Cleaning: {rule}", number(count)) for rule, count in data["cleaning"].items()),
        *(
            (wording.sentence_case(name.replace("_", " ")), value_text(value))
            for name, value in report["model"].items()
        ),
    ]
    return ["## Data and model", *table(("", ""), rows)]


def _repeat(report: Mapping[str, Any]) -> Lines:
    """Everything that is needed to run it again."""
    repeat = report["repeat"]
    rows = [
        ("Flags", f"`{repeat['flag_file']}` in this folder, works as `--flagfile`"),
        ("Data checksum (sha256)", value_text(repeat["data_sha256"])),
        ("git commit", value_text(repeat["git_commit"])),
        ("Versions", value_text(repeat["versions"])),
        ("Machine", value_text(repeat["machine"])),
    ]
    return [
        "## 13. How to repeat it",
        f"    {repeat['command']}",
        "",
        *table(("", ""), rows),
    ]
