"""The drivers on TensorFlow Federated do the work that numpy does by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import workloads
from benchmarks.agreement import disagreement
from benchmarks.driver_process import DriverProcess
from benchmarks.systems.protocol import CHECK_ROUND
from benchmarks.workloads import Workload

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

Weights = dict[str, np.ndarray]


def _mlp_gradient(weights: Weights, inputs: np.ndarray, labels: np.ndarray) -> Weights:
    """The gradient of the mean softmax cross entropy of one hidden layer."""
    hidden = np.maximum(inputs @ weights["hidden_kernel"] + weights["hidden_bias"], 0)
    logits = hidden @ weights["output_kernel"] + weights["output_bias"]
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    slopes = exponents / exponents.sum(axis=1, keepdims=True)
    slopes[np.arange(len(labels)), labels] -= 1
    slopes /= len(labels)
    hidden_slopes = (slopes @ weights["output_kernel"].T) * (hidden > 0)
    return {
        "hidden_kernel": inputs.T @ hidden_slopes,
        "hidden_bias": hidden_slopes.sum(axis=0),
        "output_kernel": hidden.T @ slopes,
        "output_bias": slopes.sum(axis=0),
    }


def _telco_gradient(weights: Weights, inputs: np.ndarray, labels: np.ndarray) -> Weights:
    """The gradient of the mean sigmoid cross entropy of one logit."""
    logits = inputs @ weights["output_kernel"] + weights["output_bias"]
    slopes = (1 / (1 + np.exp(-logits)) - labels[:, np.newaxis]) / len(labels)
    return {"output_kernel": inputs.T @ slopes, "output_bias": slopes.sum(axis=0)}


GRADIENTS = {"mlp": _mlp_gradient, "skewed": _mlp_gradient, "telco": _telco_gradient}


def _round_by_hand(workload: Workload) -> Weights:
    """The weights after the round of the check, in float64."""
    initial = {name: w.astype(np.float64) for name, w in workload.initial_weights.items()}
    total = {name: np.zeros_like(w) for name, w in initial.items()}
    for client in workload.cohort(CHECK_ROUND):
        rows, labels = _client(workload, client)
        local = dict(initial)
        for first in range(0, len(labels), workload.batch_size):
            batch = slice(first, first + workload.batch_size)
            gradient = GRADIENTS[workload.name](local, rows[batch], labels[batch])
            local = {name: local[name] - 0.1 * gradient[name] for name in local}
        update = {name: local[name] - initial[name] for name in local}
        norm = np.sqrt(sum(np.sum(u**2) for u in update.values()))
        for name in total:
            total[name] += update[name] * min(1.0, workload.check_clip_norm / norm)
    return {name: initial[name] + total[name] / workload.expected_cohort_size for name in total}


def _client(workload: Workload, client: int) -> tuple[np.ndarray, np.ndarray]:
    """The inputs of a client in float64, and its labels."""
    features, labels = workload.client(client)
    return features["inputs"].astype(np.float64), labels


@pytest.mark.parametrize("system", ["ours", "stock_tff"])
def test_a_round_without_noise_is_that_of_numpy(system: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"benchmarks.systems.{system}"]
    log_path = tmp_path / "log"
    driver = DriverProcess(system, command, directory=REPOSITORY, log_path=log_path)
    try:
        for name in GRADIENTS:
            workload = workloads.load(name)
            driver.ask(
                "check",
                workload=name,
                clip_norm=workload.check_clip_norm,
                path=str(tmp_path / f"{name}.npz"),
                timeout_seconds=300.0,
            )
            with np.load(tmp_path / f"{name}.npz") as weights:
                found = dict(weights)
            expected = _round_by_hand(workload)
            assert disagreement(found, expected, workload.initial_weights) is None, name
        driver.close()
    finally:
        driver.kill()
