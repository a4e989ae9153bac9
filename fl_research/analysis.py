"""Analyses: what a use case computes from the trained model before the report is written.

What an analysis returns becomes a finding: it goes into evaluation.json under the analysis' name,
and the file of that name in `reports/findings` draws it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fl_research.client_evaluator import ClientEvaluator, Evaluation
from fl_research.data.clients import Clients

if TYPE_CHECKING:
    import tensorflow_federated as tff

    from fl_research.objectives.objective import Objective
    from fl_research.task import FederatedTask

_ROWS_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalysisContext:
    """What an analysis may look at.

    Attributes:
      task: The task of the run.
      model: The model that was trained.
      weights: Its trained weights, a `ModelWeights`.
      seed: The run's seed.
      num_blocks: Blocks that clients are cut into.
      folder: The run's folder; an analysis may write files of its own there.
      evaluation: The federated evaluation.
      note: Tells the user one line.
    """

    task: "FederatedTask"
    model: "tff.learning.models.FunctionalModel"
    weights: "tff.learning.models.ModelWeights"
    seed: int
    num_blocks: int
    folder: Path
    evaluation: Evaluation
    note: Callable[[str], None] = lambda line: None

    @property
    def objective(self) -> "Objective":
        """What the model's outputs mean."""
        return self.task.objective

    def pooled(self, clients: Clients, weights: Any = None) -> Mapping[str, Any]:
        """Returns the objective's sums over all rows of these clients.

        Args:
          clients: At least one row.
          weights: Other weights than the trained ones.
        """
        return self._evaluator(clients).sums(self._weights(weights))

    def evaluate(self, clients: Clients, weights: Any = None) -> dict[str, float]:
        """Returns the metrics over all rows of these clients; see `pooled`."""
        return self.objective.metrics(self.pooled(clients, weights))

    def predict(
        self, features: Mapping[str, np.ndarray], weights: Any = None
    ) -> dict[str, np.ndarray]:
        """Returns the objective's predictions for rows, by name.

        Args:
          features: Name to array `[rows, ...]`, at least one row.
          weights: Other weights than the trained ones.
        """
        import tensorflow as tf

        chosen = tf.nest.map_structure(tf.convert_to_tensor, self._weights(weights))
        model_weights = (chosen.trainable, chosen.non_trainable)
        rows = len(next(iter(features.values())))
        pieces = []
        for first in range(0, rows, _ROWS_AT_ONCE):
            piece = {n: tf.constant(v[first : first + _ROWS_AT_ONCE]) for n, v in features.items()}
            outputs = self.model.predict_on_batch(model_weights, piece, training=False)
            pieces.append(self.objective.predictions(outputs, piece))
        return {name: np.concatenate([p[name].numpy() for p in pieces]) for name in pieces[0]}

    def _weights(self, weights: Any) -> Any:
        """The given weights, or the trained ones."""
        return self.weights if weights is None else weights

    def _evaluator(self, clients: Clients) -> ClientEvaluator:
        """The evaluation of these clients."""
        return ClientEvaluator(
            self.evaluation, clients, objective=self.objective, num_blocks=self.num_blocks
        )


class Analysis(Protocol):
    """Something computed from the trained model."""

    @property
    def name(self) -> str:
        """The finding's name, that of a file of reports/findings."""

    def __call__(self, context: AnalysisContext) -> dict[str, Any]:
        """Returns the finding, plain JSON; its `test_metrics`, if any, join those of the test rows.

        Args:
          context: What may be looked at.
        """
