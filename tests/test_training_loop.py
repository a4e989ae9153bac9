"""The training loop: what survives a crash, what counts as a release, when it stops.

Real TFF rounds on 40 small clients. A crash is an exception at one exact point of the protocol;
nothing in the loop catches it, so what is on disk is what `kill -9` would leave. The real kill is
in tests/experiments.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_research.data.client_sampling import PoissonSampling
from fl_research.errors import InputError
from fl_research.learning.aggregation import update_specs
from fl_research.privacy.events import event_to_json
from fl_research.privacy.ledger import Ledger, read_ledger
from fl_research.privacy.mechanisms import gaussian
from fl_research.privacy.plan import PlanSetting, PrivacyPlan
from fl_research.privacy.spending import spending_of
from fl_research.run import server_state
from fl_research.run.checkpoints import CheckpointStore
from fl_research.run.run_directory import RunDirectory
from fl_research.training_config import TrainingConfig
from fl_research.training_loop import (
    RunOutputs,
    TrainingLoop,
    TrainingOutcome,
)
from tests.learning import small_cohorts
from tests.silent_progress import SilentProgress

pytestmark = pytest.mark.usefixtures("tff_runtime")

ROUNDS = 4
CLIENTS = small_cohorts.clients([3, 1, 4, 2] * 10)
SAMPLING = PoissonSampling(population=40, sampling_rate=0.3)


class Crash(Exception):
    """Stands for the end of the process at one point."""


@functools.cache
def _plan() -> PrivacyPlan:
    """DP-FedAvg with a fixed noise key."""
    setting = PlanSetting(sampling=SAMPLING, noise_key=(5, 6))
    return gaussian.make_plan(gaussian.Config(clip_norm=0.5, noise_multiplier=1.1), setting)


@functools.cache
def _process() -> Any:
    """One process for all tests of this file: tracing it takes seconds."""
    model = small_cohorts.model("logistic_regression")
    return small_cohorts.process(model, _plan().query(update_specs(model)), batch_size=2)


class _CrashingStore(CheckpointStore):
    """A checkpoint store that crashes around one call of one round."""

    crash_at: tuple[str, int] | None = None

    def prepare(self, round_number: int, *arguments: Any, **named: Any) -> str:
        self._maybe("before prepare", round_number)
        digest = super().prepare(round_number, *arguments, **named)
        self._maybe("after prepare", round_number)
        return digest

    def commit(self, round_number: int) -> None:
        self._maybe("before commit", round_number)
        super().commit(round_number)
        self._maybe("after commit", round_number)

    def _maybe(self, point: str, round_number: int) -> None:
        """Crashes where it was told to, once."""
        if self.crash_at == (point, round_number):
            raise Crash


def _run(
    folder: Path,
    *,
    crash_at: tuple[str, int] | None = None,
    evaluate: Callable[[Any], Mapping[str, float]] | None = None,
    set_up_evaluation: Callable[[Any], None] | None = None,
    **config: Any,
) -> TrainingOutcome:
    """One session of a run in `folder`."""
    with (
        RunDirectory.open(folder, flags_text="--rounds=4\n") as directory,
        Ledger.open(directory.ledger_path) as ledger,
    ):
        if not ledger.entries:
            ledger.append(
                "plan",
                {
                    "sampling": SAMPLING.to_dict(),
                    "accounting_rule": _plan().rule.to_dict(),
                    "delta": 1e-5,
                    "expected_release_event": event_to_json(_plan().expected_release_event),
                },
            )
        store = _CrashingStore(directory.checkpoints_path)
        store.crash_at = crash_at
        settings = {
            "rounds": ROUNDS,
            "seed": 1,
            "num_blocks": 2,
            "evaluate_every": 10,
            "early_finish_patience": 0,
            "delta": 1e-5,
        } | config
        return TrainingLoop(
            _process(),
            clients=CLIENTS,
            plan=_plan(),
            evaluate=evaluate,
            set_up_evaluation=set_up_evaluation,
            config=TrainingConfig(**settings),
            outputs=RunOutputs(directory=directory, ledger=ledger, checkpoints=store),
            listeners=[SilentProgress()],
        ).run()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """The final state of a run that nothing interrupts, as arrays."""
    outcome = _run(tmp_path_factory.mktemp("uninterrupted") / "run")
    assert outcome.status == "completed"
    return server_state.flatten_state(outcome.state)


def _assert_same(outcome: TrainingOutcome, expected: list[np.ndarray]) -> None:
    """Fails unless the state is the same to the bit."""
    for a, b in zip(server_state.flatten_state(outcome.state), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def _metrics_rounds(folder: Path) -> list[tuple[int, int]]:
    """(round, attempt) of each metrics row."""
    return [(row["round"], row["attempt"]) for row in RunDirectory.view(folder).read_metrics()]


@pytest.mark.parametrize(
    ("point", "failed"),
    [("before prepare", 1), ("after prepare", 1), ("before commit", 0), ("after commit", 0)],
)
@pytest.mark.parametrize("round_number", [1, 3])
def test_crash_at_any_point_neither_changes_the_result_nor_releases_twice(
    tmp_path: Path,
    uninterrupted: list[np.ndarray],
    point: str,
    failed: int,
    round_number: int,
) -> None:
    """Same bits at the end, one release and one metrics row a round, failed calls are listed."""
    folder = tmp_path / "run"
    with pytest.raises(Crash):
        _run(folder, crash_at=(point, round_number))
    outcome = _run(folder)
    _assert_same(outcome, uninterrupted)
    entries = read_ledger(folder / "ledger.jsonl")
    released = [entry.payload["round"] for entry in entries if entry.kind == "release"]
    assert released == [1, 2, 3, 4]
    spent = spending_of(entries)
    assert (spent.releases, spent.repeated, spent.failed) == (ROUNDS, 0, failed)
    attempt = 1 + failed
    expected = [(r, attempt if r == round_number else 1) for r in range(1, ROUNDS + 1)]
    assert _metrics_rounds(folder) == expected


def test_lost_checkpoint_repeats_the_round_and_epsilon_counts_both(
    tmp_path: Path, uninterrupted: list[np.ndarray]
) -> None:
    """A flipped byte in the newest checkpoint: the round before it is taken, the last repeats."""
    folder = tmp_path / "run"
    with pytest.raises(Crash):
        _run(folder, crash_at=("before prepare", 4))
    before = spending_of(read_ledger(folder / "ledger.jsonl"))
    newest = folder / "checkpoints" / "round_000003.ckpt"
    content = bytearray(newest.read_bytes())
    content[-3] ^= 1
    newest.write_bytes(bytes(content))
    _assert_same(_run(folder), uninterrupted)
    after = spending_of(read_ledger(folder / "ledger.jsonl"))
    assert (before.releases, after.releases, after.repeated) == (3, 5, 1)
    assert after.claim.epsilon > before.claim.epsilon
    assert _metrics_rounds(folder) == [(1, 1), (2, 1), (3, 1), (3, 2), (4, 2)]


def test_truncated_last_ledger_line_is_recovered(
    tmp_path: Path, uninterrupted: list[np.ndarray]
) -> None:
    """The release that was being written is gone, its state too: the round is called anew."""
    folder = tmp_path / "run"
    with pytest.raises(Crash):
        _run(folder, crash_at=("before commit", 3))
    ledger = folder / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-20])
    _assert_same(_run(folder), uninterrupted)
    entries = read_ledger(ledger)
    assert [e.payload["round"] for e in entries if e.kind == "release"] == [1, 2, 3, 4]
    assert any(e.kind == "recovered" for e in entries)
    assert spending_of(entries).failed == 1


def test_state_without_a_release_in_the_ledger_is_refused(tmp_path: Path) -> None:
    """A ledger that was removed, or checkpoints that were, stop the run; nothing is overwritten."""
    folder = tmp_path / "run"
    with pytest.raises(Crash):
        _run(folder, crash_at=("after commit", 2))
    ledger = folder / "ledger.jsonl"
    kept = ledger.read_bytes()
    ledger.unlink()
    with pytest.raises(InputError, match=r"no release in the ledger vouches .* round 2"):
        _run(folder)
    ledger.write_bytes(kept)
    for checkpoint in (folder / "checkpoints").glob("*.ckpt"):
        checkpoint.write_bytes(checkpoint.read_bytes()[:50])
    with pytest.raises(InputError, match=r"holds 2 releases but no checkpoint is readable"):
        _run(folder)
    assert ledger.read_bytes().startswith(kept)


def test_budget_gate_stops_before_the_round_that_would_pass_the_target(tmp_path: Path) -> None:
    """The target is what two releases cost, give or take float32: the third does not happen."""
    with pytest.raises(Crash):
        _run(tmp_path / "two", crash_at=("before prepare", 3))
    target = spending_of(read_ledger(tmp_path / "two" / "ledger.jsonl")).claim.epsilon
    outcome = _run(tmp_path / "run", target_epsilon=target * (1 + 1e-6))
    assert (outcome.status, outcome.rounds_completed) == ("stopped_by_budget", 2)
    outcome = _run(tmp_path / "less", target_epsilon=target * (1 - 1e-6))
    assert (outcome.status, outcome.rounds_completed) == ("stopped_by_budget", 1)


def test_early_finish_after_evaluations_without_improvement(tmp_path: Path) -> None:
    """The metric rises once, then not for two evaluations: three rounds, also when resumed."""
    values = iter([0.6, 0.7, 0.7, 0.65, 0.9])

    def evaluate(weights: Any) -> dict[str, float]:
        del weights
        return {"auc": next(values), "undefined": float("nan")}

    settings: dict[str, Any] = {"evaluate_every": 1, "early_finish_patience": 2, "rounds": 6}
    with pytest.raises(Crash):
        _run(tmp_path / "run", evaluate=evaluate, crash_at=("before prepare", 3), **settings)
    outcome = _run(tmp_path / "run", evaluate=evaluate, **settings)
    assert (outcome.status, outcome.rounds_completed) == ("converged", 4)
    rows = RunDirectory.view(tmp_path / "run").read_metrics()
    assert [row["validation_auc"] for row in rows] == [0.6, 0.7, 0.7, 0.65]
    assert all(row["epsilon"] > 0 for row in rows)


def test_evaluations_are_set_up_once_and_timed_without_it(tmp_path: Path) -> None:
    """Set up before the first, in each session; the last row's epsilon is the report's."""
    told: list[str] = []

    def set_up(weights: Any) -> None:
        told.append("set up")
        time.sleep(1.0)

    def evaluate(weights: Any) -> dict[str, float]:
        told.append("evaluated")
        time.sleep(0.02)
        return {"auc": 0.5}

    folder = tmp_path / "run"
    settings: dict[str, Any] = {"evaluate_every": 1, "rounds": 4}
    parts: dict[str, Any] = {"evaluate": evaluate, "set_up_evaluation": set_up}
    with pytest.raises(Crash):
        _run(folder, crash_at=("before prepare", 3), **parts, **settings)
    _run(folder, **parts, **settings)
    assert told == ["set up", "evaluated", "evaluated"] * 2
    rows = RunDirectory.view(folder).read_metrics()
    assert all(0.02 <= row["evaluation_seconds"] < 0.9 for row in rows)
    exact = spending_of(read_ledger(folder / "ledger.jsonl")).claim.epsilon
    assert rows[-1]["epsilon"] == pytest.approx(exact, rel=1e-12)
    assert [row["epsilon"] for row in rows] == sorted(row["epsilon"] for row in rows)


def test_ledger_says_what_ran(tmp_path: Path) -> None:
    """Cohort sizes are the sampler's, the event is the emitted one, each call is entered first."""
    _run(tmp_path / "run", rounds=3)
    entries = read_ledger(tmp_path / "run" / "ledger.jsonl")
    assert [e.kind for e in entries] == ["plan"] + ["round_started", "release"] * 3
    for entry in entries:
        if entry.kind == "release":
            cohort = SAMPLING.cohort(1, entry.payload["round"])
            assert entry.payload["cohort_size"] == len(cohort)
            assert entry.payload["event"]["noise_multiplier"] == pytest.approx(1.1, rel=1e-6)
            assert entry.payload["noise_stddev_of_sum"] == pytest.approx(0.55, rel=1e-6)


@pytest.mark.parametrize(
    "wrong", [{"rounds": 0}, {"num_blocks": 0}, {"evaluate_every": 0}, {"seed": -1}]
)
def test_config_refuses_numbers_out_of_range(wrong: dict[str, int]) -> None:
    """The message names the field and the value."""
    good = TrainingConfig(rounds=1, seed=0, num_blocks=1, evaluate_every=1, early_finish_patience=0)
    (name, value), *_ = wrong.items()
    with pytest.raises(InputError, match=f"^{name}={value} is not possible"):
        dataclasses.replace(good, **wrong)
