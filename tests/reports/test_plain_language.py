"""The page in plain language says what the report says, and nothing stronger."""

import math
from pathlib import Path
from typing import Any

import pytest

from fl_research.privacy import accounting
from fl_research.reports import plain_language, run_report
from tests.reports import example_run
from tests.reports.example_run import Example

SMALL = {"rounds": 4, "clients": 300}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """report.json of a small private run."""
    return _report(tmp_path_factory.mktemp("plain") / "run")


def _report(folder: Path, **settings: Any) -> dict[str, Any]:
    """report.json of another small run."""
    example_run.write(folder, Example(**(SMALL | settings)))
    return run_report.build(folder)


def _with(report: dict[str, Any], epsilon: float, **privacy: Any) -> dict[str, Any]:
    """The report as it would be at another ε."""
    changed = {
        "epsilon": epsilon,
        "odds_factor": factor if math.isfinite(factor := accounting.max_odds_factor(epsilon)) else
        None,
        "true_positive_rate_at_most": accounting.best_true_positive_rate(epsilon, 1e-5, 0.01),
        "epsilon_without_amplification": 3 * epsilon,
    }  # fmt: skip
    return report | {"privacy": report["privacy"] | changed | privacy}


def _answer(report: dict[str, Any], start: str) -> str:
    """The answer to a question, in one text."""
    found = [answer for question, answer in plain_language.render(report)
             if question.startswith(start)]  # fmt: skip
    assert len(found) == 1
    return "\n".join(part if isinstance(part, str) else "\n".join(part) for part in found[0])


def _text(report: dict[str, Any]) -> str:
    """All of the page."""
    return "\n".join(_answer(report, question) for question, _ in plain_language.render(report))


# p = e^ε / (1 + e^ε), by hand: 0.52498, 0.73106, 0.88080, 0.98201, 0.99331 = 148.41:1
@pytest.mark.parametrize(
    ("epsilon", "bet"),
    [(0.1, "53:47"), (1.0, "74:26"), (2.0, "89:11"), (4.0, "99:1"), (5.0, "148.5 to 1")],
)
def test_a_bet_of_even_odds_becomes_at_most_this(
    report: dict[str, Any], epsilon: float, bet: str
) -> None:
    text = _answer(_with(report, epsilon), "What does ε =")
    assert f"**they can at most bet {bet}**" in text
    assert "would have bet 50:50 that a given customer was in the training data" in text


def test_a_bet_is_never_rounded_in_our_favour(report: dict[str, Any]) -> None:
    """Against randomised response, which reaches the bound: the truth with e^ε / (1 + e^ε)."""
    for epsilon in (0.01, 0.3, 0.7, 1.5, 2.9, 4.4):
        text = _answer(_with(report, epsilon), "What does ε =")
        stated = int(text.partition("at most bet ")[2].partition(":")[0])
        truth, lie = math.exp(epsilon), 1.0
        sure = 100 * truth / (truth + lie)
        assert sure <= stated < sure + 1


@pytest.mark.parametrize("epsilon", [14.0, 60.0, 5000.0])
def test_a_huge_epsilon_promises_nothing(report: dict[str, Any], epsilon: float) -> None:
    changed = _with(report, epsilon)
    assert "does not rule out that they are as good as certain" in _answer(changed, "What does ε =")
    assert _answer(changed, "Is that").startswith("**Weak")
    assert "The promise lets them find 100 % of what was." in _answer(changed, "What does ε =")
    assert "at most bet" not in _text(changed)


@pytest.mark.parametrize(
    ("epsilon", "grade"),
    [
        (0.3, "**Strong.**"),
        (1.0, "**Strong.**"),
        (1.00001, "**Reasonable, on the stronger side.**"),
        (3.0, "**Reasonable, on the stronger side.**"),
        (3.00001, "**Reasonable by the common tiers, but on the weaker side.**"),
        (10.0, "**Reasonable by the common tiers, but on the weaker side.**"),
        (10.00001, "**Weak: mostly a formality.**"),
    ],
)
def test_the_grade_follows_the_published_tiers(
    report: dict[str, Any], epsilon: float, grade: str
) -> None:
    text = _answer(_with(report, epsilon), "Is that")
    assert text.startswith(grade)
    assert "ε up to 1 is strong, ε up to 10 is reasonable, ε above 10 is weak" in text


def test_the_grade_without_secret_cohorts_is_stated(report: dict[str, Any]) -> None:
    known = _with(report, 2.0, epsilon_without_amplification=28.1708)
    assert "the promise is ε = 28.18: weak" in _answer(known, "Is that")
    assert "ε = 28.18" in _answer(known, "What could go wrong?")
    same = _with(report, 2.0, epsilon_without_amplification=2.0)
    assert "Without that secret" not in _answer(same, "Is that")


def test_a_run_that_relies_on_no_secret_says_so(tmp_path: Path) -> None:
    text = _answer(_report(tmp_path / "full", sampling="full"), "Is that")
    assert "This relies on no secret but the noise" in text
    assert "Without that secret" not in text


def test_delta_is_one_in_so_many(report: dict[str, Any]) -> None:
    text = _answer(report, "What does ε =")
    assert "δ (delta) = 1e-5: with a probability of about 1 in 100,000 this limit may fail" in text
    uneven = _with(report, 1.0, delta=3e-6)
    assert "about 1 in 333,333 " in _answer(uneven, "What does ε =")
    assert "exception" not in _answer(_with(report, 1.0, delta=0.0), "What does ε =")


def test_the_page_names_all_that_is_not_protected(report: dict[str, Any]) -> None:
    text = _answer(report, "What is not protected?")
    for line in report["released"]["without_noise"]:
        assert line.rpartition(" (")[0] in text
    for line in report["not_covered"]:
        assert line in text
    assert ".csv" not in text


def test_the_page_has_the_numbers_of_the_report(report: dict[str, Any]) -> None:
    privacy = report["privacy"]
    question = plain_language.render(report)[2][0]
    stated = float(question.split(" ")[4])
    assert privacy["epsilon"] <= stated < privacy["epsilon"] * 1.001
    found = privacy["true_positive_rate_at_most"]
    shown = float(_answer(report, "What does ε =").partition("They find at most ")[2].split(" ")[0])
    assert 100 * found <= shown < 100.1 * found
    assert "300 clients" in _answer(report, "What was done?")
    assert "4 rounds" in _answer(report, "What was done?")
    assert f"{report['utility']['test']['auc']:.4f}" in _answer(report, "How good")
    assert f"{report['utility']['baselines']['central']['auc']:.4f}" in _answer(report, "How good")
    assert report["setting"]["trusted_party"] in _answer(report, "Whom")
    assert report["setting"]["attacker"] in _answer(report, "Whom")
    assert report["evidence"]["verify"] in _answer(report, "How can I")
    assert "It is not for the 30 validation clients and the 60 test clients" in _answer(
        report, "What is protected"
    )


def test_a_run_without_privacy_promises_nothing(tmp_path: Path) -> None:
    report = _report(tmp_path / "open", noise_multiplier=None)
    assert _answer(report, "What is protected").startswith("**Nothing and nobody.**")
    assert report["privacy"]["sentence"] in _answer(report, "What is protected")
    assert "There is no promise at all" in _answer(report, "Is that")
    assert "none was added" in _answer(report, "What was done?")
    text = _text(report)
    for word in ("ε = ", "δ", "at most bet", "The promise is for", "**Strong", "works out ε"):
        assert word not in text
    assert "the model of every round" in _answer(report, "What is not protected?")


def test_warnings_are_repeated_and_weaken_the_grade(tmp_path: Path) -> None:
    report = _report(tmp_path / "warned", noise_seed=3, schema_inferred=True)
    assert len(report["privacy"]["warnings"]) >= 2
    for warning in report["privacy"]["warnings"]:
        assert warning in _answer(report, "What could go wrong?")
    assert "**There are warnings**" in _answer(report, "Is that")


def test_a_failed_self_test_and_an_audit_above_the_claim_are_said(report: dict[str, Any]) -> None:
    test = report["evidence"]["noise_self_test"] | {"passed": False}
    audit = {"epsilon_lower": 7.21, "confidence": 0.95, "exceeds_claim": True}
    evidence = report["evidence"] | {"noise_self_test": test, "audit": audit}
    text = _answer(report | {"evidence": evidence}, "What could go wrong?")
    assert "Test of the noise: **FAILED**" in text
    assert "ε is at least 7.21, with 95 % confidence, **ABOVE THE CLAIM**" in text
    assert "passed" in _answer(report, "What could go wrong?")


def test_replaced_units_are_compared_with_another(tmp_path: Path) -> None:
    report = _report(tmp_path / "fixed", sampling="fixed_size")
    assert report["privacy"]["neighboring_relation"] == "replace_one"
    text = _answer(report, "What does ε =")
    assert "a given customer, and not a certain other one, was in the training data" in text


def test_a_run_without_a_release_can_be_told(tmp_path: Path) -> None:
    text = _answer(_report(tmp_path / "empty", rounds=0), "What was done?")
    assert "Training took 0 rounds. In each, a group of them worked out" in text
