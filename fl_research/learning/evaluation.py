"""Evaluation of a binary classifier, pooled over all rows and for each client, as one computation.

Each block predicts all its rows at once. Pooled, it counts the predicted probabilities of either
label in equal bins and adds up what must be exact (losses, squared errors, correct answers); these
sums and counts of all blocks are added at the server, and `metrics.py` finishes them. For each
client it computes loss, accuracy and the area under the ROC curve, the last from the ranks of the
client's own rows (the Mann-Whitney statistic; ties count one half), by sorting the whole block
once. Per-client values stay with the client's block: they are not aggregated.

Paper: Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve".
"""

import collections
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff

from fl_research.argument_checks import require_at_least
from fl_research.learning.client_update import client_block_type


class EvaluationOutput(NamedTuple):
    """What an evaluation returns.

    Attributes:
      pooled: `OrderedDict` of negative_counts and positive_counts int64[num_bins] (rows of label 0
        and 1 by predicted probability), loss_sum float64 (log loss, in nats), squared_error_sum
        float64, correct int64 (at threshold 1/2) and examples int64.
      per_client: One `OrderedDict` a block, of arrays [clients]: examples int64, and loss,
        accuracy and auc float64; NaN where undefined: without rows, auc with one class only.
    """

    pooled: Any
    per_client: Any


# ------------------------------------------------------------------ plain TensorFlow functions


def evaluate_rows(logits: tf.Tensor, labels: tf.Tensor) -> collections.OrderedDict:
    """Returns what each row contributes: loss, squared_error and correct, float64[rows].

    Args:
      logits: float[rows].
      labels: [rows], 0 or 1.
    """
    logits, labels = tf.cast(logits, tf.float64), tf.cast(labels, tf.float64)
    predicted = tf.cast(logits >= 0, tf.float64)
    return collections.OrderedDict(
        loss=tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits),
        squared_error=tf.square(tf.sigmoid(logits) - labels),
        correct=tf.cast(tf.equal(predicted, labels), tf.float64),
    )


def probability_counts(logits: tf.Tensor, labels: tf.Tensor, num_bins: int) -> tf.Tensor:
    """Counts predicted probabilities in equal bins of [0, 1], by label.

    Args:
      logits: float[rows]; NaN is not counted.
      labels: [rows], 0 or 1.
      num_bins: Number of bins; probability 1 is in the last one.

    Returns:
      int64[2, num_bins].
    """
    probability = tf.sigmoid(tf.cast(logits, tf.float64))
    is_number = tf.math.is_finite(probability)
    scaled = tf.where(is_number, probability, 0.0) * num_bins
    bin_index = tf.minimum(tf.cast(scaled, tf.int64), num_bins - 1)
    place = tf.cast(labels, tf.int64) * num_bins + bin_index
    # A negative place is dropped by the segment sum.
    place = tf.where(is_number, place, -1)
    counts = tf.math.unsorted_segment_sum(tf.ones_like(place), place, 2 * num_bins)
    return tf.reshape(counts, [2, num_bins])


def client_auc(
    logits: tf.Tensor, labels: tf.Tensor, client: tf.Tensor, num_clients: tf.Tensor
) -> tf.Tensor:
    """Returns the exact area under the ROC curve of each client's own rows.

    Args:
      logits: float[rows].
      labels: [rows], 0 or 1.
      client: int64[rows], ascending: the client of each row.
      num_clients: int64 scalar.

    Returns:
      float64[clients]; NaN for a client with one class only, or with a NaN among its logits.
    """
    by_score = tf.argsort(logits, stable=True)
    order = tf.gather(by_score, tf.argsort(tf.gather(client, by_score), stable=True))
    client, logits = tf.gather(client, order), tf.gather(logits, order)
    positive = tf.cast(tf.gather(labels, order), tf.float64)
    # Rows of one client with one score form a group; each takes the group's middle rank.
    # Not `!=`: in the graph that TFF traces it compares the Python objects, not the values.
    is_new = tf.not_equal(client[1:], client[:-1]) | tf.not_equal(logits[1:], logits[:-1])
    group = tf.cumsum(tf.concat([tf.zeros_like(order[:1]), tf.cast(is_new, tf.int32)], axis=0))
    place = tf.cast(tf.range(tf.size(order)), tf.float64)
    rank = tf.gather(tf.math.segment_mean(place, group), group)

    def total(values: tf.Tensor) -> tf.Tensor:
        return tf.math.unsorted_segment_sum(values, client, num_clients)

    rows, positives = total(tf.ones_like(rank)), total(positive)
    first = tf.cumsum(rows, exclusive=True)
    rank_sum = total(rank * positive) - first * positives
    wins = rank_sum - positives * (positives - 1) / 2
    nan = tf.constant(float("nan"), tf.float64)
    has_nan = total(tf.cast(tf.math.is_nan(logits), tf.float64)) > 0
    pairs = tf.where(has_nan, nan, positives * (rows - positives))
    return tf.where(pairs > 0, wins / pairs, nan)


def evaluate_block(
    model: tff.learning.models.FunctionalModel,
    num_bins: int,
    weights: tff.learning.models.ModelWeights,
    block: Mapping[str, Any],
) -> EvaluationOutput:
    """Evaluates a model on one block, pooled and for each client.

    Args:
      model: A model that predicts one logit a row.
      num_bins: Bins of the predicted probability.
      weights: The weights, as tensors.
      block: The block, as tensors; it may have no clients, and clients no rows.
    """
    logits = model.predict_on_batch(
        (weights.trainable, weights.non_trainable), block["features"], training=False
    )
    labels = block["labels"]
    rows = evaluate_rows(logits, labels)
    counts = probability_counts(logits, labels, num_bins)
    pooled = collections.OrderedDict(
        negative_counts=counts[0],
        positive_counts=counts[1],
        loss_sum=tf.reduce_sum(rows["loss"]),
        squared_error_sum=tf.reduce_sum(rows["squared_error"]),
        correct=tf.cast(tf.reduce_sum(rows["correct"]), tf.int64),
        examples=tf.size(labels, tf.int64),
    )
    examples = block["row_splits"][1:] - block["row_splits"][:-1]
    num_clients = tf.size(examples, tf.int64)
    client = tf.repeat(tf.range(num_clients), examples)

    def mean(values: tf.Tensor) -> tf.Tensor:
        # 0 / 0 is NaN, as it should be for a client without rows.
        total = tf.math.unsorted_segment_sum(values, client, num_clients)
        return total / tf.cast(examples, tf.float64)

    per_client = collections.OrderedDict(
        examples=examples,
        loss=mean(rows["loss"]),
        accuracy=mean(rows["correct"]),
        auc=client_auc(logits, labels, client, num_clients),
    )
    return EvaluationOutput(pooled, per_client)


# --------------------------------------------------------------------------------- TFF wrapping


def build_evaluation(
    model: tff.learning.models.FunctionalModel, *, num_bins: int = 10_000
) -> tff.Computation:
    """Returns the federated evaluation of a binary classifier.

    `(<weights=W@SERVER, cohort={ClientBlock}@CLIENTS> ->
      <pooled=<...>@SERVER, per_client={<...>}@CLIENTS>)`, an `EvaluationOutput`.

    Args:
      model: A model that predicts one logit a row, with labels 0 and 1.
      num_bins: Bins of the predicted probability, at least 2. The AUC computed from them differs
        from the exact one by half the share of pairs that share a bin, at most.

    Raises:
      InputError: If `num_bins` is below 2.
    """
    require_at_least("num_bins", num_bins, 2)
    weights_type = _weights_type(model)

    @tff.tensorflow.computation(weights_type, client_block_type(model))
    def block_evaluation(weights: Any, block: Any) -> Any:
        return evaluate_block(model, num_bins, weights, block)

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
