"""Composes client update, query and server optimiser into a TFF learning process.

    server state ──> weights, sample parameters ══broadcast══> blocks of clients
         │                                                         │ block_update
         │                                                    total of each block
         │                                                         │
         └──────> release (noise), server optimiser <══aggregate═══┘
                        │
               server state, metrics, event

The server takes the mean update with its sign turned for a gradient and does one optimiser step,
so plain SGD with learning rate 1 adds the mean update to the weights.

Paper: Reddi et al. 2020, "Adaptive Federated Optimization".
"""

import collections
from collections.abc import Mapping
from typing import Any

import dp_accounting
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fl_research.learning import aggregation
from fl_research.learning.client_update import (
    ClientUpdateConfig,
    LocalTraining,
    build_block_update,
    client_block_type,
)
from fl_research.learning.example_privacy import ExamplePrivacy

# ------------------------------------------------------------------ plain TensorFlow functions


def initial_state(
    model: tff.learning.models.FunctionalModel,
    server_optimizer: tff.learning.optimizers.Optimizer,
    query: tfp.DPQuery,
) -> tff.learning.templates.LearningAlgorithmState:
    """Returns the server state before the first round, as tensors."""
    weights = tff.learning.models.ModelWeights(*model.initial_weights)
    weights = tf.nest.map_structure(tf.convert_to_tensor, weights)
    specs = aggregation.record_template(weights)["update"]
    return tff.learning.templates.LearningAlgorithmState(
        weights, (), (), query.initial_global_state(), server_optimizer.initialize(specs)
    )


def server_message(
    query: tfp.DPQuery, state: tff.learning.templates.LearningAlgorithmState
) -> collections.OrderedDict:
    """Returns what every block needs: `OrderedDict(weights, sample_params)`."""
    return collections.OrderedDict(
        weights=state.global_model_weights,
        sample_params=query.derive_sample_params(state.aggregator),
    )


def server_update(
    server_optimizer: tff.learning.optimizers.Optimizer,
    query: tfp.DPQuery,
    state: tff.learning.templates.LearningAlgorithmState,
    total: Mapping[str, Any],
) -> tuple[tff.learning.templates.LearningAlgorithmState, collections.OrderedDict]:
    """Ends a round at the server.

    Args:
      server_optimizer: The server optimiser.
      query: The query; its result is the mean update.
      state: The state that the round began with, as tensors.
      total: `OrderedDict(accumulated, metrics)` of the whole cohort.

    Returns:
      The new state, and the metrics `OrderedDict(train, release)`.
    """
    weights = state.global_model_weights
    mean_update, query_state, released = aggregation.release(
        query, total["accumulated"], state.aggregator
    )
    gradient = tf.nest.map_structure(tf.negative, mean_update)
    optimizer_state, trainable = server_optimizer.next(state.finalizer, weights.trainable, gradient)
    new_weights = tff.learning.models.ModelWeights(trainable, weights.non_trainable)
    new_state = tff.learning.templates.LearningAlgorithmState(
        new_weights, (), (), query_state, optimizer_state
    )
    return new_state, collections.OrderedDict(train=total["metrics"], release=released)


# --------------------------------------------------------------------------------- TFF wrapping


def build_learning_process(
    model: tff.learning.models.FunctionalModel,
    *,
    client_update: ClientUpdateConfig,
    client_optimizer: tff.learning.optimizers.Optimizer,
    query: tfp.DPQuery,
    server_optimizer: tff.learning.optimizers.Optimizer,
    example_privacy: ExamplePrivacy | None = None,
) -> tff.learning.templates.LearningProcess:
    """Returns federated learning over blocks of clients as a TFF learning process.

    `initialize: ( -> S@SERVER)`
    `next: (<state=S@SERVER, cohort={ClientBlock}@CLIENTS> -> <state=S@SERVER, metrics=M@SERVER>)`

    S is a `LearningAlgorithmState` with the query's global state as `aggregator` and the server
    optimiser's as `finalizer`. M is `<train=<loss_sum=float32, examples=int64, clients=int64,
    clients_not_finite=int64, clients_without_rows=int64>, release=<event, metrics>>`; see
    `release_event` for the event. The training metrics carry no noise.

    Args:
      model: The model; its input must fit the blocks.
      client_update: How a client trains.
      client_optimizer: The clients' optimiser.
      query: Takes records `OrderedDict(update, weight)`, one a client, and results in the mean
        update, with the structure of the trainable weights.
      server_optimizer: The server's optimiser.
      example_privacy: Trains clients by DP-SGD with these settings; None trains them plainly.

    Raises:
      InputError: If the model's input is not features by name.
      TypeError: If the query's result does not fit the model; the message gives both types.
    """
    weights = tff.learning.models.ModelWeights(*model.initial_weights)
    template = aggregation.record_template(tf.nest.map_structure(np.asarray, weights))

    @tff.tensorflow.computation
    def initial_state_computation() -> Any:
        return initial_state(model, server_optimizer, query)

    state_type = initial_state_computation.type_signature.result

    @tff.tensorflow.computation(state_type)
    def message_computation(state: Any) -> Any:
        return server_message(query, state)

    training = LocalTraining(
        model=model,
        optimizer=client_optimizer,
        config=client_update,
        example_privacy=example_privacy,
    )
    message_type = message_computation.type_signature.result
    block_computation = build_block_update(training, query, message_type)
    total_type = block_computation.type_signature.result
    aggregate = aggregation.build_aggregation(query, template, total_type)
    _check_result_type(query, total_type["accumulated"], state_type)

    @tff.tensorflow.computation(state_type, total_type)
    def server_computation(state: Any, total: Any) -> Any:
        return server_update(server_optimizer, query, state, total)

    @tff.federated_computation
    def initialize() -> Any:
        return tff.federated_eval(initial_state_computation, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(state_type, tff.SERVER),
        tff.FederatedType(client_block_type(model), tff.CLIENTS),
    )
    def run_round(state: Any, cohort: Any) -> Any:
        message = tff.federated_broadcast(tff.federated_map(message_computation, state))
        totals = tff.federated_map(block_computation, (message, cohort))
        result = tff.federated_map(server_computation, (state, aggregate(totals)))
        return tff.learning.templates.LearningProcessOutput(result[0], result[1])

    get_model_weights, set_model_weights = _build_weights_access(state_type)
    return tff.learning.templates.LearningProcess(
        initialize, run_round, get_model_weights, set_model_weights
    )


def _build_weights_access(state_type: tff.Type) -> tuple[tff.Computation, tff.Computation]:
    """Returns `(S -> W)` and `(<S, W> -> S)`."""

    @tff.tensorflow.computation(state_type)
    def get_model_weights(state: Any) -> Any:
        return state.global_model_weights

    @tff.tensorflow.computation(state_type, get_model_weights.type_signature.result)
    def set_model_weights(state: Any, weights: Any) -> Any:
        return state._replace(global_model_weights=weights)

    return get_model_weights, set_model_weights


def _check_result_type(
    query: tfp.DPQuery, accumulated_type: tff.Type, state_type: tff.Type
) -> None:
    """Raises TypeError unless the query's result has the type of the trainable weights."""

    @tff.tensorflow.computation(accumulated_type, state_type["aggregator"])
    def mean_update(accumulated: Any, global_state: Any) -> Any:
        return aggregation.release(query, accumulated, global_state)[0]

    expected = state_type["global_model_weights"]["trainable"]
    found = mean_update.type_signature.result
    if not expected.is_equivalent_to(found):
        raise TypeError(
            f"query: its result has type {found}; it must be the mean update, of the type of the "
            f"trainable weights {expected}"
        )


# ------------------------------------------------------------------------ what a round returned


def release_event(metrics: Mapping[str, Any]) -> dp_accounting.DpEvent:
    """Returns the event that a round emitted, with plain Python numbers.

    Args:
      metrics: The metrics that `next` returned.
    """
    return dp_accounting.DpEvent.from_named_tuple(_plain(metrics["release"]["event"]))


def _plain(value: Any) -> Any:
    """Turns the arrays and bytes of a structure into Python numbers and strings."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_plain(v) for v in value))
    if isinstance(value, Mapping):
        return collections.OrderedDict((k, _plain(v)) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v) for v in value)
    if isinstance(value, (np.ndarray, np.generic, tf.Tensor)):
        value = np.asarray(value).item()
    return value.decode() if isinstance(value, bytes) else value
