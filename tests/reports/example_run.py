"""Run folders for tests: real small DP-FedAvg runs, in numpy, with their real records and ledger.

Logistic regression on made-up customers, one row each unless asked otherwise, so that a client's
gradient is its update: cohorts of the real samplers, clipped updates, Gaussian noise. Every number
in the records was computed by the run.
"""

import dataclasses
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import dp_accounting
import numpy as np
import pandas as pd

from fl_research.data import client_sampling
from fl_research.privacy import accounting, events, ledger, spending
from fl_research.run import cohort_seed
from tests.reports import example_data

CLIP_NORM = 1.0
SERVER_LEARNING_RATE = 4.0
EVALUATE_EVERY = 10
_COUNT_MULTIPLIER = 40.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """What a run to be written is like.

    Attributes:
      rounds: Number of rounds.
      noise_multiplier: Relative to the clip; None: a run without privacy.
      adaptive: Whether the clip changes from round to round and its count is noised too.
      sampling: Name of the sampler.
      noise_seed: None: fresh noise.
      clients: Number of clients in all.
      rows: Rows of each client.
      delta: δ of the plan.
      target_epsilon: Budget in the plan.
      schema_inferred: Whether the schema was read off the data.
      repeated_round: A round that is released twice, as after a lost checkpoint.
      failed_round: A round that was started once more without a release.
    """

    rounds: int = 100
    noise_multiplier: float | None = 1.0
    adaptive: bool = False
    sampling: str = "poisson"
    noise_seed: int | None = None
    clients: int = 6000
    rows: int = 1
    delta: float = 1e-5
    target_epsilon: float | None = None
    schema_inferred: bool = False
    repeated_round: int | None = None
    failed_round: int | None = None


class _Run:
    """One run while it trains."""

    def __init__(self, folder: Path, example: Example) -> None:
        self.folder, self.example = folder, example
        self.private = example.noise_multiplier is not None
        self.inputs, self.labels = example_data.customers(example.clients, example.rows)
        order = np.random.default_rng(1).permutation(example.clients)
        cut = [int(0.7 * example.clients), int(0.8 * example.clients)]
        self.train, self.validation, self.test = np.split(order, cut)
        self.sampler = client_sampling.build_client_sampling(
            example.sampling,
            population=len(self.train),
            clients_per_round=None if example.sampling == "full" else 0.1 * len(self.train),
        )
        self.ledger = ledger.Ledger.open(folder / "ledger.jsonl")
        self.cohort_seed = 0
        if example.noise_seed is None:
            (folder / cohort_seed.FILE_NAME).write_text("0\n")  # The same in every test run.
            self.cohort_seed = cohort_seed.secret_seed(folder, expected_sha256=None)
        self.weights = np.zeros(self.inputs.shape[-1])
        self.noise = np.random.default_rng(example.noise_seed)
        self.clip_norm = CLIP_NORM
        self.rows: list[dict[str, Any]] = []
        self.attempts: dict[int, int] = {}

    def plan(self) -> None:
        """Writes the ledger's first entry."""
        relation, sensitivity = accounting.relation_for(self.sampler)
        multiplier = self.example.noise_multiplier or 0.0
        details = {
            "clip_norm": CLIP_NORM if self.private else None,
            "noise_multiplier": multiplier,
            "noise_stddev_of_sum": multiplier * CLIP_NORM,
            "noise_stddev_of_mean": multiplier * CLIP_NORM / self.sampler.expected_cohort_size,
            "expected_cohort_size": self.sampler.expected_cohort_size,
            "parameters": {},
            "references": [],
        }
        self.ledger.append(
            "plan",
            {
                "mechanism": self._mechanism(),
                "details": details,
                "sampling": self.sampler.to_dict(),
                "delta": self.example.delta if self.private else None,
                "target_epsilon": self.example.target_epsilon,
                "neighboring_relation": accounting.relation_name(relation),
                "sensitivity": sensitivity * CLIP_NORM if self.private else None,
                "expected_release_event": self._release()["event"] if self.private else None,
                "accounting_rule": {"name": "independent", "noise": "gaussian"},
                "unit": "one customer",
                "rounds_planned": self.example.rounds,
                "seeds": {
                    "seed": 0,
                    "noise": "fresh entropy"
                    if self.example.noise_seed is None
                    else "from --noise_seed",
                    "cohorts": "secret" if self.example.noise_seed is None else "from --seed",
                    "cohort_seed_sha256": cohort_seed.sha256(self.cohort_seed)
                    if self.example.noise_seed is None
                    else None,
                },
            },
        )

    def _mechanism(self) -> str:
        """Name of the mechanism."""
        if not self.private:
            return "none"
        return "adaptive_gaussian" if self.example.adaptive else "gaussian"

    def round(self, number: int) -> None:
        """One round as the training loop records it."""
        cohort = self.sampler.cohort(self.cohort_seed, number)
        self.attempts[number] = self.attempts.get(number, 0) + 1
        call = {
            "round": number,
            "attempt": self.attempts[number],
            "expected_cohort_size": self.sampler.expected_cohort_size,
            "cohort_size": len(cohort),
        }
        self.ledger.append("round_started", {**call, "sampler": self.sampler.name})
        if number == self.example.failed_round and call["attempt"] == 1:
            self.ledger.append("resumed", {"round": number - 1})
            self.round(number)
            return
        inputs, labels = self.inputs[self.train[cohort]], self.labels[self.train[cohort]]
        logits = inputs @ self.weights
        updates = -((example_data.sigmoid(logits) - labels)[..., None] * inputs).mean(axis=1)
        total = updates.sum(axis=0)
        if self.example.noise_multiplier is not None:
            norms = np.maximum(np.linalg.norm(updates, axis=1), 1e-12)
            total = (updates * np.minimum(1.0, self.clip_norm / norms)[:, None]).sum(axis=0)
            stddev = self._update_multiplier() * self.clip_norm
            total = total + self.noise.normal(0.0, stddev, total.shape)
        step = SERVER_LEARNING_RATE / self.sampler.expected_cohort_size
        self.weights = self.weights + step * total
        self.ledger.append("release", {**call, **self._release()})
        self.rows.append(
            self._row(call, float(example_data.losses(logits, labels).mean()), inputs.shape)
        )
        if self.example.adaptive:
            self.clip_norm *= 0.97

    def _update_multiplier(self) -> float:
        """The noise on the sum of updates / clip norm; the count's takes its share of the total."""
        total = self.example.noise_multiplier or 0.0
        return (total**-2 - _COUNT_MULTIPLIER**-2) ** -0.5 if self.example.adaptive else total

    def _release(self) -> dict[str, Any]:
        """What a ledger entry says of the release of the current weights."""
        event: dp_accounting.DpEvent = dp_accounting.NonPrivateDpEvent()
        clip_norm = stddev = None
        if self.example.noise_multiplier is not None:
            event = dp_accounting.GaussianDpEvent(self._update_multiplier())
            clip_norm, stddev = self.clip_norm, self._update_multiplier() * self.clip_norm
            if self.example.adaptive:
                count = dp_accounting.GaussianDpEvent(_COUNT_MULTIPLIER)
                event = dp_accounting.ComposedDpEvent([event, count])
        return {
            "clip_norm": clip_norm,
            "noise_stddev_of_sum": stddev,
            "event": events.event_to_json(event),
            "state_sha256": hashlib.sha256(self.weights.tobytes()).hexdigest(),
        }

    def _row(self, call: dict[str, Any], loss: float, shape: tuple[int, ...]) -> dict[str, Any]:
        """The round's row of metrics.csv; epsilon is filled in afterwards."""
        row = {
            "round": call["round"],
            "attempt": call["attempt"],
            "seconds": 0.02,
            "cohort_size": call["cohort_size"],
            "train_loss": loss,
            "train_examples": shape[0] * shape[1],
            "clients_not_finite": 0,
            "clip_norm": self.clip_norm if self.private else None,
            "validation_auc": None,
            "validation_loss": None,
        }
        if call["round"] % EVALUATE_EVERY == 0 or call["round"] == self.example.rounds:
            pooled, _ = self.evaluate(self.validation)
            row |= {"validation_auc": pooled["auc"], "validation_loss": pooled["log_loss"]}
            if self.private:
                epsilon = spending.spending_of(self.ledger.entries).claim.epsilon
                row["epsilon"] = epsilon if np.isfinite(epsilon) else None
        return row

    def evaluate(self, clients: np.ndarray) -> tuple[dict[str, float], dict[str, Any]]:
        """Pooled metrics, and the curves, of the current weights."""
        return example_data.evaluate(
            example_data.sigmoid(self.inputs[clients] @ self.weights), self.labels[clients]
        )


def write(folder: Path, example: Example | None = None) -> Path:
    """Trains, and writes every record of the run into a new folder, except the report.

    Args:
      folder: A folder that does not exist yet.
      example: What the run is like.
    """
    example = example or Example()
    folder.mkdir(parents=True)
    run = _Run(folder, example)
    run.plan()
    for number in range(1, example.rounds + 1):
        run.round(number)
        if number == example.repeated_round:
            run.ledger.append("resumed", {"round": number - 1})
            run.round(number)
    (folder / "flags.txt").write_text(f"--rounds={example.rounds}\n--seed=0\n", encoding="utf-8")
    if run.rows:
        pd.DataFrame(run.rows).to_csv(folder / "metrics.csv", index=False)
    _write_json(folder / "evaluation.json", _evaluation(run))
    _write_json(folder / "run.json", _run_json(run))
    _complete(folder, run.ledger)
    return folder


def _complete(folder: Path, book: ledger.Ledger) -> None:
    """Closes the ledger over the files as they are now, as the end of a run does."""
    names = ("flags.txt", "metrics.csv", "evaluation.json", "run.json")
    files = [folder / name for name in names if (folder / name).exists()]
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    book.append("completed", digests | {"status": "completed"})
    book.close()


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _evaluation(run: _Run) -> dict[str, Any]:
    """evaluation.json, with a central baseline and the trivial one."""
    from sklearn.linear_model import LogisticRegression

    pooled, curves = run.evaluate(run.test)
    per_client, histograms = curves.pop("percentiles"), curves.pop("per_client")
    central = LogisticRegression().fit(
        run.inputs[run.train].reshape(-1, example_data.FEATURES), run.labels[run.train].ravel()
    )
    predicted = central.predict_proba(run.inputs[run.test].reshape(-1, example_data.FEATURES))[:, 1]
    labels = run.labels[run.test]
    baselines = {
        "central": example_data.evaluate(predicted.reshape(labels.shape), labels)[0],
        "trivial": example_data.evaluate(
            np.full(labels.shape, run.labels[run.train].mean()), labels
        )[0],
    }
    self_test = None
    if run.example.noise_multiplier is not None:
        stddev = run.example.noise_multiplier * CLIP_NORM
        measured = float(np.std(np.random.default_rng(5).normal(0, stddev, 20_000)))
        self_test = {
            "declared_stddev": stddev,
            "measured_stddev": measured,
            "values": 20_000,
            "passed": True,
            "false_alarm_probability": 1e-6,
        }
    return {
        "primary_metric": "auc",
        "split": "test",
        "test": pooled,
        "per_client": {**per_client, "auc": None},
        "histograms": histograms,
        "findings": {"roc_and_calibration": curves},
        "evaluated_on": "test clients that were never trained on",
        "baselines": baselines,
        "noise_self_test": self_test,
    }


def _run_json(run: _Run) -> dict[str, Any]:
    """run.json."""
    example = run.example
    return {
        "status": "completed",
        "use_case": "churn_prevention",
        "run_name": run.folder.name,
        "rounds_planned": example.rounds,
        "rounds_completed": example.rounds,
        "seconds": 21.5,
        "sessions": 1,
        "command": f"python -m experiments.churn_prevention --rounds={example.rounds} --seed=0",
        "git_commit": "1f3870be274f6c49b3e31a0c6728957f00000000",
        "versions": {"dp-accounting": "0.4.3", "numpy": np.__version__},
        "machine": {"cpus": 2, "memory_gib": 15.6, "platform": "Linux"},
        "seeds": {"seed": 0, "noise_seed": example.noise_seed},
        "model": {"name": "logistic_regression", "parameters": example_data.FEATURES, "config": {}},
        "client_update": {"local_epochs": 1, "batch_size": 32, "weighting": "uniform"},
        "client_optimizer": {"name": "sgd", "learning_rate": 1.0},
        "server_optimizer": {"name": "sgd", "learning_rate": SERVER_LEARNING_RATE},
        "data": {
            "dataset": "synthetic",
            "source": "generated by the test",
            "sha256": "16320c9c1ec72448db59aa0a26a0b95401046bef5d02fd3aeb906448e3055e91",
            "terms": "made up",
            "clients": example.clients,
            "examples": example.clients * example.rows,
            "features": example_data.FEATURES,
            "split": {
                "train_clients": len(run.train),
                "validation_clients": len(run.validation),
                "test_clients": len(run.test),
            },
            "unit": "one customer",
            "unit_contains": "all rows of one customer",
            "max_rows_per_client": example.rows,
            "largest_client_rows": example.rows,
            "schema_inferred": example.schema_inferred,
            "cleaning": {"rows read": example.clients * example.rows, "charges: missing -> 0": 11},
            "notes": ["made for a test"],
            "public": ["column bounds and categories of the schema"],
        },
        "evaluation_schedule": f"every {EVALUATE_EVERY} rounds",
        "early_finish": False,
        "participation": _participation(run),
    }


def _participation(run: _Run) -> dict[str, int | None]:
    """Highest number of rounds of a client, and the smallest gap between two rounds of one."""
    rounds = [e.payload["round"] for e in run.ledger.entries if e.kind == "release"]
    taken: dict[int, list[int]] = {}
    for position, number in enumerate(rounds):
        for client in run.sampler.cohort(run.cohort_seed, number):
            taken.setdefault(int(client), []).append(position)
    gaps = [b - a for at in taken.values() for a, b in itertools.pairwise(at)]
    return {
        "highest": max(map(len, taken.values()), default=0),
        "smallest_separation": min(gaps, default=None),
    }
