"""A DPQuery over blocks of clients as a TFF aggregation.

A block hands over one total: the query's sample state, already summed over its clients, and its
metrics. The totals are added up with the query's own merge, starting from its empty sample state,
and then the query gives its result, noise included, once. Between the blocks there is nothing but
a merge of two totals, so parts of the sum may also be taken in several places and merged later.

Interface: tensorflow_privacy's `DPQuery`.
"""

import collections
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

# ------------------------------------------------------------------ plain TensorFlow functions


def record_template(weights: Any) -> collections.OrderedDict:
    """Returns the tensor specs of the record that one client gives to the query.

    `OrderedDict(update, weight, seed, mean_loss)`: the update; how much it counts, which private
    queries do not use; the client's seed of the round, for queries whose clients draw noise; and
    its mean training loss, for queries that release that with noise.

    Args:
      weights: `ModelWeights` of arrays or tensors with static shapes.
    """
    update = tf.nest.map_structure(lambda w: tf.TensorSpec(w.shape, w.dtype), weights.trainable)
    return collections.OrderedDict(
        update=update,
        weight=tf.TensorSpec([], tf.float32),
        seed=tf.TensorSpec([2], tf.int64),
        mean_loss=tf.TensorSpec([], tf.float32),
    )


def update_specs(model: tff.learning.models.FunctionalModel) -> Any:
    """Returns the tensor specs of a client's update of a model."""
    weights = tff.learning.models.ModelWeights(*model.initial_weights)
    return record_template(tf.nest.map_structure(np.asarray, weights))["update"]


def empty_sample_state(query: tfp.DPQuery, template: Any) -> Any:
    """Returns the query's sample state before any record, as tensors."""
    return tf.nest.map_structure(tf.convert_to_tensor, query.initial_sample_state(template))


def merge_totals(query: tfp.DPQuery, one: Any, other: Any) -> collections.OrderedDict:
    """Merges the totals of two sets of clients, each `OrderedDict(accumulated, metrics)`."""
    return collections.OrderedDict(
        accumulated=query.merge_sample_states(one["accumulated"], other["accumulated"]),
        metrics=tf.nest.map_structure(tf.add, one["metrics"], other["metrics"]),
    )


def release(
    query: tfp.DPQuery, accumulated: Any, global_state: Any
) -> tuple[Any, Any, collections.OrderedDict]:
    """Ends a round at the query: result, state of the next round, and what was released.

    Args:
      query: The query.
      accumulated: Its sample state, summed over the cohort.
      global_state: Its global state before the round.

    Returns:
      The mean update (structure of the trainable weights), the new global state, and
      `OrderedDict(event, metrics)`: the event as a named tuple, and the query's metrics of the
      state that this round ran with (the clip norm that clipped it, not the next one's).
    """
    mean_update, new_state, event = query.get_noised_result(accumulated, global_state)
    released = collections.OrderedDict(
        event=event.to_named_tuple(), metrics=query.derive_metrics(global_state)
    )
    return mean_update, new_state, released


# --------------------------------------------------------------------------------- TFF wrapping


def build_aggregation(
    query: tfp.DPQuery, template: Any, total_type: tff.StructType
) -> tff.Computation:
    """Returns `({T}@CLIENTS -> T@SERVER)`, the merge of the totals of all blocks.

    Args:
      query: The query.
      template: Tensor specs of a record.
      total_type: T, `<accumulated=A, metrics=M>`, as the blocks return it.

    Raises:
      TypeError: If merging two totals gives another type than T.
    """
    metrics_specs = tff.types.type_to_tf_tensor_specs(total_type["metrics"])

    @tff.tensorflow.computation
    def empty_total() -> Any:
        return collections.OrderedDict(
            accumulated=empty_sample_state(query, template),
            metrics=tf.nest.map_structure(lambda s: tf.zeros(s.shape, s.dtype), metrics_specs),
        )

    @tff.tensorflow.computation(total_type, total_type)
    def merge(one: Any, other: Any) -> Any:
        return merge_totals(query, one, other)

    @tff.tensorflow.computation(total_type)
    def report(total: Any) -> Any:
        return total

    if not total_type.is_equivalent_to(merge.type_signature.result):
        raise TypeError(
            f"The query merges two sample states of type {total_type['accumulated']} into one of "
            f"type {merge.type_signature.result['accumulated']}; they must be equal."
        )

    @tff.federated_computation(tff.FederatedType(total_type, tff.CLIENTS))
    def aggregate(totals: Any) -> Any:
        return tff.federated_aggregate(totals, empty_total(), merge, merge, report)

    return aggregate
