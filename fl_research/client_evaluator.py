"""From a model's weights to the figures of a run's record, through the federated evaluation."""

from typing import Any

import numpy as np
import tensorflow_federated as tff

from fl_research.data.blocks import cut_into_blocks
from fl_research.data.client_data import ClientData
from fl_research.learning import metrics


class ClientEvaluator:
    """Evaluates weights on fixed clients; the blocks are cut once.

    Args:
      evaluation: From `learning.evaluation.build_evaluation`.
      clients: Evaluation clients, all of them in every evaluation; at least one row.
      num_blocks: Blocks to cut them into.
    """

    def __init__(
        self, evaluation: tff.Computation, clients: ClientData, *, num_blocks: int
    ) -> None:
        self._evaluation = evaluation
        self._blocks = cut_into_blocks(
            clients,
            np.arange(clients.num_clients),
            num_blocks=num_blocks,
            seed=0,
            round_number=0,
        )

    def pooled(self, weights: tff.learning.models.ModelWeights) -> dict[str, float]:
        """Returns the metrics over all rows of all clients, by name."""
        return metrics.pooled_metrics(self._evaluation(weights, self._blocks)[0])

    def record(self, weights: tff.learning.models.ModelWeights) -> dict[str, Any]:
        """Returns pooled metrics, per-client percentiles and the curves of the report's plots."""
        pooled, blocks = self._evaluation(weights, self._blocks)
        per_client = metrics.join_clients(blocks)
        shown = {name: per_client[name] for name in ("accuracy", "loss", "auc")}
        return {
            "test": metrics.pooled_metrics(pooled),
            "per_client": {name: metrics.percentiles(values) for name, values in shown.items()},
            "curves": {
                "roc": metrics.roc_curve(pooled),
                "calibration": metrics.calibration_curve(pooled),
                "per_client": {
                    name: metrics.histogram(shown[name]) for name in ("accuracy", "loss")
                },
            },
        }
