"""Dual encoder: questions and answers as directions; an answer's score is their cosine.

A question's and an answer's hashed ids go through one table of embeddings (the same words mean the
same in both) into bags, then each through a dense layer of its own with tanh, and are scaled to
length 1. The score of an answer is the cosine times a scale. The catalogue of answers is public
and part of the model, so that a device scores all answers itself.

With `negatives="batch"` the loss of a question is the softmax cross entropy over the answers that
are right for some question of its batch: the answers of the others are the wrong ones. Each answer
counts once, however many questions it is right for. A question's loss then depends on the others of
its batch, and training that is private for each example is refused. With `negatives="catalogue"`
the softmax goes over all answers; nothing else changes. The batch is the cheaper and the catalogue
the better teacher where clients ask about few things each.

Papers: Henderson et al. 2017, "Efficient Natural Language Response Suggestion for Smart Reply"
(dot products and negatives of the batch); Karpukhin et al. 2020, "Dense Passage Retrieval".
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research import randomness
from fl_research.argument_checks import require_at_least, require_choice, require_positive
from fl_research.data.clients import RowTypes
from fl_research.data.hashed_text import HashedText
from fl_research.errors import InputError
from fl_research.objectives.answer_retrieval import AnswerRetrieval
from fl_research.objectives.objective import Objective

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_federated as tff

BATCH, CATALOGUE = "batch", "catalogue"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the dual encoder.

    Attributes:
      buckets: Ids that features are hashed into, 2 or more: that of the text's encoding.
      width: Numbers of an embedding and of a direction, 1 or more.
      scale: What the cosine is multiplied by, above 0.
      negatives: "batch" or "catalogue": which wrong answers a right one is set against.
    """

    buckets: int = HashedText.buckets
    width: int = 64
    scale: float = 12.0
    negatives: str = BATCH

    def __post_init__(self) -> None:
        require_at_least("buckets", self.buckets, 2)
        require_at_least("width", self.width, 1)
        require_positive("scale", self.scale)
        require_choice("negatives", self.negatives, (BATCH, CATALOGUE))


def build(
    config: Config, *, row_types: RowTypes, objective: Objective, seed: int
) -> "tff.learning.models.FunctionalModel":
    """Returns the dual encoder as a functional model.

    Args:
      config: The settings.
      row_types: The features; it reads the int32 feature `ids` of `data.hashed_text`.
      objective: An `AnswerRetrieval`: it has the catalogue.
      seed: Seed of the initial weights; the same seed gives the same weights.

    Raises:
      InputError: The data has no feature `ids`, the objective has no answers, or these are hashed
        into another number of buckets.
    """
    # Imported here so that a command line can read `Config` without waiting for TensorFlow.
    import tensorflow as tf

    from fl_research.stackable import inputs
    from fl_research.stackable.id_bags import bag_of_ids
    from fl_research.stackable.layers import dense
    from fl_research.stackable.model import StackableModel

    inputs.require_feature("dual_encoder", row_types, inputs.IDS)
    answer_ids = _answer_ids(config, objective)

    def direction(bag: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        return tf.math.l2_normalize(tf.tanh(dense(bag, kernel, bias)), axis=-1, epsilon=1e-12)

    def predict(trainable: Any, x: Any) -> tf.Tensor:
        table, question_kernel, question_bias, answer_kernel, answer_bias = trainable
        # The catalogue once for each of the stacked clients, which have tables of their own.
        leading = tf.shape(table)[:-2]
        ids = tf.broadcast_to(answer_ids, tf.concat([leading, answer_ids.shape], axis=0))
        ids = tf.ensure_shape(ids, [*table.shape[:-2], *answer_ids.shape])
        questions = direction(bag_of_ids(x[inputs.IDS], table), question_kernel, question_bias)
        answers = direction(bag_of_ids(ids, table), answer_kernel, answer_bias)
        return config.scale * tf.matmul(questions, answers, transpose_b=True)

    parts: dict[str, Any] = {
        "initial_weights": (_initial_weights(config, seed), ()),
        "predict": predict,
        "row_loss": objective.row_loss,
        "input_spec": inputs.input_spec(row_types, objective),
    }
    if config.negatives == CATALOGUE:
        return StackableModel(**parts)
    return _in_batch_model(parts)


def in_batch_logits(logits: "tf.Tensor", labels: "tf.Tensor", weight: Any = None) -> "tf.Tensor":
    """Returns the logits with those of answers that no row of the batch has at -1e9.

    Args:
      logits: float32[..., rows, answers].
      labels: int32[..., rows], the right answer of each row.
      weight: float32[..., rows]; a row of weight 0 brings no answer in; None: all count.
    """
    import tensorflow as tf

    brought = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    if weight is not None:
        brought *= tf.cast(weight > 0, logits.dtype)[..., tf.newaxis]
    present = tf.reduce_max(brought, axis=-2, keepdims=True) > 0
    return tf.where(present, logits, tf.constant(-1e9, logits.dtype))


def _answer_ids(config: Config, objective: Objective) -> np.ndarray:
    """The hashed ids of the catalogue, int32[answers, longest]."""
    if not isinstance(objective, AnswerRetrieval):
        raise InputError(
            "model=dual_encoder needs a catalogue of answers, and this task has none; take "
            "--task=answers, or another --model"
        )
    if objective.encoding.buckets != config.buckets:
        raise InputError(
            f"buckets={config.buckets} of the model are not those of the texts, "
            f"{objective.encoding.buckets}; give both the same"
        )
    return objective.answer_ids()


def _initial_weights(config: Config, seed: int) -> tuple[np.ndarray, ...]:
    """The table, normal with variance 1 / width, and two layers that start as the identity.

    So a question and an answer with the same words begin in the same direction.
    """
    generator = randomness.generator(seed, "model_init")
    table = generator.normal(0.0, config.width**-0.5, [config.buckets, config.width])
    layer = (np.eye(config.width, dtype=np.float32), np.zeros([config.width], np.float32))
    return (table.astype(np.float32), *layer, *layer)


def _in_batch_model(parts: dict[str, Any]) -> "tff.learning.models.FunctionalModel":
    """The model whose loss goes over the answers of the batch."""
    import tensorflow as tf

    from fl_research.stackable.model import StackableModel, mean_loss

    row_loss = parts["row_loss"]

    class InBatchModel(StackableModel):
        """A dual encoder of which one row's loss depends on the others of its batch."""

        mixes_rows = True

        def loss(self, output: tf.Tensor, label: tf.Tensor, sample_weight: Any = None) -> tf.Tensor:
            among = in_batch_logits(output, label, sample_weight)
            return mean_loss(row_loss(among, label), sample_weight)

    return InBatchModel(**parts)
