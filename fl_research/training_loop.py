"""The training loop: rounds, evaluation, checkpoints, resume and the budget gate.

It knows no task and no mechanism. One round goes:

    gate -> cohort -> ledger "round_started" -> round (TFF) -> checkpoint prepared
         -> ledger "release" with the checkpoint's digest -> checkpoint committed -> metrics

The order is what makes the ledger trustworthy. A result is on disk, but not used, before its
release is in the ledger, and is used only after. Killed before the ledger entry, the prepared
checkpoint is thrown away and the round is called again: its first result was never used. Killed
after, the prepared checkpoint is the one that the ledger names and is taken over: nothing is
released twice. Only a checkpoint that is lost later makes a round repeat, and then the ledger
holds two releases and epsilon counts both.
"""

import collections
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow_federated as tff

from fl_research.data.blocks import cut_into_blocks
from fl_research.data.clients import Clients
from fl_research.errors import InputError
from fl_research.learning.learning_process import release_event
from fl_research.metric_table import sign
from fl_research.privacy.budget import BudgetGate
from fl_research.privacy.events import event_to_json
from fl_research.privacy.ledger import Ledger, payloads
from fl_research.privacy.plan import PrivacyPlan
from fl_research.privacy.private_metrics import ReleasedMetrics, released_metrics
from fl_research.privacy.spending import claim_of, epsilon_bound_of
from fl_research.run import server_state
from fl_research.run.checkpoints import Checkpoint, CheckpointStore
from fl_research.run.run_directory import RunDirectory
from fl_research.training_config import EVALUATION_SECONDS, TrainingConfig

Evaluate = Callable[[Any], Mapping[str, float]]


class RoundListener(Protocol):
    """Where the loop reports to while it runs."""

    def round_done(self, row: Mapping[str, Any]) -> None:
        """Takes the metrics row of one finished round."""

    def note(self, message: str) -> None:
        """Takes one line that the user should see, such as a recovered checkpoint."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOutputs:
    """Where a run writes what happened."""

    directory: RunDirectory
    ledger: Ledger
    checkpoints: CheckpointStore


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOutcome:
    """The state after the last round, and why it was the last."""

    state: Any
    rounds_completed: int
    status: str


class TrainingLoop:
    """Runs a learning process over sampled cohorts, resumably.

    Args:
      process: From `learning.build_learning_process`.
      clients: Training clients; the plan's sampler draws from them by index.
      plan: Sampler, event and relation of the releases.
      evaluate: Model weights -> validation metrics by name; None never evaluates.
      set_up_evaluation: Called with model weights before the first evaluation, whose time it does
        not count for; None where `evaluate` has nothing to build.
      config: How long, how often.
      outputs: The run's folder, ledger and checkpoints.
      listeners: Told of each round, such as a progress bar.
    """

    def __init__(
        self,
        process: tff.learning.templates.LearningProcess,
        *,
        clients: Clients,
        plan: PrivacyPlan,
        evaluate: Evaluate | None,
        set_up_evaluation: Callable[[Any], None] | None = None,
        config: TrainingConfig,
        outputs: RunOutputs,
        listeners: Sequence[RoundListener],
    ) -> None:
        self._process = process
        self._clients = clients
        self._plan = plan
        self._evaluate = evaluate
        self._set_up_evaluation = set_up_evaluation
        self._config = config
        self._outputs = outputs
        self._listeners = listeners
        self._rows: list[dict[str, Any]] = outputs.directory.read_metrics()
        self._calls = collections.Counter(
            payload["round"] for payload in payloads(outputs.ledger.entries, "round_started")
        )
        self._released = [
            payload["round"] for payload in payloads(outputs.ledger.entries, "release")
        ]
        self._gate = BudgetGate(
            expected_release_event=plan.expected_release_event,
            sampling=plan.sampling,
            target_epsilon=config.target_epsilon,
            delta=config.delta,
            planned_rounds=config.rounds,
            rule=plan.rule,
        )

    def run(self) -> TrainingOutcome:
        """Trains from the last good checkpoint to the end.

        Returns:
          The outcome; `status` is `"completed"`, `"stopped_by_budget"` or `"converged"`.

        Raises:
          InputError: The records in the folder do not fit this run.
          WorkerError: TFF's worker died; the run can be resumed.
        """
        state, done = self._resume()
        self._require_finite(state, done)
        while done < self._config.rounds:
            if self._has_converged():
                return TrainingOutcome(state=state, rounds_completed=done, status="converged")
            if not self._gate.allows([*self._released, done + 1]):
                return TrainingOutcome(
                    state=state, rounds_completed=done, status="stopped_by_budget"
                )
            state = self._run_round(state, done + 1)
            done += 1
            self._require_finite(state, done)
        return TrainingOutcome(state=state, rounds_completed=done, status="completed")

    def _resume(self) -> tuple[Any, int]:
        """The state to go on from and the number of rounds behind it."""
        initial = self._process.initialize()
        checkpoint = recover_checkpoint(self._outputs, self._note)
        if checkpoint is None:
            return initial, 0
        self._outputs.ledger.append("resumed", {"round": checkpoint.round_number})
        self._note(f"resumed after round {checkpoint.round_number}")
        state = server_state.unflatten_state(initial, checkpoint.arrays)
        row = dict(checkpoint.metadata["row"])
        written = {(r["round"], r["attempt"]) for r in self._rows}
        if (row["round"], row["attempt"]) not in written:
            self._write_row(state, row)
        return state, checkpoint.round_number

    def _run_round(self, state: Any, round_number: int) -> Any:
        """One round, in the order that the module's docstring gives; returns the new state."""
        started = time.monotonic()
        sampling, ledger = self._plan.sampling, self._outputs.ledger
        cohort = sampling.cohort(self._config.seed, round_number)
        self._calls[round_number] += 1
        call = {
            "round": round_number,
            "attempt": self._calls[round_number],
            "expected_cohort_size": float(sampling.expected_cohort_size),
            "cohort_size": len(cohort),
        }
        ledger.append("round_started", {**call, "sampler": sampling.name})
        blocks = cut_into_blocks(
            self._clients,
            cohort,
            num_blocks=self._config.num_blocks,
            seed=self._config.seed,
            round_number=round_number,
        )
        output = self._process.next(state, blocks)
        train, release = output.metrics["train"], output.metrics["release"]
        noise = {name: float(value) for name, value in dict(release["metrics"]).items()}
        released = released_metrics(self._plan, output.state.aggregator)
        row = _metrics_row(call, train, noise, released, seconds=time.monotonic() - started)
        arrays = server_state.flatten_state(output.state)
        digest = self._outputs.checkpoints.prepare(round_number, arrays, {"row": row})
        ledger.append(
            "release",
            {
                **call,
                "clip_norm": noise.get("clip_norm"),
                "noise_stddev_of_sum": noise.get("noise_stddev_of_sum"),
                "event": event_to_json(release_event(output.metrics)),
                "state_sha256": digest,
            },
        )
        self._released.append(round_number)
        self._outputs.checkpoints.commit(round_number)
        self._write_row(output.state, row)
        return output.state

    def _write_row(self, state: Any, row: dict[str, Any]) -> None:
        """Adds the round's metrics, evaluated where due."""
        if self._evaluate is not None and self._config.is_evaluation_due(row, self._rows):
            weights = self._process.get_model_weights(state)
            is_last = row["round"] == self._config.rounds
            row |= self._evaluated(weights, self._evaluate, is_last=is_last)
        self._outputs.directory.append_metrics(row)
        self._rows.append(row)
        for listener in self._listeners:
            listener.round_done(row)

    def _evaluated(self, weights: Any, evaluate: Evaluate, *, is_last: bool) -> dict[str, float]:
        """Validation metrics, epsilon so far, and how long that took.

        What is needed once whatever the schedule is no part of the time: what an evaluation is
        built of, and the claim after the last round, which the report states. Until then a bound
        that is quick to compute will do.
        """
        entries = self._outputs.ledger.entries
        if self._set_up_evaluation is not None:
            self._set_up_evaluation(weights)
            epsilon_bound_of(entries)
            self._set_up_evaluation = None
        epsilon = claim_of(entries).epsilon if is_last else math.inf
        started = time.monotonic()
        metrics = evaluate(weights)
        if not is_last:
            epsilon = epsilon_bound_of(entries)
        evaluated = {f"validation_{k}": v for k, v in metrics.items() if not math.isnan(v)}
        evaluated[EVALUATION_SECONDS] = round(time.monotonic() - started, 6)
        return evaluated | ({"epsilon": epsilon} if math.isfinite(epsilon) else {})

    def _require_finite(self, state: Any, done: int) -> None:
        """Stops a run whose model has left the numbers; more rounds would only cost epsilon."""
        if not all(np.isfinite(array).all() for array in server_state.flatten_state(state)):
            raise InputError(
                f"round={done} left a model that is not finite; take a smaller "
                "--client_learning_rate or --server_learning_rate and another --run_name"
            )

    def _note(self, message: str) -> None:
        """Tells every listener."""
        for listener in self._listeners:
            listener.note(message)

    def _has_converged(self) -> bool:
        """Whether the primary metric is no better after `early_finish_patience` evaluations."""
        patience = self._config.early_finish_patience
        if not patience:
            return False
        column = f"validation_{self._config.primary_metric}"
        better = sign(self._config.primary_metric)
        values = [
            better * float(row[column]) for row in self._rows if row.get(column) not in (None, "")
        ]
        return len(values) > patience and max(values[-patience:]) <= max(values[:-patience])


def recover_checkpoint(outputs: RunOutputs, note: Callable[[str], None]) -> Checkpoint | None:
    """Returns the newest checkpoint that the ledger vouches for.

    A prepared checkpoint is taken over if the last release in the ledger carries its digest, and
    thrown away otherwise.

    Args:
      outputs: Folder, ledger and checkpoints of the run.
      note: Told of what was found damaged.

    Raises:
      InputError: The ledger holds releases, but no good checkpoint is left.
    """
    ledger, store = outputs.ledger, outputs.checkpoints
    releases = payloads(ledger.entries, "release")
    if releases:
        last = releases[-1]
        if store.pending(last["round"]) == last["state_sha256"]:
            store.commit(last["round"])
    store.discard_pending()
    checkpoint = store.latest()
    for warning in store.warnings:
        note(warning)
    if checkpoint is None and releases:
        raise InputError(
            f"{outputs.directory.path}: the ledger holds {len(releases)} releases but no "
            "checkpoint is readable; restore the checkpoints folder, or start anew with another "
            "--run_name"
        )
    if checkpoint and checkpoint.digest not in {payload["state_sha256"] for payload in releases}:
        raise InputError(
            f"{outputs.directory.path}: no release in the ledger vouches for the checkpoint of "
            f"round {checkpoint.round_number}; restore ledger.jsonl, or start anew with another "
            "--run_name"
        )
    return checkpoint


def _metrics_row(
    call: Mapping[str, Any],
    train: Mapping[str, Any],
    noise: Mapping[str, float],
    released: ReleasedMetrics | None,
    seconds: float,
) -> dict[str, Any]:
    """The row of metrics.csv that a round fills without evaluation."""
    return {
        "round": call["round"],
        "attempt": call["attempt"],
        "seconds": round(seconds, 6),
        "cohort_size": call["cohort_size"],
        **(_exact_metrics(train) if released is None else _noised_metrics(released)),
        "clip_norm": noise.get("clip_norm"),
    }


def _exact_metrics(train: Mapping[str, Any]) -> dict[str, Any]:
    """The cohort's own training metrics."""
    examples = int(train["examples"])
    return {
        "train_loss": float(train["loss_sum"]) / examples if examples else None,
        "train_examples": examples,
        "clients_not_finite": int(train["clients_not_finite"]),
    }


def _noised_metrics(released: ReleasedMetrics) -> dict[str, Any]:
    """The private metrics, in the same columns; what has no noise stays blank."""
    return {
        "train_loss": released.mean_loss,
        "train_examples": None,
        "clients_not_finite": None,
        "train_clients_noised": released.clients,
    }
