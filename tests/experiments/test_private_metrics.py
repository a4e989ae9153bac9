"""A run with private metrics as a user makes it: records, epsilon, refusals."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from scipy import stats

from experiments import churn_prevention
from fl_research.errors import InputError
from fl_research.privacy.ledger import payloads, read_ledger
from fl_research.privacy.spending import spending_of
from fl_research.run.record_files import read_metrics

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 150
SEEDS = ("--seed=3", "--noise_seed=7", "--evaluate_every=75")
PRIVATE = ("--private_metrics", "--private_metrics_share=0.1", "--target_epsilon=3")


def _main(output: Path, *arguments: str) -> None:
    """Runs the binary's main in this process, up to its first error."""
    with flagsaver.flagsaver():
        flags.FLAGS(["churn_prevention", f"--output_dir={output}", *arguments])
        churn_prevention.main([])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mechanism=none"], r"mechanism=none, which has no noise"),
        (["--mechanism=laplace"], r"mechanism=laplace.*use gaussian or adaptive_gaussian"),
        (["--mechanism=tree_aggregation", "--sampling=full"], r"mechanism=tree_aggregation"),
        (["--mechanism=local_gaussian"], r"mechanism=local_gaussian"),
        (["--mechanism=client_dpsgd"], r"mechanism=client_dpsgd"),
        (["--noise_multiplier=0"], r"noise_multiplier=0 does not go with private_metrics"),
        (["--private_metrics_share=1"], r"private_metrics_share=1.0 is not possible"),
        (["--private_metrics_loss_bound=-2"], r"private_metrics_loss_bound=-2.0"),
        (
            ["--noprivate_metrics", "--private_metrics_share=0.1"],
            r"--private_metrics_share=0.1 belongs to --private_metrics, which is not set",
        ),
    ],
)
def test_what_cannot_be_private_is_refused_before_anything_is_written(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        _main(tmp_path / "runs", "--private_metrics", *arguments)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def _command(output: Path, name: str, *arguments: str) -> list[str]:
    """The command of a run on the generated records."""
    where = [f"--output_dir={output}", f"--run_name={name}", *SEEDS]
    return [sys.executable, "-m", "experiments.churn_prevention", *where, *arguments]


def _finished(command: list[str]) -> str:
    """What a command that ends well writes on the terminal."""
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A private run, its terminal, and the first round of the same run without private metrics."""
    output = tmp_path_factory.mktemp("runs")
    terminal = _finished(_command(output, "private", f"--rounds={ROUNDS}", *PRIVATE))
    _finished(_command(output, "open", "--rounds=1", "--noise_multiplier=1"))
    return {"folder": output / "private", "open": output / "open", "terminal": terminal}


@pytest.mark.slow
def test_no_record_holds_an_exact_training_metric(runs: dict[str, Any]) -> None:
    """Columns are blank, and the exact figures of the first round are in no file of the folder.

    The first cohort trains from the same start in both runs, so that the open one tells them. The
    noise on the number of clients is checked by a chi-square test with a false-alarm probability
    of 1e-6: no client of these records is left out, so that the cohort size is the exact number.
    """
    rows = read_metrics(runs["folder"] / "metrics.csv")
    exact = read_metrics(runs["open"] / "metrics.csv")[0]
    assert exact["cohort_size"] == rows[0]["cohort_size"]
    assert len(rows) == ROUNDS
    assert all(row["train_examples"] is row["clients_not_finite"] is None for row in rows)
    forbidden = [repr(exact["train_loss"]).encode(), np.float32(exact["train_loss"]).tobytes()]
    for path in runs["folder"].rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(figure in content for figure in forbidden), path
    assert any(forbidden[1] in path.read_bytes() for path in runs["open"].rglob("events.*"))
    assert repr(exact["train_loss"])[:6] not in runs["terminal"]
    facts = read_ledger(runs["folder"] / "ledger.jsonl")[0].payload["details"]["private_metrics"]
    stddev = facts["noise_multiplier"] * math.sqrt(2)
    noised, sizes, losses = (
        np.array([row[name] for row in rows], np.float64)
        for name in ("train_clients_noised", "cohort_size", "train_loss")
    )
    noise = noised - sizes
    squares = float(np.sum((noise / stddev) ** 2))
    assert stats.chi2.ppf(5e-7, ROUNDS) < squares < stats.chi2.isf(5e-7, ROUNDS)
    # Losses of the model: the noise of the mean loss is far below them, at 280 clients.
    assert 0.2 < np.mean(losses) < 0.8


@pytest.mark.slow
def test_epsilon_is_the_target_and_the_report_says_what_is_noised(runs: dict[str, Any]) -> None:
    """From the ledger's events as they were emitted; the noise is calibrated to 1e-3 of it."""
    entries = read_ledger(runs["folder"] / "ledger.jsonl")
    report = json.loads((runs["folder"] / "report.json").read_text())
    epsilon = spending_of(entries).claim.epsilon
    assert report["privacy"]["epsilon"] == epsilon
    assert 3 * (1 - 2e-3) < epsilon <= 3
    events = {len(payload["event"]["events"]) for payload in payloads(entries, "release")}
    assert events == {2}
    with_noise = " ".join(report["released"]["with_noise"])
    assert re.search(r"training loss and number of clients of every round, for 0.1 of", with_noise)
    without_noise = report["released"]["without_noise"]
    assert not any("training loss" in line or "examples of every" in line for line in without_noise)
    assert any(line.startswith("cohort size of every round") for line in without_noise)
    assert any("validation clients, who get no guarantee" in line for line in without_noise)
    verify = [sys.executable, "-m", "experiments.verify_report", f"--run={runs['folder']}"]
    assert "agrees with the ledger" in _finished(verify)
