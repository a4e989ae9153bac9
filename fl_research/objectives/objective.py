"""Objective: what a model's outputs mean: their loss, their metrics, what needs no model.

An objective is a frozen dataclass in a file of its own, made by a use case and given to the task.
Models ask it for the shape of their outputs and for the loss, the evaluation for sums that add up
over blocks and clients, the report for metrics and findings. TensorFlow is imported inside its
methods, so that wrong data is told before TensorFlow is loaded.
"""

from __future__ import annotations

import abc
import collections
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fl_research.data.clients import Clients

if TYPE_CHECKING:
    import tensorflow as tf

    from fl_research.objectives.client_rows import ClientRows


class Objective(abc.ABC):
    """What a model's outputs mean.

    Attributes:
      primary_metric: The metric that the report leads with, a name of `metric_table.METRICS`.
      label_shape: Shape of the label of one row.
      label_dtype: Its type.
      num_outputs: Numbers that a model gives for one row; None for one number without an axis, so
        that outputs are `float32[..., rows]` instead of `float32[..., rows, num_outputs]`.
      shared_score: Whether a model's outputs differ by constants only: one score, and a bias for
        each output (Cao et al. 2020, "Rank consistent ordinal regression").
    """

    primary_metric: str
    label_shape: tuple[int, ...] = ()
    label_dtype: ClassVar[type] = np.int32
    num_outputs: int | None = None
    shared_score: ClassVar[bool] = False

    @abc.abstractmethod
    def check(self, train: Clients) -> None:
        """Checks the labels of the training clients.

        Raises:
          InputError: They are not what the objective needs; says which and the way out.
        """

    @abc.abstractmethod
    def row_loss(self, outputs: Any, labels: tf.Tensor) -> tf.Tensor:
        """Returns each row's loss, float32[..., rows]; leading axes of clients are allowed.

        Args:
          outputs: What the model gives, float32[..., rows(, num_outputs)].
          labels: [..., rows, *label_shape].
        """

    @abc.abstractmethod
    def pooled(
        self, outputs: Any, labels: tf.Tensor, features: Mapping[str, tf.Tensor]
    ) -> collections.OrderedDict:
        """Returns sums over all rows of a block, which add up over blocks; `examples` is one."""

    @abc.abstractmethod
    def per_client(
        self,
        outputs: Any,
        labels: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        clients: ClientRows,
    ) -> collections.OrderedDict:
        """Returns metrics of each client, float64[clients] by name, none negative; NaN: undefined.

        The first of them is the one whose spread over clients is drawn.
        """

    @abc.abstractmethod
    def metrics(self, pooled: Mapping[str, Any]) -> dict[str, float]:
        """Returns the metrics by name from the added sums of `pooled`; NaN where undefined."""

    def findings(self, pooled: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what the report draws, as plain JSON by the name of a file of reports/findings.

        Args:
          pooled: The added sums of `pooled`, NumPy arrays.
        """
        del pooled
        return {}

    def central_weights(self, model: Any, train: Clients, seed: int) -> Any:
        """Returns the weights that central training should end with, where it is not descent.

        Args:
          model: The functional model at its start.
          train: Training clients.
          seed: The run's seed.

        Returns:
          Trainable weights in the model's structure; None: all rows pooled, by gradient descent.
        """
        del model, train, seed
        return None

    @abc.abstractmethod
    def trivial(self, train: Clients, test: Clients) -> dict[str, dict[str, float]]:
        """Returns the test metrics of predictions that need no model, by the baseline's name."""

    @abc.abstractmethod
    def predictions(self, outputs: Any, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns what the saved model answers for rows, by name, each [rows, ...].

        Args:
          outputs: What the model gives.
          features: What it was given.
        """

    def describe(self) -> dict[str, Any]:
        """Returns what model.json says of the outputs, such as the names of classes."""
        return {}
