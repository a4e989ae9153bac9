"""The report states every item that a reader needs, and its ε is the accounting's."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dp_accounting
import pytest
from dp_accounting import rdp

from fl_research.errors import InputError
from fl_research.privacy import ledger, spending
from fl_research.reports import run_records, run_report
from tests.reports import example_run
from tests.reports.example_run import Example

SMALL = {"rounds": 4, "clients": 300}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 100 releases with its report; one round repeated, one failed."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    example_run.write(folder, Example(repeated_round=40, failed_round=70))
    run_report.write(folder)
    return folder


@pytest.fixture(scope="module")
def report(run: Path) -> dict[str, Any]:
    """report.json of that run."""
    return json.loads((run / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def text(run: Path) -> str:
    """report.md of that run."""
    return (run / "report.md").read_text(encoding="utf-8")


def _made(folder: Path, **settings: Any) -> tuple[dict[str, Any], str]:
    """report.json and report.md of another, small run."""
    example_run.write(folder, Example(**(SMALL | settings)))
    return run_report.write(folder), (folder / "report.md").read_text(encoding="utf-8")


def _changed(run: Path, target: Path, name: str, path: str, value: Any) -> Path:
    """A copy of the run's records in which one value of a JSON record is another (or gone)."""
    shutil.copytree(run, target)
    values = json.loads((target / name).read_text(encoding="utf-8"))
    *parents, last = path.split(".")
    record = values
    for parent in parents:
        record = record[parent]
    if value is None:
        del record[last]
    else:
        record[last] = value
    (target / name).write_text(json.dumps(values), encoding="utf-8")
    return target


# One entry for each item of what an ε report must state, in that order.
ITEMS = {
    "1 sentence": (
        "(ε, δ)-DP with ε = ",
        "δ = 1e-5, for one customer, under add-or-remove-one, for the release of the model",
        "by at most the factor e^ε = ",
        "wrongly names 1 % of the others finds at most ",
    ),
    "2 setting": ("Model of trust: central", "Trusted: The party", "simulated on one party"),
    "3 unit": (
        "Unit: **one customer**. It contains all rows of one customer",
        "rows: at most 1 a client",
        "L2 norm of a client's whole update is clipped",
        "Largest client: 1 row.",
        "Several clients:",
    ),
    "4 adjacency": ("Relation: **add-or-remove-one**", "L2 sensitivity: 1, which is 1 times"),
    "5 released": (
        "the model of every round",
        "training loss of every round",
        "cohort size and number of training examples",
        "validation metrics every 10 rounds, from the records of 600 validation clients",
        "did not decide when training ended",
        "test metrics, their percentiles and histograms",
        "metrics of the baselines",
        "counts of the cleaning rules",
        "checksum of the data",
    ),
    "6 not covered": (
        "no bounds or categories were read off",
        "Cleaning rules and their thresholds",
        "Vocabularies",
        "Choice of hyperparameters",
        "chosen is not stated",
        "Validation and test clients: they get no guarantee",
        "Other runs on the same records",
        "Declared public:\n- column bounds and categories of the schema",
    ),
    "7 mechanism": (
        "| Query | gaussian |",
        "| Clip norm | 1 |",
        "| Noise multiplier (of all noise of a round, / clip norm) | 1 |",
        "| Noise, standard deviation of the sum | 1 |",
        "| Noise, standard deviation of the mean | 0.0024 |",
        "| Expected cohort size | 420 |",
        "| Realised cohort size | mean 4",
    ),
    "8 sampling": (
        "| Sampler that ran | poisson: ",
        "| Population | 4,200 |",
        "| Sampling rate | 0.1 |",
        "| Seed | drawn anew",
        "| Highest number of rounds of any client | 2",
        "| Smallest separation of two rounds of one client | 1 round |",
    ),
    "9 accounting": (
        "| as run (the claim) | ",
        "| as run | RDP |",
        "| as run | RDP, classic conversion |",
        "| without amplification by sampling (who was drawn is known) | ",
        "The claim is ",
        "- PLD: dp-accounting ",
        "- RDP: dp-accounting ",
        "orders 1.1 to",
        "zCDP: rho = ",
        "- Gaussian DP: not exact here",
        "another record changes its client's update by up to twice the clip norm |",
        "| one person | none | not stated how many clients a person can be in",
        "| 1e-6 | ",
        "![ε over δ of the whole run](plots/epsilon_curve.png)",
        "Projection for a larger population: not asked for",
    ),
    "10 evidence": (
        "| Releases in the ledger | 101 |",
        "| of these, repeated rounds (counted again) | 1 |",
        "| Rounds started without a release (not counted) | 1 |",
        "python -m experiments.verify_report --run=FOLDER",
        "| Noise self-test | passed: declared standard deviation 1, measured ",
        "| Audit (lower bound of ε) | not run (--audit_canaries=100 runs it) |",
    ),
    "11 seeds": (
        "--seed=0 fixes the split",
        "Noise: fresh entropy",
        "drawn from 128 random bits that stay in cohort_seed.secret",
        "The noise generator is not cryptographic",
        "floating-point arithmetic (Mironov 2012) are out of scope",
    ),
    "12 utility": (
        "Primary metric: **AUC**",
        "10th percentile | 50th | 90th",
        "| same model, central | 0.",
        "| trivial | 0.5000 |",
        "(plots/progress.png)",
        "(plots/roc_and_calibration.png)",
        "(plots/clients.png)",
    ),
    "13 repeat": (
        "python -m experiments.churn_prevention --rounds=100 --seed=0",
        "`flags.txt`",
        "| Note | made for a test |",
        "16320c9c1ec72448db59aa0a26a0b95401046bef5d02fd3aeb906448e3055e91",
        "dp-accounting 0.4.3",
        "1f3870be274f6c49b3e31a0c6728957f00000000",
    ),
}


@pytest.mark.parametrize("item", ITEMS)
def test_every_item_is_stated(text: str, item: str) -> None:
    for phrase in ITEMS[item]:
        assert phrase in text


def test_sentence_setting_and_unit_come_first(text: str) -> None:
    heads = re.findall(r"^## (\d+)\.", text, flags=re.MULTILINE)
    assert heads == [str(number) for number in range(1, 14)]
    assert text.index("(ε, δ)-DP with") < 200


def test_the_last_hash_is_the_ledgers(run: Path, report: dict[str, Any], text: str) -> None:
    head = ledger.read_ledger(run / "ledger.jsonl")[-1].hash
    assert report["evidence"]["ledger"]["head"] == head
    assert head in text


def test_epsilon_is_the_accountings(run: Path, report: dict[str, Any]) -> None:
    spent = spending.spending_of(ledger.read_ledger(run / "ledger.jsonl"))
    privacy = report["privacy"]
    assert privacy["epsilon"] == spent.claim.epsilon
    assert privacy["epsilon_by_accountant"] == spent.epsilon_by_accountant
    assert privacy["epsilon_without_amplification"] == spent.epsilon_without_amplification
    assert privacy["releases"] == 101
    # dp_accounting by itself: 101 independent releases; a repeated one may cost a little more.
    accountant = rdp.RdpAccountant()
    event = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(1.0))
    by_rdp = accountant.compose(event, 101).get_epsilon(1e-5)
    assert 0.999 * by_rdp < privacy["epsilon_by_accountant"]["rdp"] < 1.05 * by_rdp
    assert 0.8 * by_rdp < privacy["epsilon"] <= privacy["epsilon_by_accountant"]["rdp"]


def test_printed_epsilon_is_not_below_the_computed_one(report: dict[str, Any], text: str) -> None:
    printed = float(re.search(r"with ε = ([\d.]+),", text).group(1))  # type: ignore[union-attr]
    assert report["privacy"]["epsilon"] <= printed < 1.001 * report["privacy"]["epsilon"]


def test_test_bound_is_the_better_of_both_directions(report: dict[str, Any]) -> None:
    # By hand at ε = 5.4 and more: the second bound is the smaller, 1 - e^-ε (1 - δ - 0.01).
    privacy = report["privacy"]
    by_hand = 1 - 2.718281828459045 ** -privacy["epsilon"] * (1 - 1e-5 - 0.01)
    assert privacy["true_positive_rate_at_most"] == pytest.approx(by_hand, rel=1e-9)


def test_json_holds_what_the_issue_names(report: dict[str, Any]) -> None:
    paths = (
        "privacy.epsilon privacy.delta privacy.unit privacy.neighboring_relation "
        "privacy.accountant privacy.noise_multiplier privacy.releases "
        "privacy.epsilon_by_accountant.pld privacy.epsilon_by_accountant.rdp "
        "privacy.epsilon_by_accountant.rdp_classic privacy.epsilon_without_amplification "
        "utility.primary_metric utility.test.auc utility.per_client utility.baselines.central.auc "
        "data.clients data.examples run.rounds run.seconds run.status"
    )
    record = run_records.Record(file="report.json", values=report)
    for path in paths.split():
        assert record.required(path) is not None
    assert report["privacy"]["neighboring_relation"] == "add_or_remove_one"
    assert report["utility"]["baselines"]["trivial"]["auc"] == 0.5
    assert (report["run"]["rounds"], report["run"]["status"]) == (100, "completed")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("run.json", "data.unit"),
        ("run.json", "data.unit_contains"),
        ("run.json", "data.split.train_clients"),
        ("run.json", "data.schema_inferred"),
        ("run.json", "seeds.seed"),
        ("run.json", "command"),
        ("run.json", "status"),
        ("run.json", "participation.highest"),
        ("evaluation.json", "primary_metric"),
        ("evaluation.json", "test"),
        ("evaluation.json", "per_client"),
    ],
)
def test_missing_required_item_is_named(run: Path, tmp_path: Path, name: str, path: str) -> None:
    folder = _changed(run, tmp_path / "run", name, path, None)
    with pytest.raises(InputError, match=rf"^{re.escape(name)}: '{re.escape(path)}' is missing"):
        run_report.build(folder)


def test_missing_record_is_named(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "evaluation.json").unlink()
    with pytest.raises(InputError, match=r"evaluation\.json is missing"):
        run_report.write(folder)


def test_unknown_optional_item_is_not_stated(run: Path, tmp_path: Path) -> None:
    folder = _changed(run, tmp_path / "run", "run.json", "git_commit", None)
    run_report.write(folder)
    assert "| git commit | not stated |" in (folder / "report.md").read_text(encoding="utf-8")


def test_report_does_not_depend_on_where_the_folder_is(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "elsewhere")
    run_report.write(tmp_path / "elsewhere")
    for name in ("report.json", "report.md", "plots/progress.png", "plots/clients.png"):
        assert (tmp_path / "elsewhere" / name).read_bytes() == (run / name).read_bytes()


def test_plots_are_pictures_and_linked(run: Path, text: str) -> None:
    linked = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    names = ("epsilon_curve", "progress", "roc_and_calibration", "clients")
    assert linked == [f"plots/{name}.png" for name in names]
    for name in linked:
        picture = (run / name).read_bytes()
        assert picture.startswith(b"\x89PNG") and len(picture) > 10_000


def test_run_without_privacy_claims_nothing(tmp_path: Path) -> None:
    report, text = _made(tmp_path / "run", noise_multiplier=None)
    privacy = report["privacy"]
    assert not privacy["guarantee"]
    assert [privacy[name] for name in ("epsilon", "delta", "accountant")] == [None, None, None]
    assert "No differential privacy" in text
    assert "(ε, δ)-DP with" not in text
    assert "without noise" in text.lower()
    assert any("model of every round" in line for line in report["released"]["without_noise"])
    assert report["released"]["with_noise"] == []


def test_fixed_size_cohorts_are_replace_one_at_twice_the_clip(tmp_path: Path) -> None:
    report, text = _made(tmp_path / "run", sampling="fixed_size", noise_multiplier=2.0)
    assert report["privacy"]["neighboring_relation"] == "replace_one"
    assert report["adjacency"]["sensitivity"] == 2.0
    assert "under replace-one" in text
    assert report["privacy"]["epsilon_by_accountant"]["pld"] is None


def test_full_participation_has_no_secret_cohorts(tmp_path: Path) -> None:
    report, text = _made(tmp_path / "run", sampling="full", noise_multiplier=5.0)
    privacy = report["privacy"]
    assert privacy["epsilon_without_amplification"] == pytest.approx(privacy["epsilon"], rel=1e-6)
    assert report["sampling"]["highest_participation"] == 4
    assert "this seed must stay secret" not in text
    assert report["accounting"]["zero_concentrated"]["rho"] == pytest.approx(4 / (2 * 25))


def test_adaptive_clip_is_stated_first_and_last(tmp_path: Path) -> None:
    report, text = _made(tmp_path / "run", adaptive=True)
    assert report["mechanism"]["clip_norm"] == {"first": 1.0, "last": pytest.approx(0.97**3)}
    assert "| Clip norm | 1 in the first round, 0.9127 in the last |" in text
    assert any("clip norm of every round" in x for x in report["released"]["with_noise"])
    # The two noises together cost what one of the stated multiplier costs.
    assert report["mechanism"]["least_noise_multiplier_released"] == pytest.approx(1.0, rel=1e-9)


def test_noise_of_zero_claims_nothing(tmp_path: Path) -> None:
    report, _ = _made(tmp_path / "run", noise_multiplier=0.0)
    assert not report["privacy"]["guarantee"]
    assert report["privacy"]["epsilon"] is None
    assert report["released"]["with_noise"] == []


def test_a_run_that_released_nothing_says_so(tmp_path: Path) -> None:
    report, text = _made(tmp_path / "run", rounds=0, target_epsilon=1e-3)
    assert (report["privacy"]["epsilon"], report["privacy"]["releases"]) == (0, 0)
    assert "(0 releases)" in report["privacy"]["sentence"]
    assert "No round was released" in text and "progress.png" not in text


WARNINGS: dict[str, tuple[dict[str, Any], str]] = {
    "large delta": ({"delta": 1 / 210}, "is not below 1 / 210"),
    "noise seed": ({"noise_seed": 3}, "whoever knows it can take the noise off"),
    "inferred schema": ({"schema_inferred": True}, "The schema was inferred"),
    "over the target": ({"target_epsilon": 0.5}, "is above the target"),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_warning(tmp_path: Path, case: str) -> None:
    settings, words = WARNINGS[case]
    report, text = _made(tmp_path / "run", **settings)
    assert any(words in line for line in report["privacy"]["warnings"])
    assert "**Warning:**" in text


def test_a_clean_run_has_no_warning(report: dict[str, Any]) -> None:
    assert report["privacy"]["warnings"] == []


def test_failed_noise_self_test_warns(run: Path, tmp_path: Path) -> None:
    folder = _changed(run, tmp_path / "run", "evaluation.json", "noise_self_test.passed", False)
    report = run_report.build(folder)
    assert any("self-test FAILED" in line for line in report["privacy"]["warnings"])


def test_more_participation_than_is_accounted_for_warns(run: Path, tmp_path: Path) -> None:
    folder = _changed(run, tmp_path / "run", "run.json", "participation.highest", 101)
    warnings = run_report.build(folder)["privacy"]["warnings"]
    assert any("at most 100 rounds" in line and "Do not rely" in line for line in warnings)


def test_early_finish_is_listed_as_use_of_private_data(run: Path, tmp_path: Path) -> None:
    folder = _changed(run, tmp_path / "run", "run.json", "early_finish", True)
    report = run_report.build(folder)
    assert any("decided when training ended" in x for x in report["released"]["without_noise"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace('"kind":"plan"', '"kind":"release"', 1),
        lambda text: "\n".join(text.split("\n")[1:]),
    ],
    ids=["first entry edited", "plan deleted"],
)
def test_broken_ledger_gives_no_report(
    run: Path, tmp_path: Path, spoil: Callable[[str], str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "ledger.jsonl"
    before = path.read_text(encoding="utf-8")
    path.write_text(spoil(before), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != before
    with pytest.raises((InputError, ledger.LedgerError)):
        run_report.build(tmp_path / "run")
