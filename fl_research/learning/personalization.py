"""A client's own last layer, trained from the global one on the client's own rows; never sent.

Algorithm: the layers below the last stay those of the global model. A part of the client's rows,
drawn by the seed, is held out; on the others the last layer is trained with Adam, all rows in each
step. Of the layers after each step, the global one among them, that with the least loss on the rows
held out is the client's own. So a client whose rows are too few to gain keeps the global layer.

Papers: Arivazhagan et al. 2019, "Federated Learning with Personalization Layers" (a last layer for
each client); Wang et al. 2019, "Federated Evaluation of On-device Personalization" (fine-tuning,
kept only where it helps).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fl_research import randomness
from fl_research.argument_checks import require_at_least, require_positive
from fl_research.errors import InputError
from fl_research.learning.optimizers import OptimizerConfig, build_optimizer

HEAD_TENSORS = 2
"""Kernel and bias, the last two trainable tensors of a model, are its last layer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadTraining:
    """How a client trains its own last layer.

    Attributes:
      steps: Steps at most, at least 1.
      learning_rate: Of Adam, above 0.
      held_out: Share of the client's rows that choose the step, in (0, 1).
      fewest_rows: A client with fewer rows keeps the global layer; at least 2.

    Raises:
      InputError: A value is out of its range.
    """

    steps: int = 100
    learning_rate: float = 0.02
    held_out: float = 0.25
    fewest_rows: int = 20

    def __post_init__(self) -> None:
        require_at_least("steps", self.steps, 1)
        require_at_least("fewest_rows", self.fewest_rows, 2)
        require_positive("learning_rate", self.learning_rate)
        if not 0 < self.held_out < 1:
            raise InputError(f"held_out={self.held_out!r} is no share; give one between 0 and 1")


class PersonalHead(NamedTuple):
    """A client's own model.

    Attributes:
      trainable: The trainable weights, NumPy arrays: the global ones and the client's own head.
      steps: The step after which the head was kept; 0: it is the global one.
    """

    trainable: tuple[np.ndarray, ...]
    steps: int


class HeadTrainer:
    """Trains last layers of one global model, client after client.

    Args:
      model: The model; its last two trainable tensors are its last layer.
      weights: The global weights.
      config: How the clients train.
      seed: Which rows are held out.
    """

    def __init__(
        self,
        model: tff.learning.models.FunctionalModel,
        weights: tff.learning.models.ModelWeights,
        config: HeadTraining,
        seed: int,
    ) -> None:
        self._model = model
        self._trainable = tuple(np.asarray(w) for w in weights.trainable)
        self._non_trainable = weights.non_trainable
        self._config = config
        self._seed = seed
        self._train = tf.function(self._training, reduce_retracing=True)

    def train(
        self, features: Mapping[str, np.ndarray], labels: np.ndarray, client: int
    ) -> PersonalHead:
        """Trains the last layer of one client.

        Args:
          features: The client's rows, name to `[rows, ...]`.
          labels: `[rows, ...]`.
          client: The client's number, for the choice of the rows held out.
        """
        rows = len(labels)
        if rows < self._config.fewest_rows:
            return PersonalHead(self._trainable, 0)
        order = randomness.generator(self._seed, "personal_head", client).permutation(rows)
        held = max(1, round(self._config.held_out * rows))
        parts = [
            ({n: tf.constant(v[at]) for n, v in features.items()}, tf.constant(labels[at]))
            for at in (np.sort(order[held:]), np.sort(order[:held]))
        ]
        head, steps = self._train(*parts)
        own = tuple(np.asarray(w) for w in head)
        return PersonalHead((*self._trainable[:-HEAD_TENSORS], *own), int(steps))

    def _training(self, trained_on: Any, held_out: Any) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
        """Trains; returns the best head and its step."""
        body = tuple(tf.constant(w) for w in self._trainable[:-HEAD_TENSORS])
        head = tuple(tf.constant(w) for w in self._trainable[-HEAD_TENSORS:])
        optimizer = build_optimizer(
            OptimizerConfig(name="adam", learning_rate=self._config.learning_rate)
        )
        state = optimizer.initialize(tf.nest.map_structure(tf.TensorSpec.from_tensor, head))

        def loss(head: Any, rows: Any) -> tf.Tensor:
            """The mean loss of rows under a head."""
            x, y = rows
            weights = ((*body, *head), self._non_trainable)
            return self._model.loss(self._model.predict_on_batch(weights, x, training=True), y)

        def step(number: tf.Tensor, head: Any, state: Any, best: Any) -> tuple[Any, ...]:
            with tf.GradientTape() as tape:
                tape.watch(head)
                value = loss(head, trained_on)
            state, head = optimizer.next(state, head, tape.gradient(value, head))
            held_loss, (best_head, best_loss, best_step) = loss(head, held_out), best
            # Also false where the loss is no number.
            better = held_loss < best_loss
            kept = tuple(tf.where(better, n, o) for n, o in zip(head, best_head, strict=True))
            return (
                number + 1,
                head,
                state,
                (
                    kept,
                    tf.where(better, held_loss, best_loss),
                    tf.where(better, number + 1, best_step),
                ),
            )

        *_, (best_head, _, best_step) = tf.while_loop(
            lambda number, *_: number < self._config.steps,
            step,
            (
                tf.constant(0),
                head,
                tf.nest.map_structure(tf.convert_to_tensor, state),
                (head, loss(head, held_out), tf.constant(0)),
            ),
        )
        return best_head, best_step
