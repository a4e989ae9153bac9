"""Private training of the small cohorts, as graphs, and what its tests compare it with."""

import collections
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fl_research.learning import client_update
from fl_research.learning.client_update import LocalTraining
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.example_privacy import ExamplePrivacy
from fl_research.stackable.model import StackableModel
from tests.learning import small_cohorts

KEY = (11, -12)
LEARNING_RATE = 0.3
HUGE = 1e9  # a clip norm that no gradient of the small cohorts comes near
ROWS = 9


def plain_model(model: tff.learning.models.FunctionalModel) -> tff.learning.models.FunctionalModel:
    """The same model, knowing nothing of stacks."""

    @tf.function
    def predict(weights: Any, x: Any, training: bool) -> tf.Tensor:
        return model.predict_on_batch(weights, x, training)

    return tff.learning.models.FunctionalModel(
        initial_weights=model.initial_weights,
        predict_on_batch_fn=predict,
        loss_fn=lambda output, label, sample_weight=None: model.loss(output, label),
        input_spec=model.input_spec,
    )


def mixing_model(model: tff.learning.models.FunctionalModel) -> StackableModel:
    """A model that centres by its first axis: by the rows when alone, by the clients in a stack."""
    return StackableModel(
        initial_weights=((np.ones(4, np.float32), np.zeros(1, np.float32)), ()),
        predict=lambda w, x: (
            tf.linalg.matvec(
                tf.tanh(x["inputs"]) + tf.reduce_mean(x["inputs"], axis=0, keepdims=True), w[0]
            )
            + w[1]
        ),
        row_loss=lambda output, label: tf.square(output - tf.cast(label, tf.float32)),
        input_spec=model.input_spec,
    )


def indifferent_model() -> tff.learning.models.FunctionalModel:
    """A model of which no weight has influence: what moves it is the noise alone."""
    return tff.learning.models.FunctionalModel(
        initial_weights=(
            (np.zeros([300, 200], np.float32), np.zeros(60, np.float32), np.float32(0.0)),
            (),
        ),
        predict_on_batch_fn=tf.function(lambda weights, x, training: x["inputs"][:, 0]),
        loss_fn=lambda output, label, sample_weight=None: tf.reduce_mean(output),
        input_spec=small_cohorts.model("mlp").input_spec,
    )


MODELS: dict[str, Callable[[], tff.learning.models.FunctionalModel]] = {
    "logistic regression": lambda: small_cohorts.model("logistic_regression"),
    "mlp": lambda: small_cohorts.model("mlp"),
    "plain mlp": lambda: plain_model(small_cohorts.model("mlp")),
    "mixing": lambda: mixing_model(small_cohorts.model("mlp")),
}


def training(
    model: tff.learning.models.FunctionalModel,
    privacy: ExamplePrivacy | None,
    optimizer: Any = None,
    **config: Any,
) -> LocalTraining:
    """Local training with these settings; plain SGD without another optimizer."""
    return LocalTraining(
        model=model,
        optimizer=optimizer or small_cohorts.optimizer("sgd", LEARNING_RATE),
        config=ClientUpdateConfig(**config),
        example_privacy=privacy,
    )


def private(clip_norm: float = 1.0, noise: float = 0.0, key: Any = KEY) -> ExamplePrivacy:
    """The settings of the privacy; without noise, unless it is given."""
    return ExamplePrivacy(clip_norm=clip_norm, noise_multiplier=noise, noise_key=key)


def runner(training: LocalTraining) -> Callable[[Any], tuple[Any, Any]]:
    """Returns `block -> (plain sum of its records, metrics)`, one graph for blocks of any size."""
    weights = tff.learning.models.ModelWeights(*training.model.initial_weights)
    weights = tf.nest.map_structure(tf.constant, weights)
    x, y = training.model.input_spec
    spec = collections.OrderedDict(
        features=collections.OrderedDict(x),
        labels=y,
        row_splits=tf.TensorSpec([None], tf.int64),
        seeds=tf.TensorSpec([None, 2], tf.int64),
    )
    update_of_block = tf.function(
        lambda b: client_update.block_update(
            training, small_cohorts.UpdateAndWeightSum(), weights, (), b
        ),
        autograph=False,
        input_signature=[spec],
    )

    def run(block: Any) -> tuple[Any, Any]:
        total = tf.nest.map_structure(lambda t: t.numpy(), update_of_block(block))
        return total["accumulated"], total["metrics"]

    return run


def block(sizes: tuple[int, ...] = (ROWS,), **settings: Any) -> Any:
    """Clients of these sizes as one block."""
    return small_cohorts.blocks(small_cohorts.clients(sizes), num_blocks=1, **settings)[0]


def gradients_one_by_one(model: Any, block: Any) -> list[list[np.ndarray]]:
    """The gradient of each row's loss at the initial weights, with a tape of its own, float64."""
    trainable, non_trainable = tf.nest.map_structure(tf.constant, model.initial_weights)
    gradients = []
    for row in range(len(block["labels"])):
        only = tf.nest.map_structure(
            lambda t, row=row: tf.constant(t[row : row + 1]), (block["features"], block["labels"])
        )
        with tf.GradientTape() as tape:
            tape.watch(trainable)
            output = model.predict_on_batch((trainable, non_trainable), only[0], True)
            loss = model.loss(output, only[1])
        found = tf.nest.flatten(tape.gradient(loss, trainable))
        gradients.append([np.asarray(g, np.float64) for g in found])
    return gradients


def norm(leaves: Any) -> float:
    """The L2 norm over all arrays."""
    return float(np.sqrt(sum(np.sum(np.square(np.asarray(g, np.float64))) for g in leaves)))
