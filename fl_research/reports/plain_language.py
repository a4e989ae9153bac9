"""Says what a report says in plain language, for a reader who is no statistician.

Questions that a works council, a customer or a compliance officer asks, each with its answer, made
from report.json alone. The numbers are the report's; only the odds of a bet are worked out here:
who would have bet 50:50 that somebody took part can be sure by at most e^ε / (1 + e^ε) after seeing
what was released. The grades follow the three tiers of Ponomareva et al. 2023, "How to DP-fy ML".
"""

import decimal
import math
import re
from collections.abc import Mapping
from typing import Any

from fl_research.metric_table import METRICS
from fl_research.privacy.rounding import rounded_up
from fl_research.reports import wording
from fl_research.reports.wording import NOT_STATED, count, number

Paragraph = str | list[str]
Answer = tuple[str, list[Paragraph]]

_TIERS = (
    "For orientation, Ponomareva et al. 2023 (How to DP-fy ML) sort such promises into three "
    "tiers: ε up to 1 is strong, ε up to 10 is reasonable, ε above 10 is weak."
)
_WORST_CASE = (
    "ε is a limit for the worst case: an attacker who knows nearly everything else. Known attacks "
    "mostly gain less, but only the limit is promised."
)
_MOST_ODDS = 1e6
_FILES = re.compile(r" \(([^()]*)\)$")


def render(report: Mapping[str, Any]) -> list[Answer]:
    """Returns the questions and their answers, in the order to be read.

    Args:
      report: The content of report.json.

    Returns:
      Pairs of a question and its paragraphs; a paragraph that is a list is a list of points. Text
      as in the Markdown report: two asterisks around what is bold, backquotes around code.
    """
    unit = report["privacy"]["unit"]
    meaning = (
        f"What does ε = {rounded_up(report['privacy']['epsilon'])} mean for {unit}?"
        if _promised(report)
        else f"What does that mean for {unit}?"
    )
    return [
        ("What was done?", _done(report)),
        ("What is protected, and for whom?", _protected(report)),
        (meaning, _meaning(report)),
        ("Is that a strong or a weak promise?", _strength(report)),
        ("What is not protected?", _not_protected(report)),
        ("Whom must you trust?", _trust(report)),
        ("How good is the model?", _quality(report)),
        ("What could go wrong?", _risks(report)),
        ("How can I check it?", _checking(report)),
    ]


def _promised(report: Mapping[str, Any]) -> bool:
    """Whether there is a finite ε."""
    return bool(report["privacy"]["guarantee"]) and report["privacy"]["epsilon"] is not None


def _given(unit: str) -> str:
    """A unit as somebody in particular."""
    return unit.replace("one ", "a given ", 1)


def _done(report: Mapping[str, Any]) -> list[Paragraph]:
    """Data, rounds, noise."""
    data, run = report["data"], report["run"]
    mean = report["mechanism"]["cohort_size"]["mean"]
    group = "a group of them"
    if mean is not None:
        group = f"a group of them ({number(round(float(mean)))} on average)"
    noise = (
        "The records of nobody were protected by random noise: none was added."
        if not report["privacy"]["guarantee"]
        else f"The influence of {report['privacy']['unit']} on each step was limited, and random "
        "noise was added on purpose, to hide whether "
        f"{_given(report['privacy']['unit'])} was in the data. How well it hides that, ε says."
    )
    return [
        f"A computer model was trained for: {report['title'].replace('_', ' ')}. The data "
        f"({_stated(data['dataset'])}; terms of use: {_stated(data['terms'])}) hold "
        f"{count(data['examples'], 'record')} of {count(data['clients'], 'client')}. A client is "
        f"a participant whose records stay together; "
        f"{number(data['split'].get('train_clients'))} of them were used for training.",
        f"Training took {count(run['rounds'], 'round')}. In each, {group} worked out from their "
        "own records how the model should change, and these changes were combined into the next "
        "model.",
        noise,
        wording.sentence_case(report["setting"]["simulation"]),
    ]


def _stated(value: Any) -> str:
    """A value of a record in words."""
    return NOT_STATED if value is None else str(value)


def _protected(report: Mapping[str, Any]) -> list[Paragraph]:
    """The unit, the training clients, and the releases with noise."""
    unit, split = report["unit"], report["data"]["split"]
    if not _promised(report):
        return [
            f"**Nothing and nobody.** {report['privacy']['sentence']}",
            "What was released may show facts about a single participant, and nothing in this "
            "report limits how many.",
        ]
    others = [
        f"{number(split[name])} {name.removesuffix('_clients')} clients"
        for name in ("validation_clients", "test_clients")
        if split.get(name)
    ]
    limits = [f"The promise is for the {number(split['train_clients'])} training clients."]
    if report["data"]["test_clients_train"]:
        limits.append(
            "It is not for those of their records that measured how good the model is: figures on "
            "them were released without noise."
        )
    elif others:
        limits.append(
            f"It is not for the {' and the '.join(others)}, whose records measured how good the "
            "model is."
        )
    whole = ", as a whole" if unit["protected"] == "client" else ", each on its own"
    return [
        f"What is protected is **{unit['unit']}**{whole}. It contains {unit['contains']}. "
        f"Whether {_given(unit['unit'])} was in the training data or not can change what was "
        "released with noise only within a limit. The next answer says how narrow it is.",
        "The promise is about these releases:",
        [_without_files(line) for line in report["released"]["with_noise"]],
        " ".join(limits),
        f"A person can be more than one unit. {unit['several_clients']}",
    ]


def _meaning(report: Mapping[str, Any]) -> list[Paragraph]:
    """ε as a bet, δ as an exception, and the best test of membership."""
    privacy = report["privacy"]
    if not _promised(report):
        return [
            "There is no ε (epsilon), the number that would say how much an attacker can learn at "
            "most. An attacker who sees what was released might become certain that "
            f"{_given(privacy['unit'])} was in the training data, and of facts about them."
        ]
    return [
        "ε (epsilon) says how much what was released can tell about "
        f"{privacy['unit']}. Zero would be nothing at all; the larger ε, the weaker the promise.",
        _bet(privacy),
        *_exception(privacy),
        _picking(privacy),
    ]


def _bet(privacy: Mapping[str, Any]) -> str:
    """What a bet of 50:50 can become at most."""
    other = ", and not a certain other one,"
    replaced = other if privacy["neighboring_relation"] == "replace_one" else ""
    claim = f"{_given(privacy['unit'])}{replaced} was in the training data"
    start = f"Suppose somebody would have bet 50:50 that {claim}. After seeing all these releases, "
    odds = privacy.get("odds_factor")
    if odds is None or odds > _MOST_ODDS:
        return (
            f"{start}the promise still allows them to bet more than a million to one. **So it does "
            "not rule out that they are as good as certain.**"
        )
    sure = decimal.Decimal(rounded_up(100 * odds / (1 + odds), 2))
    most = f"{sure}:{100 - sure}" if sure < 100 else f"{rounded_up(odds)} to 1"
    share = f" (to be at most {sure} % sure)" if sure < 100 else " (more than 99 % sure)"
    return f"{start}**they can at most bet {most}**{share}, or as much against it."


def _picking(privacy: Mapping[str, Any]) -> str:
    """What a test of membership can find at most."""
    wrong = wording.percent_up(privacy["false_positive_rate"])
    found = wording.percent_up(privacy["true_positive_rate_at_most"])
    most = "They find at most" if found != "100 %" else "The promise lets them find"
    return (
        "Put another way: somebody tries to pick out what was in the training data, and may "
        f"wrongly pick {wrong} of what was not. {most} {found} of what was. Blind guessing finds "
        f"{wrong}."
    )


def _exception(privacy: Mapping[str, Any]) -> list[str]:
    """What δ means; nothing where δ is zero."""
    delta = privacy["delta"]
    if not delta:
        return []
    once = math.floor(1 / decimal.Decimal(repr(float(delta))))
    return [
        f"There is an exception, δ (delta) = {wording.probability(delta)}: with a probability of "
        f"about 1 in {number(once)} this limit may fail."
    ]


def _strength(report: Mapping[str, Any]) -> list[Paragraph]:
    """A grade by the tiers, and on what it rests."""
    privacy = report["privacy"]
    if not _promised(report):
        return ["There is no promise at all, neither strong nor weak.", _TIERS]
    lines: list[Paragraph] = [_grade(_stated_epsilon(report)), _TIERS, _WORST_CASE]
    if selected := report["selection"]:
        lines.insert(0, str(selected["statement"]))
    lines += _reliance(privacy)
    if privacy["warnings"]:
        lines.append(
            "**There are warnings** (see What could go wrong). Read them before relying on it."
        )
    return lines


def _stated_epsilon(report: Mapping[str, Any]) -> float:
    """The ε that may be stated: of the whole selection, where a search chose this run."""
    selected = report["selection"]
    if selected and selected["chosen"]:
        return math.inf if selected["epsilon"] is None else float(selected["epsilon"])
    return float(report["privacy"]["epsilon"])


def _reliance(privacy: Mapping[str, Any]) -> list[str]:
    """The report's own line on what has to stay secret, with the grade of the ε without it."""
    lines = [line for line in privacy["plain_words"] if line.startswith("This relies on")]
    known = privacy["epsilon_without_amplification"]
    if known is not None and known > privacy["epsilon"]:
        lines.append(f"Without that secret the promise is ε = {rounded_up(known)}: {_tier(known)}.")
    return lines


def _tier(epsilon: float) -> str:
    """The tier of an ε, in a word."""
    return "strong" if epsilon <= 1 else "reasonable" if epsilon <= 10 else "weak"


def _grade(epsilon: float) -> str:
    """The grade of an ε, in a sentence or two."""
    stated = f"ε = {rounded_up(epsilon)}"
    if epsilon <= 1:
        return f"**Strong.** {stated}: even the best informed attacker gains little."
    if epsilon <= 3:
        return (
            f"**Reasonable, on the stronger side.** {stated} is in the range of 1 to 3, which is "
            "good practice; larger values are in use too."
        )
    if epsilon <= 10:
        return (
            f"**Reasonable by the common tiers, but on the weaker side.** {stated}: the limit "
            "still has a meaning, yet in the worst case an attacker can become very sure."
        )
    return (
        f"**Weak: mostly a formality.** {stated}: the limit alone does not protect anybody. Do not "
        "rely on it without other safeguards."
    )


def _not_protected(report: Mapping[str, Any]) -> list[Paragraph]:
    """Everything that was released without noise, and the limits of the promise."""
    return [
        "These were released **without noise**. No ε covers them:",
        [_without_files(line) for line in report["released"]["without_noise"]],
        "Nor does the promise speak of the following:"
        if report["privacy"]["guarantee"]
        else "A promise would not have spoken of the following either:",
        list(report["not_covered"]),
    ]


def _without_files(line: str) -> str:
    """A line without the names of files in brackets at its end; they stand in the report."""
    match = _FILES.search(line)
    if match and all(
        "/" in part or "." in part or part == "this report" for part in match[1].split(", ")
    ):
        return line[: match.start()]
    return line


def _trust(report: Mapping[str, Any]) -> list[Paragraph]:
    """The trusted party, and the attacker against whom the promise holds."""
    setting = report["setting"]
    lines: list[Paragraph] = [setting["trusted_party"]]
    if _promised(report):
        lines.append(f"The promise is made against this attacker: {setting['attacker']}")
    return lines


def _quality(report: Mapping[str, Any]) -> list[Paragraph]:
    """The primary metric beside the baselines."""
    utility = report["utility"]
    primary = utility["primary_metric"]
    meaning = METRICS[primary].meaning if primary in METRICS else ""
    scale = f" ({meaning})" if meaning else ""
    lines: list[Paragraph] = [
        f"On records that were never used for training, its {wording.metric(primary)}{scale} is "
        f"**{number(utility['test'].get(primary))}**."
    ]
    if not utility["baselines"]:
        return [*lines, "It was not compared with other models."]
    return [
        *lines,
        "For comparison:",
        [
            f"{wording.baseline(name)}: {number(values.get(primary))}"
            for name, values in utility["baselines"].items()
        ],
    ]


def _risks(report: Mapping[str, Any]) -> list[Paragraph]:
    """Warnings first, then what the promise rests on."""
    privacy = report["privacy"]
    warnings = list(privacy["warnings"])
    lines: list[Paragraph] = []
    if warnings:
        lines += ["**Warnings of this report:**", warnings]
    if not privacy["guarantee"]:
        return [
            *lines,
            "Somebody who gets hold of what was released can try to find out who took part, and "
            "facts about them. Nothing here limits how well that works.",
        ]
    points = []
    if (known := privacy["epsilon_without_amplification"]) and known > (
        privacy["epsilon"] or known
    ):
        points.append(
            "What was drawn by lot for each step does not stay secret. The promise is then ε = "
            f"{rounded_up(known)}."
        )
    points += [
        "What was released without noise gives away what the noise was meant to hide.",
        "The same records are used again. Each further use adds to ε.",
        "Somebody has records in several clients, and is then protected less.",
        f"The program has a fault. Test of the noise: {_self_test(report)}. An attack on the run "
        f"as a test (audit): {_audit(report)}.",
    ]
    return [*lines, "The promise is weaker, or void, if:", points]


def _self_test(report: Mapping[str, Any]) -> str:
    """Outcome of the noise self-test in a word."""
    test = report["evidence"]["noise_self_test"]
    if test is None:
        return "not run"
    return "passed" if test["passed"] else "**FAILED**"


def _audit(report: Mapping[str, Any]) -> str:
    """Outcome of the audit: what an attack reached, beside the claim."""
    audit = report["evidence"]["audit"]
    if audit is None:
        return "not run"
    found = (
        f"it shows that ε is at least {audit['epsilon_lower']:.3g}, with "
        f"{100 * audit['confidence']:g} % confidence"
    )
    return f"{found}, **ABOVE THE CLAIM**" if audit["exceeds_claim"] else found


def _checking(report: Mapping[str, Any]) -> list[Paragraph]:
    """The command, what it does, and its limits."""
    evidence = report["evidence"]
    done = "builds this report again from the records and compares"
    if _promised(report):
        done = f"works out ε again from the run's log of releases, {done}"
    return [
        "Ask for the folder of the run and let somebody with the program run this command, with "
        f"FOLDER the folder: `{evidence['verify']}`",
        f"It {done}. It needs neither the training data nor the network.",
        evidence["limits"],
    ]
