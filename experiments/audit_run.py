"""Membership inference on a finished run: loads model and data again, attacks, writes audit/."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from rich.console import Console
from rich.progress import Progress

from experiments import audit_plots
from experiments import use_case as use_cases
from fl_research.audit.membership import FEATURES, Attack, attack_members, client_features
from fl_research.errors import InputError
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.privacy.ledger import payloads, read_ledger
from fl_research.privacy.rounding import rounded_up
from fl_research.privacy.spending import claim_of, plan_of
from fl_research.run import run_directory
from fl_research.run.durable_files import storage_errors, write_atomically
from fl_research.run.record_files import plain_json
from fl_research.run.run_directory import RunDirectory
from fl_research.task import FederatedTask

FLAGS = flags.FLAGS

FOLDER = "audit"


def audit_run(folder: Path, *, seed: int, confidence: float) -> int:
    """Attacks the model of a finished run and writes FOLDER/audit; prints what was found.

    Args:
      folder: The run's.
      seed: Of folds and bootstrap.
      confidence: Of the intervals.

    Returns:
      0: what an attack finds is no verdict on the claim.

    Raises:
      InputError: The run is not finished, or its data is not the data that it was trained on.
    """
    run = RunDirectory.view(folder)
    entries = read_ledger(run.ledger_path)
    if not payloads(entries, "completed"):
        raise InputError(f"--run={folder} is not complete; finish it with its own command first")
    console = Console(stderr=True)
    task = _task_of(run, plan_of(entries))
    predict = _predictor(folder / run_directory.FINAL_MODEL / "saved_model")
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        total = task.train.num_clients + task.test.num_clients
        step = bar.add_task("losses of clients", total=total)
        members, others = (
            client_features(part, predict, lambda clients: bar.update(step, advance=clients))
            for part in (task.train, task.test)
        )
        bar.add_task("attacks", total=None)
        epsilon, delta = claim_of(entries).epsilon, plan_of(entries).get("delta")
        attacks = attack_members(
            members, others, epsilon=epsilon, delta=delta, confidence=confidence, seed=seed
        )
    claim = {"claimed_epsilon": epsilon, "delta": delta}
    record = _record(attacks, members, others, claim, {"confidence": confidence, "seed": seed})
    _write(folder / FOLDER, record, attacks)
    print(_markdown(record))
    print(f"written: {folder / FOLDER}")
    return 0


def _task_of(run: RunDirectory, plan: Mapping[str, Any]) -> FederatedTask:
    """The run's data, loaded again as its flags say."""
    use_case = use_cases.find(plan["use_case"])  # Declares its flags.
    FLAGS(["audit_privacy", f"--flagfile={run.flags_path}"])
    task = use_case.load(FLAGS.seed)
    binary = isinstance(task.objective, BinaryClassification) and "inputs" in task.train.row_types
    if not binary or task.test_clients_train:
        raise InputError(
            f"the run is of {task.name}; membership inference is there for tables with binary "
            "labels and test clients that were not trained on, such as those of churn_prevention"
        )
    if task.data_facts.get("sha256") != plan.get("data_sha256"):
        raise InputError(
            "the data is not what the run was trained on (its SHA-256 is another); restore it, or "
            "who trained and who did not cannot be told"
        )
    return task


def _predictor(path: Path) -> Any:
    """Inputs -> probabilities, by the run's saved model."""
    import tensorflow as tf

    if not path.is_dir():
        raise InputError(f"{path} is missing; restore the run's final model")
    model = tf.saved_model.load(str(path))
    served = model.signatures["serving_default"]
    return lambda inputs: served(inputs=tf.constant(inputs, tf.float32))["probability"].numpy()


def _record(
    attacks: Sequence[Attack],
    members: np.ndarray,
    others: np.ndarray,
    claim: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """What membership.json holds."""
    return plain_json(
        {
            "released": "final model",
            "unit": "client",
            "features": list(FEATURES),
            "members": len(members),
            "others": len(others),
            "mean_loss": {"members": members[:, 0].mean(), "others": others[:, 0].mean()},
            **claim,
            **settings,
            "attacks": [attack.to_json() for attack in attacks],
        }
    )


def _write(folder: Path, record: dict[str, Any], attacks: Sequence[Attack]) -> None:
    """Writes membership.json, membership.md and the ROC curves."""
    with storage_errors(folder):
        folder.mkdir(exist_ok=True)
    write_atomically(folder / "membership.json", json.dumps(record, indent=2) + "\n")
    write_atomically(folder / "membership.md", _markdown(record) + "\n")
    claim = record["claimed_epsilon"]
    audit_plots.save_roc(
        folder / "membership_roc.png",
        attacks,
        epsilon=np.inf if claim is None else claim,
        delta=record["delta"] or 0.0,
        others=record["others"],
    )


def _markdown(record: dict[str, Any]) -> str:
    """The record for people."""
    claim, confidence = record["claimed_epsilon"], record["confidence"]
    stated = "nothing" if claim is None else f"ε = {rounded_up(claim)}, δ = {record['delta']:g}"
    lines = [
        "# Membership inference",
        "",
        f"Can {record['members']:,} clients that trained the final model be told from "
        f"{record['others']:,} that did not, by its losses on their rows? The run claims: "
        f"{stated}.",
        "",
        f"| attack | AUC ({confidence:.0%} interval) | advantage ({confidence:.0%} interval) |",
        "|---|---|---|",
    ]
    for attack in record["attacks"]:
        lines.append(
            f"| {attack['name']} | {attack['auc']:.4f} {_interval(attack['auc_interval'])} | "
            f"{attack['advantage']:.4f} {_interval(attack['advantage_interval'])} |"
        )
    lines += [
        "",
        "| attack | false positives | true positives | most that the claim allows |",
        "|---|---|---|---|",
    ]
    for attack in record["attacks"]:
        for rate in attack["rates"]:
            found = rate["true_positive_rate"]
            text = "too few clients to say"
            if found is not None:
                text = f"{found:.2%} {_interval(rate['interval'])}"
            lines.append(
                f"| {attack['name']} | {rate['false_positive_rate']:.1%} | {text} | "
                f"{rate['largest_allowed']:.2%} |"
            )
    lines += [
        "",
        "An AUC of 0.5 is guessing. The advantage is taken at the best threshold, and so is biased "
        "upwards. These two attacks are simple ones: that they fail does not show that stronger "
        "ones would. What the claim allows holds for every attack.",
        "",
        "![ROC curves](membership_roc.png)",
    ]
    return "\n".join(lines)


def _interval(ends: Sequence[float]) -> str:
    """Two ends as text."""
    return f"({ends[0]:.4f} to {ends[1]:.4f})"
