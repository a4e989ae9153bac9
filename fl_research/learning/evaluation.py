"""Evaluation of a model, pooled over all rows and for each client, as one computation.

Each block predicts all its rows at once. What the outputs mean is for the objective to say: its
sums over rows are added up over blocks at the server, and its metrics of each client stay with the
client's block; these are not aggregated.
"""

import collections
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff

from fl_research.learning.client_update import client_block_type
from fl_research.objectives.client_rows import ClientRows
from fl_research.objectives.objective import Objective


class EvaluationOutput(NamedTuple):
    """What an evaluation returns.

    Attributes:
      pooled: The objective's sums over all rows, `OrderedDict` of arrays.
      per_client: One `OrderedDict` a block, of arrays [clients]: `examples` int64, and the
        objective's metrics of each client, float64; NaN where undefined.
    """

    pooled: Any
    per_client: Any


# ------------------------------------------------------------------ plain TensorFlow functions


def evaluate_block(
    model: tff.learning.models.FunctionalModel,
    objective: Objective,
    weights: tff.learning.models.ModelWeights,
    block: Mapping[str, Any],
) -> EvaluationOutput:
    """Evaluates a model on one block, pooled and for each client.

    Args:
      model: A model built for the objective.
      objective: What its outputs mean.
      weights: The weights, as tensors.
      block: The block, as tensors; it may have no clients, and clients no rows.
    """
    features, labels = block["features"], block["labels"]
    outputs = model.predict_on_batch(
        (weights.trainable, weights.non_trainable), features, training=False
    )
    clients = ClientRows(block["row_splits"])
    per_client = objective.per_client(outputs, labels, features, clients)
    return EvaluationOutput(
        objective.pooled(outputs, labels, features),
        collections.OrderedDict(examples=clients.examples, **per_client),
    )


# --------------------------------------------------------------------------------- TFF wrapping


def build_evaluation(
    model: tff.learning.models.FunctionalModel, objective: Objective
) -> tff.Computation:
    """Returns the federated evaluation of a model.

    `(<weights=W@SERVER, cohort={ClientBlock}@CLIENTS> ->
      <pooled=<...>@SERVER, per_client={<...>}@CLIENTS>)`, an `EvaluationOutput`.

    Args:
      model: A model built for the objective.
      objective: What its outputs mean.
    """
    weights_type = _weights_type(model)

    @tff.tensorflow.computation(weights_type, client_block_type(model))
    def block_evaluation(weights: Any, block: Any) -> Any:
        return evaluate_block(model, objective, weights, block)

    @tff.federated_computation(
        tff.FederatedType(weights_type, tff.SERVER),
        tff.FederatedType(client_block_type(model), tff.CLIENTS),
    )
    def evaluation(weights: Any, cohort: Any) -> Any:
        output = tff.federated_map(block_evaluation, (tff.federated_broadcast(weights), cohort))
        return EvaluationOutput(tff.federated_sum(output.pooled), output.per_client)

    return evaluation


def _weights_type(model: tff.learning.models.FunctionalModel) -> tff.Type:
    """Returns the type W of the model's weights, a `ModelWeights`."""

    @tff.tensorflow.computation
    def initial_weights() -> Any:
        weights = tff.learning.models.ModelWeights(*model.initial_weights)
        return tf.nest.map_structure(tf.convert_to_tensor, weights)

    return initial_weights.type_signature.result
