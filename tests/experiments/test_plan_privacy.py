"""plan_privacy answers as the accounting library does, prints clean JSON and refuses clearly."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dp_accounting
import pytest
from absl.testing import flagsaver
from rich.console import Console

from experiments import plan_privacy
from fl_research.errors import InputError
from fl_research.privacy import published
from fl_research.privacy.rounding import rounded_up

ROOT = Path(__file__).resolve().parents[2]
Answer = Callable[..., dict[str, Any]]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "experiments.plan_privacy", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    """Runs the binary's main in this process and returns what it prints."""
    plan_privacy.FLAGS.mark_as_parsed()

    def main(**values: Any) -> str:
        with flagsaver.flagsaver(**values):
            assert plan_privacy.main(["plan_privacy"]) == 0
        return capsys.readouterr().out

    yield main


@pytest.fixture
def answer(run: Callable[..., str]) -> Answer:
    """The same as JSON."""
    return lambda **values: json.loads(run(format="json", **values))


def library(accountant: Any, event: dp_accounting.DpEvent, rounds: int, delta: float) -> float:
    """Epsilon by an accountant of the library alone."""
    composed = dp_accounting.SelfComposedDpEvent(event, rounds)
    return float(accountant.compose(composed).get_epsilon(delta))


def test_epsilon_of_poisson_sampling(answer: Answer) -> None:
    given = answer(
        sampling="poisson",
        population=10_000,
        clients_per_round=100.0,
        rounds=200,
        noise_multiplier=0.9,
        delta=1e-5,
    )
    gaussian = dp_accounting.GaussianDpEvent(0.9)
    sampled = dp_accounting.PoissonSampledDpEvent(0.01, gaussian)
    pld, rdp = dp_accounting.pld.PLDAccountant, dp_accounting.rdp.RdpAccountant
    assert given["epsilon"]["pld"] == pytest.approx(library(pld(), sampled, 200, 1e-5), rel=1e-6)
    assert given["epsilon"]["rdp"] == pytest.approx(library(rdp(), sampled, 200, 1e-5), rel=1e-6)
    assert given["epsilon"]["rdp_classic"] > given["epsilon"]["rdp"]
    assert given["epsilon_without_amplification"] == pytest.approx(
        library(pld(), gaussian, 200, 1e-5), rel=1e-6
    )
    assert given["noise_multiplier"] == 0.9
    assert given["neighboring_relation"] == "add_or_remove_one"
    assert given["sensitivity_in_clips"] == 1.0
    assert given["claim"]["accountant"] == "pld" and given["rounds_within_target"] is None


def test_epsilon_of_fixed_size_sampling_is_at_twice_the_sensitivity(answer: Answer) -> None:
    given = answer(
        sampling="fixed_size",
        population=10_000,
        clients_per_round=100.0,
        rounds=50,
        noise_multiplier=3.0,
        delta=1e-6,
    )
    relation = dp_accounting.NeighboringRelation.REPLACE_ONE
    event = dp_accounting.SampledWithoutReplacementDpEvent(
        10_000, 100, dp_accounting.GaussianDpEvent(1.5)
    )
    rdp = dp_accounting.rdp.RdpAccountant(neighboring_relation=relation)
    assert given["epsilon"]["rdp"] == pytest.approx(library(rdp, event, 50, 1e-6), rel=1e-6)
    assert given["epsilon"]["pld"] is None
    assert (given["neighboring_relation"], given["sensitivity_in_clips"]) == ("replace_one", 2.0)


def test_full_participation_has_nothing_to_amplify(answer: Answer) -> None:
    given = answer(sampling="full", population=500, rounds=20, noise_multiplier=8.0, delta=1e-4)
    assert given["epsilon"]["pld"] == given["epsilon_without_amplification"]


def test_noise_for_a_target_and_rounds_within_it(answer: Answer) -> None:
    setting = {"sampling_rate": 0.02, "delta": 1e-5, "target_epsilon": 1.5}
    needed = answer(**setting, rounds=100)
    assert needed["claim"]["epsilon"] <= 1.5 < needed["claim"]["epsilon"] + 1e-3
    noise = needed["noise_multiplier"]
    fitting = answer(**setting, noise_multiplier=noise)
    assert fitting["rounds"] == fitting["rounds_within_target"] == fitting["rounds_left"] == 100
    left = answer(**setting, noise_multiplier=noise, rounds=70)
    assert (left["rounds_within_target"], left["rounds_left"]) == (100, 30)
    assert left["claim"]["epsilon"] < fitting["claim"]["epsilon"]
    over = answer(**setting, noise_multiplier=noise, rounds=170)
    assert over["rounds_left"] == 0 and over["claim"]["epsilon"] > 1.5


def test_no_noise_gives_nulls(answer: Answer) -> None:
    given = answer(sampling="full", rounds=3, noise_multiplier=0.0, delta=1e-5)
    assert set(given["epsilon"].values()) == {None}
    assert given["epsilon_without_amplification"] is given["claim"]["epsilon"] is None


def test_the_table_says_what_the_json_says(run: Callable[..., str]) -> None:
    setting = {"sampling_rate": 0.02, "delta": 1e-5, "noise_multiplier": 1.0, "rounds": 50}
    text, given = run(**setting), json.loads(run(format="json", **setting))
    for value in given["epsilon"].values():
        assert ("does not apply" if value is None else rounded_up(value, 6)) in text
    assert "add_or_remove_one" in text and "orders 1.1 to 10.9" in text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"delta": None}, "delta is not given"),
        ({"delta": 1.0}, "delta=1.0"),
        ({"rounds": None}, "rounds is not given"),
        ({"rounds": 0}, "rounds=0"),
        ({"population": None}, "population is not given"),
        ({"population": 5}, "clients_per_round=10.0"),
        ({"sampling_rate": 0.1}, "exactly one"),
        ({"clients_per_round": None}, "exactly one"),
        ({"sampling": "full"}, "do not go with sampling='full'"),
        ({"sampling": "fixed_size", "clients_per_round": 2.5}, "whole number"),
        ({"noise_multiplier": None}, "noise_multiplier or target_epsilon"),
        ({"noise_multiplier": -1.0}, "noise_multiplier=-1.0"),
        ({"noise_multiplier": float("nan")}, "noise_multiplier=nan"),
        ({"target_epsilon": -1.0}, "target_epsilon=-1.0"),
        ({"mechanism": "none"}, "no guarantee to plan"),
        ({"mechanism": "unknown"}, "mechanism='unknown' is unknown"),
        ({"bands": 3}, "--bands=3 belongs to --mechanism=banded_matrix_factorization"),
        ({"restart_every": 3}, "--restart_every=3 belongs to --mechanism=tree_aggregation"),
        ({"batch_size": 4}, "--batch_size=4 belongs to --mechanism=client_dpsgd"),
        ({"rows_per_client": ["9"]}, "--rows_per_client=9 belongs to --mechanism=client_dpsgd"),
        ({"clip_norm": 2.0}, "--clip_norm=2.0 changes nothing"),
        ({"min_separation": 5}, "min_separation=5 does not go with sampling='poisson'"),
        ({"mechanism": "tree_aggregation"}, "use sampling='min_separation'"),
        ({"mechanism": "client_dpsgd"}, "--rows_per_client= says no number"),
        ({"mechanism": "client_dpsgd", "rows_per_client": ["9", "x"]}, "--rows_per_client=9,x"),
        ({"plot": "plan.gif"}, "plot=plan.gif"),
        (
            {"clients_per_round": 1e3, "target_epsilon": 1e-9, "noise_multiplier": None},
            "out of reach",
        ),
    ],
)
def test_wrong_input_is_named(changes: dict[str, Any], says: str) -> None:
    plan_privacy.FLAGS.mark_as_parsed()
    setting: dict[str, Any] = {
        "population": 1000,
        "clients_per_round": 10.0,
        "rounds": 10,
        "noise_multiplier": 1.0,
        "delta": 1e-5,
    }
    with flagsaver.flagsaver(**setting | changes), pytest.raises(InputError) as raised:
        plan_privacy.main(["plan_privacy"])
    assert says in str(raised.value) and "\n" not in str(raised.value)


MECHANISMS: list[tuple[dict[str, Any], str, str, str]] = [
    ({"mechanism": "adaptive_gaussian"}, "add_or_remove_one", "central", "client"),
    ({"mechanism": "laplace"}, "add_or_remove_one", "central", "client"),
    ({"mechanism": "local_gaussian"}, "replace_one", "local", "client"),
    (
        {"mechanism": "client_dpsgd", "rows_per_client": ["20", "80"], "local_steps": 2},
        "zero_out",
        "local",
        "record",
    ),
    *(
        (
            {"sampling": "min_separation", "min_separation": 8, "mechanism": name} | settings,
            "zero_out",
            "central",
            "client",
        )
        for name, settings in (
            ("tree_aggregation", {"restart_every": 8}),
            ("banded_matrix_factorization", {"bands": 4}),
            ("buffered_toeplitz", {"buffers": 2}),
        )
    ),
]


@pytest.mark.slow  # Three accountings and a calibration for each mechanism.
@pytest.mark.parametrize(("flags", "relation", "trust", "unit"), MECHANISMS)
def test_every_mechanism_finds_its_noise_and_says_what_it_protects(
    run: Callable[..., str], flags: dict[str, Any], relation: str, trust: str, unit: str
) -> None:
    setting = {"population": 1000, "clients_per_round": 50.0, "rounds": 20, "delta": 1e-5, **flags}
    needed = json.loads(run(format="json", target_epsilon=3.0, **setting))
    noise, mechanism = needed["noise_multiplier"], flags["mechanism"]
    assert 2.99 < needed["claim"]["epsilon"] <= 3.0
    assert (needed["neighboring_relation"], needed["trust"], needed["unit"]) == (
        relation,
        trust,
        unit,
    )
    assert (needed["prefix_rmse"] is None) == (mechanism == "client_dpsgd")
    assert (needed["squared_sensitivity"] is None) == ("min_separation" not in flags)
    # The found noise leaves room of one part in a million for rounding.
    again = json.loads(run(format="json", noise_multiplier=noise, target_epsilon=3.0, **setting))
    assert again["claim"]["epsilon"] == pytest.approx(needed["claim"]["epsilon"], rel=1e-9)
    assert again["rounds_within_target"] == 20
    less = json.loads(run(format="json", noise_multiplier=0.8 * noise, **setting))
    assert less["claim"]["epsilon"] > 3.0
    text = run(noise_multiplier=noise, **setting)
    assert mechanism in text and f"each {unit}" in text and f"{trust}:" in text


@pytest.mark.slow  # All mechanisms are calibrated at nine epsilons: ten seconds.
def test_the_plot_is_drawn_and_its_curves_are_in_the_answer(
    run: Callable[..., str], tmp_path: Path
) -> None:
    setting = {
        "population": 1000,
        "clients_per_round": 50.0,
        "rounds": 20,
        "delta": 1e-5,
        "noise_multiplier": 1.0,
        "plot": str(tmp_path / "plan.png"),
    }
    given = json.loads(run(format="json", **setting))
    assert given["plot"] == setting["plot"]
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    lines = given["curves"]["error_at_equal_epsilon"]["mechanisms"]
    assert {line["mechanism"] for line in lines} == {
        "gaussian",
        "local_gaussian",
        "tree_aggregation",
        "banded_matrix_factorization",
        "buffered_toeplitz",
    }
    text = run(**setting)
    assert "drawn: " in text and all(line["label"] in text for line in lines)


def test_a_flag_of_a_run_on_the_command_line_is_one_line() -> None:
    result = command("--population=100", "--model=mlp", "--delta=1e-5")
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr == "error: --model=mlp changes nothing in a plan; leave it out\n"


def test_the_bar_counts_what_is_done_and_nothing_shows_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments import privacy_tables

    monkeypatch.setattr(privacy_tables, "_PATIENCE_SECONDS", 0.01)
    with privacy_tables.slow_steps(3) as step:
        for label in ("one", "two", "three"):
            step(label)
            time.sleep(0.02)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(
        privacy_tables,
        "Console",
        lambda file: Console(file=file, force_terminal=True, width=80),
    )
    with privacy_tables.slow_steps(3) as step:
        for label in ("one", "two", "three"):
            step(label)
            time.sleep(0.2)
    shown = capsys.readouterr().err
    assert "0/3" in shown and "2/3" in shown and "three" in shown


def test_a_large_delta_is_warned_of_outside_the_json() -> None:
    result = command(
        "--sampling=full",
        "--population=100",
        "--rounds=2",
        "--noise_multiplier=3",
        "--delta=0.02",
        "--format=json",
    )
    assert result.returncode == 0 and json.loads(result.stdout)["delta"] == 0.02
    assert result.stderr.startswith("warning: delta=0.02 is not below 1 / 100")


def test_wrong_input_on_the_command_line_is_one_line() -> None:
    result = command("--rounds=10", "--noise_multiplier=1", "--delta=3")
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_published_values_are_printed_and_a_wrong_one_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    header, *rows = published.PATH.read_text(encoding="utf-8").splitlines()
    chosen = [row for row in rows if row.startswith(("abadi2016", "lidp_1", "gboard_mf"))]
    plan_privacy.FLAGS.mark_as_parsed()

    def main(rows: list[str]) -> int:
        path = tmp_path / "published.csv"
        path.write_text("\n".join([header, *rows]), encoding="utf-8")
        monkeypatch.setattr(published, "PATH", path)
        with flagsaver.flagsaver(published=True):
            return plan_privacy.main(["plan_privacy"])

    assert main(chosen) == 0
    text = capsys.readouterr().out
    assert "1.2585748" in text and "3.4240074" in text and "later" not in text
    assert main([row.replace("1.26", "1.36") for row in chosen]) == 1
    assert "OUT OF TOLERANCE" in capsys.readouterr().out


def test_nothing_slow_is_imported_for_help_and_no_tensorflow_at_all() -> None:
    started = time.monotonic()
    result = command("--help")
    assert time.monotonic() - started < 2
    assert result.returncode == 0 and "--target_epsilon" in result.stdout
    code = (
        "import sys; from experiments import plan_privacy; from fl_research.privacy import "
        "planning, published, spending; print([m for m in sys.modules if 'tensorflow' in m])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
