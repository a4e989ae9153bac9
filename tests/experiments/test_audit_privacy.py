"""The audits as a user meets them: the binary, and training runs with canaries.

Everything runs as a process of its own, or through the parts of an experiment.
"""

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl.testing import flagsaver

from experiments import audit_run
from fl_research.audit.canary_query import CanaryQuery
from fl_research.data.clients import clients_by_rows
from fl_research.errors import InputError
from fl_research.experiment_config import resolve_privacy
from fl_research.experiment_parts import build_parts
from fl_research.privacy.ledger import payloads, read_ledger
from fl_research.run import server_state
from fl_research.run.run_directory import RunDirectory
from tests import test_experiment_parts
from tests.learning import small_cohorts

ROOT = Path(__file__).resolve().parents[2]
# So small a learning rate that the model is noise and canaries: 2 by Gaussian accounting.
QUIET_RUN = [
    "--model=mlp",
    "--rounds=20",
    "--sampling=full",
    "--noise_multiplier=10",
    "--client_learning_rate=1e-6",
    "--evaluate_every=20",
    "--audit_canaries=100",
    "--noise_seed=1",
]
# A tenth of the noise that is accounted; the self-test, which would stop the run, is left out. Run,
# and then shown again, as the same command would.
BROKEN = """
import sys
from experiments import churn_prevention
from experiments.command_line import run_binary
from fl_research import experiment_parts
from fl_research.privacy import keyed_noise
experiment_parts.noise_self_test = lambda plan: None
normal = keyed_noise.standard_normal
keyed_noise._VALUES["gaussian"] = lambda seed, shape: 0.1 * normal(seed, shape)
sys.argv[0] = churn_prevention.__file__
for _ in range(2):
    try:
        run_binary(churn_prevention.main)
    except SystemExit as stop:
        print("exit code", stop.code)
"""


def _process(*arguments: str, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    """Runs Python as a user does."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def _audit(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the binary."""
    return _process("-m", "experiments.audit_privacy", *arguments)


def test_help_is_quick() -> None:
    """Within two seconds, and with what it is for."""
    started = time.monotonic()
    found = _audit("--help")
    assert time.monotonic() - started < 2
    assert found.returncode == 0 and "--runs" in found.stdout and "--run\n" in found.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("tff_runtime")
def test_a_resumed_run_goes_on_with_the_same_canaries() -> None:
    """Two rounds in a row, and one, a checkpoint and one by a process built anew: the same bits."""
    plain, config = test_experiment_parts._parts_and_config(noise_seed=1)
    audited = dataclasses.replace(config, audit_canaries=5)
    privacy = resolve_privacy(audited, clients_by_rows(plain.task.train))
    clients = small_cohorts.clients([3, 1, 4] * 10)
    cohort = small_cohorts.blocks(clients, num_blocks=2, chosen=[0, 3, 7])
    parts, again = (build_parts(plain.task, audited, privacy) for _ in range(2))
    first = parts.process.next(parts.process.initialize(), cohort).state
    straight = server_state.flatten_state(parts.process.next(first, cohort).state)
    arrays = [np.array(array) for array in server_state.flatten_state(first)]
    restored = server_state.unflatten_state(again.process.initialize(), arrays)
    resumed = server_state.flatten_state(again.process.next(restored, cohort).state)
    for one, other in zip(straight, resumed, strict=True):
        np.testing.assert_array_equal(one, other)
    # They do take part: without them the same seeds give another model.
    assert parts.canaries is not None and parts.canaries.participations.shape == (2, 5)
    untouched = plain.process.next(plain.process.initialize(), cohort).state
    weights = (small_cohorts.leaves(s.global_model_weights) for s in (first, untouched))
    changed = any((a != b).any() for a, b in zip(*weights, strict=True))
    assert changed == bool(parts.canaries.participations[0].any())


@pytest.mark.usefixtures("tff_runtime")
def test_off_is_the_plans_own_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without canaries no canary query is made, and no draw of canaries either."""

    def refuse(*arguments: Any, **named: Any) -> None:
        """Fails the test."""
        raise AssertionError("made without being asked for")

    monkeypatch.setattr(CanaryQuery, "__init__", refuse)
    monkeypatch.setattr("fl_research.experiment_parts.plan_canaries", refuse)
    parts, config = test_experiment_parts._parts_and_config(noise_seed=1)
    assert config.audit_canaries == 0 and parts.canaries is None


@pytest.mark.slow
def test_an_honest_run_passes(tmp_path: Path) -> None:
    """Its audit is in evaluation.json, the canaries are in the plan; exit code 0."""
    output = ["--run_name=run", f"--output_dir={tmp_path}"]
    found = _process("-m", "experiments.churn_prevention", *QUIET_RUN, *output)
    assert found.returncode == 0, found.stderr
    audit = json.loads((tmp_path / "run" / "evaluation.json").read_text())["audit"]
    assert audit["canaries"] == 100 and audit["participations"]["mean"] == 20
    assert audit["epsilon_lower"] < audit["claimed_epsilon"] and not audit["exceeds_claim"]
    plan = payloads(read_ledger(tmp_path / "run" / "ledger.jsonl"), "plan")[0]
    assert plan["audit"] == {"canaries": 100}
    attack = _audit(f"--run={tmp_path / 'run'}")
    assert attack.returncode == 0, attack.stderr
    folder = tmp_path / "run" / "audit"
    record = json.loads((folder / "membership.json").read_text())
    assert [a["name"] for a in record["attacks"]] == ["threshold", "logistic regression"]
    assert "| threshold |" in (folder / "membership.md").read_text()
    assert (folder / "membership_roc.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_broken_run_fails_loudly(tmp_path: Path) -> None:
    """A tenth of the noise: the report is written, and the exit code is 1, also when seen again."""
    output = ["--run_name=run", f"--output_dir={tmp_path}"]
    found = _process("-c", BROKEN, *QUIET_RUN, *output)
    assert found.stdout.count("exit code 1") == 2, found.stderr
    assert found.stderr.count("The noise or the accounting of this run is broken") == 2
    assert "this run is complete" in found.stderr and "Traceback" not in found.stderr
    assert (tmp_path / "run" / "report.md").exists()


@pytest.mark.slow
def test_the_mechanism_is_audited(tmp_path: Path) -> None:
    """The record is plain JSON with the claim beside the bound; the plot is drawn."""
    plot = tmp_path / "statistics.png"
    found = _audit(
        "--noise_multiplier=1",
        "--rounds=3",
        "--sampling=full",
        "--runs=500",
        "--format=json",
        f"--plot={plot}",
    )
    assert found.returncode == 0, found.stderr
    record = json.loads(found.stdout)
    assert 0 < record["epsilon_lower"] < record["detectable_epsilon"] < record["claimed_epsilon"]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_wrong_input_is_exit_code_2_without_a_traceback() -> None:
    found = _audit("--run=/nowhere")
    assert found.returncode == 2
    assert "/nowhere is not the folder of a run" in found.stderr
    assert "Traceback" not in found.stderr


def test_runs_of_other_use_cases_are_refused_in_one_line(tmp_path: Path) -> None:
    """Their flags are known: what is missing is an attack on such models."""
    (tmp_path / "flags.txt").write_text("--horizon=4\n--dataset=synthetic\n", encoding="utf-8")
    run = RunDirectory.view(tmp_path)
    with flagsaver.flagsaver(), pytest.raises(InputError, match="demand_forecasting; membership"):
        audit_run._task_of(run, {"use_case": "demand_forecasting"})
