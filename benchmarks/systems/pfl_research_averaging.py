"""A round by pfl-research: its federated averaging and Gaussian mechanism in its simulated backend.

The backend is told which clients to take by a sampler that walks through the round's cohort. With
several workers, of which this process is one, each trains every so manieth client of it, and
pfl-research adds their sums up. Evaluation, metrics and callbacks are off.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.context import CentralContext
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.hyperparam import HyperParam, NNTrainHyperParams
from pfl.internal.ops import pytorch_ops
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from pfl.postprocessor.base import Postprocessor
from pfl.privacy import CentrallyAppliedPrivacyMechanism, GaussianMechanism
from pfl.stats import MappedVectorStatistics

from benchmarks.systems import pfl_research_models
from benchmarks.workloads import Workload

_NEVER = 2**31


class _CohortSize(HyperParam[int]):
    """The size of the cohort, which a Poisson sample changes in every round."""

    def __init__(self) -> None:
        """Starts with no clients."""
        self.clients = 0

    def value(self) -> int:
        """Returns the clients of this round."""
        return self.clients


class _DivideByExpected(Postprocessor[MappedVectorStatistics]):
    """Lets the sum be divided by the expected size of the cohort instead of its actual size."""

    def __init__(self, expected_cohort_size: int) -> None:
        """Keeps the divisor."""
        self._divisor = float(expected_cohort_size)

    def postprocess_server(
        self,
        *,
        stats: MappedVectorStatistics,
        central_context: CentralContext,
        aggregate_metrics: Metrics,
    ) -> tuple[MappedVectorStatistics, Metrics]:
        """Replaces the weight that the averaging divides by."""
        del central_context, aggregate_metrics
        stats.weight = self._divisor
        return stats, Metrics()


class Averaging:
    """The rounds of a workload from its initial weights on.

    Args:
      workload: The workload.
      seed: Of the noise; the same for all workers.
    """

    def __init__(self, workload: Workload, seed: int) -> None:
        """Builds the model, the clients' batches and the backend."""
        torch.set_num_threads(1)
        np.random.seed(seed)  # pfl-research draws its seeds from here when its parts are made
        self._workload = workload
        self._workers = pytorch_ops.distributed.world_size
        self._module = pfl_research_models.BenchmarkModel(workload)
        self._model = PyTorchModel(
            self._module,
            local_optimizer_create=torch.optim.SGD,
            central_optimizer=torch.optim.SGD(
                self._module.parameters(), lr=workload.server_learning_rate
            ),
        )
        self._clients = [_dataset(workload, client) for client in range(workload.num_clients)]
        self._cohort: Iterator[int] = iter(())
        self._cohort_size = _CohortSize()
        self._backend = self._make_backend()
        self._train_params = NNTrainHyperParams(
            local_num_epochs=1,
            local_learning_rate=workload.client_learning_rate,
            local_batch_size=workload.batch_size,
        )
        self._algorithm = FederatedAveraging()
        # The algorithm evaluates its iteration 0 whatever its parameters say, so it starts with 1.
        self._algorithm._current_central_iteration = 1
        self._iterations = 1

    def run_round(self, round_number: int) -> None:
        """Runs a round; returns when the model has its new weights."""
        cohort = self._workload.cohort(round_number)
        self._cohort_size.clients = len(cohort)
        # pfl-research draws a client for every worker at once, also where the cohort has ended.
        self._cohort = itertools.chain(self._balanced(cohort), itertools.repeat(int(cohort[0])))
        self._iterations += 1
        self._algorithm.run(
            NNAlgorithmParams(
                central_num_iterations=self._iterations,
                evaluation_frequency=_NEVER,
                train_cohort_size=self._cohort_size,
                val_cohort_size=None,
            ),
            self._backend,
            self._model,
            self._train_params,
            send_metrics_to_platform=False,
        )

    def weights(self) -> dict[str, np.ndarray]:
        """Returns the global weights by canonical name."""
        return self._module.canonical_weights()

    def _make_backend(self) -> SimulatedBackend:
        """Returns the backend, which clips each update and adds noise to their sum."""
        dataset = FederatedDataset(self._clients.__getitem__, lambda: next(self._cohort))
        mechanism = GaussianMechanism(self._workload.clip_norm, self._workload.noise_multiplier)
        return SimulatedBackend(
            training_data=dataset,
            val_data=dataset,
            postprocessors=[
                _DivideByExpected(self._workload.expected_cohort_size),  # at the server comes last
                CentrallyAppliedPrivacyMechanism(mechanism),
            ],
        )

    def _balanced(self, cohort: np.ndarray) -> list[int]:
        """Orders a cohort so that the workers, which take clients in turn, get equally many rows.

        The largest clients go first, and every other turn goes through the workers backwards.
        """
        if self._workers == 1:
            return cohort.tolist()
        rows = np.diff(self._workload.row_splits)[cohort]
        falling = cohort[np.argsort(-rows, kind="stable")].tolist()
        turns = [falling[i : i + self._workers] for i in range(0, len(falling), self._workers)]
        return [c for i, turn in enumerate(turns) for c in (turn[::-1] if i % 2 else turn)]


def _dataset(workload: Workload, client: int) -> PyTorchTensorDataset:
    """Returns the rows of a client, which keep the batches once they are cut."""
    dataset = PyTorchTensorDataset(pfl_research_models.client_tensors(workload, client))
    for _ in dataset.iter(workload.batch_size):
        pass
    return dataset
