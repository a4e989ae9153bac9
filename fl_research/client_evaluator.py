"""From a model's weights to the figures of a run's record, through the federated evaluation.

Clients are evaluated in pieces of a bounded size, and the sums of the pieces added up, so that a
population on disk is never in memory as a whole. Where all clients fit into one piece, as mostly,
its blocks are cut once and kept.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_federated as tff

from fl_research.data.blocks import cut_into_blocks
from fl_research.data.clients import Clients
from fl_research.learning import client_spread
from fl_research.objectives.objective import Objective

Evaluation = Callable[[Any, Any], Any]
"""Weights and blocks -> `learning.evaluation.EvaluationOutput`; a `tff.Computation` is one."""

_PIECE_BYTES = 1 << 26  # Features of the rows that are evaluated in one call.


class ClientEvaluator:
    """Evaluates weights on fixed clients.

    Args:
      evaluation: From `learning.evaluation.build_evaluation`.
      clients: Evaluation clients, all of them in every evaluation; at least one row.
      objective: What the model's outputs mean.
      num_blocks: Blocks to cut each piece into.
      piece_bytes: Features of the rows of one piece; a client is never cut.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        clients: Clients,
        *,
        objective: Objective,
        num_blocks: int,
        piece_bytes: int = _PIECE_BYTES,
    ) -> None:
        self._evaluation = evaluation
        self._clients = clients
        self._objective = objective
        self._num_blocks = num_blocks
        self._pieces = _pieces(clients, piece_bytes)
        self._kept = self._cut(self._pieces[0]) if len(self._pieces) == 1 else None

    def set_up(self, weights: tff.learning.models.ModelWeights) -> None:
        """Evaluates nobody: what is traced and compiled once is so before the first evaluation."""
        self._evaluation(weights, self._cut(np.zeros(0, np.int64)))

    def pooled(self, weights: tff.learning.models.ModelWeights) -> dict[str, float]:
        """Returns the metrics over all rows of all clients, by name."""
        return self._objective.metrics(self.sums(weights))

    def sums(self, weights: tff.learning.models.ModelWeights) -> Mapping[str, Any]:
        """Returns the objective's sums over all rows of all clients, by name."""
        return self._evaluate(weights)[0]

    def record(self, weights: tff.learning.models.ModelWeights) -> dict[str, Any]:
        """Returns pooled metrics, percentiles and histograms over clients, and the findings."""
        pooled, blocks = self._evaluate(weights)
        per_client = client_spread.join_clients(blocks)
        del per_client["examples"]
        return {
            "test": self._objective.metrics(pooled),
            "per_client": {n: client_spread.percentiles(v) for n, v in per_client.items()},
            "histograms": {n: client_spread.histogram(v) for n, v in per_client.items()},
            "findings": self._objective.findings(pooled),
        }

    def _evaluate(
        self, weights: tff.learning.models.ModelWeights
    ) -> tuple[Mapping[str, Any], list[Any]]:
        """The pooled sums of all pieces, and the per-client metrics of all their blocks."""
        sums: dict[str, Any] = {}
        per_client: list[Any] = []
        for blocks in self._blocks_of_pieces():
            pooled, of_blocks = self._evaluation(weights, blocks)
            sums = {name: sums.get(name, 0) + value for name, value in pooled.items()}
            per_client += of_blocks
        return sums, per_client

    def _blocks_of_pieces(self) -> Iterator[list[Any]]:
        """Yields the blocks of each piece."""
        if self._kept is not None:
            yield self._kept
            return
        for piece in self._pieces:
            yield self._cut(piece)

    def _cut(self, piece: np.ndarray) -> list[Any]:
        """Cuts the clients of one piece into blocks; evaluation draws nothing, any seed does."""
        return list(
            cut_into_blocks(
                self._clients, piece, num_blocks=self._num_blocks, seed=0, round_number=0
            )
        )


def _pieces(clients: Clients, piece_bytes: int) -> list[np.ndarray]:
    """The clients in order, cut where a client's first row begins a new piece."""
    row_bytes = sum(
        dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        for shape, dtype in clients.row_types.values()
    )
    rows = clients.rows_per_client
    piece = (np.cumsum(rows) - rows) * row_bytes // piece_bytes
    edges = np.flatnonzero(np.diff(piece)) + 1
    return np.split(np.arange(clients.num_clients), edges)
