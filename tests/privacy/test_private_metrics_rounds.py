"""Private metrics in the training loop: real TFF rounds, a crash, a round that is repeated."""

import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_research.data.client_sampling import PoissonSampling
from fl_research.learning.aggregation import update_specs
from fl_research.privacy import accounting
from fl_research.privacy.events import event_to_json
from fl_research.privacy.ledger import Ledger, payloads, read_ledger
from fl_research.privacy.mechanisms import adaptive_gaussian
from fl_research.privacy.plan import PlanSetting, PrivacyPlan
from fl_research.privacy.private_metrics import PrivateMetrics, with_private_metrics
from fl_research.privacy.spending import spending_of
from fl_research.run import server_state
from fl_research.run.checkpoints import CheckpointStore
from fl_research.run.run_directory import RunDirectory
from fl_research.training_config import TrainingConfig
from fl_research.training_loop import RunOutputs, TrainingLoop
from tests.learning import small_cohorts
from tests.silent_progress import SilentProgress

pytestmark = pytest.mark.usefixtures("tff_runtime")

ROUNDS = 4
DELTA = 1e-5
TOTAL = 0.9
CLIENTS = small_cohorts.clients([3, 1, 4, 2] * 20)
SAMPLING = PoissonSampling(population=80, sampling_rate=0.5)


class Crash(Exception):
    """Stands for the end of the process."""


class _CrashingStore(CheckpointStore):
    """A checkpoint store that ends the process after the release of a round is in the ledger."""

    crash_in: int | None = None

    def commit(self, round_number: int) -> None:
        if round_number == self.crash_in:
            raise Crash
        super().commit(round_number)


@functools.cache
def _plan() -> PrivacyPlan:
    """Three noises in a release: update, count of the unclipped, metrics."""
    metrics = PrivateMetrics(share=0.2, loss_bound=1.5)
    config = adaptive_gaussian.Config(
        clip_norm=0.5, noise_multiplier=metrics.update_multiplier(TOTAL)
    )
    setting = PlanSetting(sampling=SAMPLING, noise_key=(5, 6))
    return with_private_metrics(adaptive_gaussian.make_plan(config, setting), metrics)


@functools.cache
def _process() -> Any:
    model = small_cohorts.model("logistic_regression")
    return small_cohorts.process(model, _plan().query(update_specs(model)), batch_size=2)


def _run(folder: Path, *, crash_in: int | None = None) -> list[np.ndarray]:
    """One session of a run; returns the final state's arrays."""
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
                    "delta": DELTA,
                    "expected_release_event": event_to_json(_plan().expected_release_event),
                },
            )
        store = _CrashingStore(directory.checkpoints_path)
        store.crash_in = crash_in
        loop = TrainingLoop(
            _process(),
            clients=CLIENTS,
            plan=_plan(),
            evaluate=None,
            config=TrainingConfig(
                rounds=ROUNDS,
                seed=1,
                num_blocks=2,
                evaluate_every=10,
                early_finish_patience=0,
                delta=DELTA,
            ),
            outputs=RunOutputs(directory=directory, ledger=ledger, checkpoints=store),
            listeners=[SilentProgress()],
        )
        return server_state.flatten_state(loop.run().state)


def _released(folder: Path) -> list[list[Any]]:
    """What metrics.csv says of each round, without times."""
    rows = RunDirectory.view(folder).read_metrics()
    return [[value for name, value in row.items() if name != "seconds"] for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """A run that nothing interrupts, and its final state."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, _run(folder)


@pytest.mark.parametrize("crash_in", [1, 3])
def test_resumed_after_a_crash_it_releases_the_same_bits(
    whole: tuple[Path, list[np.ndarray]], tmp_path: Path, crash_in: int
) -> None:
    with pytest.raises(Crash):
        _run(tmp_path / "run", crash_in=crash_in)
    state = _run(tmp_path / "run")
    for found, expected in zip(state, whole[1], strict=True):
        np.testing.assert_array_equal(found, expected)
    assert _released(tmp_path / "run") == _released(whole[0])
    assert len(payloads(read_ledger(tmp_path / "run" / "ledger.jsonl"), "release")) == ROUNDS


def test_the_ledger_costs_the_total_and_the_rows_are_noised(
    whole: tuple[Path, list[np.ndarray]],
) -> None:
    """Epsilon is that of one Gaussian a round with the total multiplier."""
    entries = read_ledger(whole[0] / "ledger.jsonl")
    bare = _plan().rule.release_event(TOTAL)
    event = _plan().rule.planned_events(bare, ROUNDS, SAMPLING)[0]
    relation = _plan().neighboring_relation
    expected = accounting.claimed_epsilon(
        accounting.epsilon_by_accountant(event, DELTA, relation)
    ).epsilon
    assert spending_of(entries).claim.epsilon == pytest.approx(expected, rel=1e-4)
    rows = RunDirectory.view(whole[0]).read_metrics()
    assert all(row["train_examples"] is row["clients_not_finite"] is None for row in rows)
    assert all(row["train_clients_noised"] != row["cohort_size"] for row in rows)
    assert len({row["train_clients_noised"] for row in rows}) == ROUNDS


def test_a_round_whose_checkpoint_is_lost_is_counted_again(
    whole: tuple[Path, list[np.ndarray]], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(whole[0], tmp_path / "run"))
    newest = max((folder / "checkpoints").iterdir(), key=lambda path: path.name)
    shutil.rmtree(newest) if newest.is_dir() else newest.unlink()
    _run(folder)
    spent, before = (spending_of(read_ledger(path / "ledger.jsonl")) for path in (folder, whole[0]))
    assert (spent.releases, spent.repeated) == (ROUNDS + 1, 1)
    assert spent.claim.epsilon > before.claim.epsilon
