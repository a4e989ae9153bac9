"""How the clients of a block are trained: one after the other, or stacked.

Both compute the same round up to the order of floating-point sums; they differ in speed by up to
ten times. `auto` decides by rules that were found by measurement, from the model alone, so that
the same run always computes in the same way. BUILD_NOTES.md has the figures.

Clients that train privately for each example are trained one after the other; there it is the
examples that are stacked, where the model can be.
"""

import collections
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fl_research.errors import InputError
from fl_research.learning import aggregation, client_loop, example_privacy, stacked_clients
from fl_research.learning.local_training import LocalTraining
from fl_research.stackable.model import StackableModel

BlockUpdate = Callable[..., collections.OrderedDict]

# Above this the arithmetic of one client outweighs what starting its operations costs.
_LARGEST_STACKED_MODEL_BYTES = 128 * 1024
# Local weights of one stack; more would not stay in a core's cache.
_STACK_BYTES = 8 * 1024 * 1024
_TOLERANCE = 1e-5


def resolve(training: LocalTraining, query: tfp.DPQuery) -> str:
    """Returns how the clients are trained: "loop" or "stacked".

    Args:
      training: What a client trains and how.
      query: What sums the updates.

    Raises:
      InputError: Stacking was asked for, and model, optimizer or query cannot be stacked.
    """
    asked = training.config.execution
    if training.example_privacy is not None:
        if isinstance(training.model, StackableModel) and training.model.mixes_rows:
            raise InputError(
                "training that is private for each example needs a model in which no row's loss "
                "depends on other rows; for dual_encoder take negatives='catalogue'"
            )
        if asked == "stacked":
            raise InputError(
                "execution='stacked' cannot be: training that is private for each example goes "
                "through a client's examples, not through a stack of clients; take 'auto' or 'loop'"
            )
        return "loop"
    if asked == "loop":
        return "loop"
    if asked == "auto" and _model_bytes(training.model) > _LARGEST_STACKED_MODEL_BYTES:
        return "loop"
    obstacle = _obstacle(training, query)
    if obstacle and asked != "auto":
        raise InputError(f"execution={asked!r} cannot be: {obstacle}; take 'auto' or 'loop'")
    return "loop" if obstacle else "stacked"


def block_update_function(training: LocalTraining, query: tfp.DPQuery) -> BlockUpdate:
    """Returns the `block_update(training, query, weights, sample_params, block)` to use."""
    resolved = resolve(training, query)
    if training.example_privacy is not None:
        train = functools.partial(
            client_loop.train_client_privately,
            privacy=training.example_privacy,
            example_gradients=example_gradients_function(training.model),
        )
        return functools.partial(client_loop.block_update, train=train)
    if resolved == "loop":
        return client_loop.block_update
    clients_at_once = max(1, _STACK_BYTES // max(1, _model_bytes(training.model)))
    return functools.partial(stacked_clients.block_update, clients_at_once=clients_at_once)


def example_gradients_function(
    model: tff.learning.models.FunctionalModel,
) -> example_privacy.ExampleGradients:
    """Returns the way to the gradients of single examples that suits a model."""
    is_small = _model_bytes(model) <= _LARGEST_STACKED_MODEL_BYTES
    # A model that mixes what is stacked would let one example into the gradients of others.
    if is_small and isinstance(model, StackableModel) and not _mixes_clients(model):
        return example_privacy.stacked_gradients
    return example_privacy.mapped_gradients


def _obstacle(training: LocalTraining, query: tfp.DPQuery) -> str:
    """Returns why clients cannot be stacked; empty if they can."""
    if not isinstance(training.model, StackableModel):
        return "the model is not a StackableModel"
    if _mixes_clients(training.model):
        return "the model's result for stacked clients is not that of each alone"
    if not _is_elementwise(training.optimizer):
        return "the client optimizer does not treat each number on its own"
    if not _adds_up(query, training.model):
        return "the query's records do not add up"
    return ""


def _mixes_clients(model: StackableModel) -> bool:
    """Tries whether losses and gradients of two stacked clients are other than of each alone."""
    generator = np.random.default_rng(0)

    def draw(spec: tf.TensorSpec) -> tf.Tensor:
        """Values for two clients of three rows; zero is an id or a class of every model."""
        shape = [2, 3, *(size or 1 for size in spec.shape[1:])]
        if spec.dtype.is_floating:
            return tf.constant(generator.normal(size=shape), spec.dtype)
        return tf.zeros(shape, spec.dtype)

    def result(weights: Any, x: Any, y: Any) -> list[np.ndarray]:
        """The loss, and the gradients."""
        with tf.GradientTape() as tape:
            tape.watch(weights[0])
            losses = model.loss(model.predict_on_batch(weights, x, training=True), y)
            total = tf.reduce_sum(losses)
        found = tape.gradient(total, weights[0], unconnected_gradients="zero")
        return [np.asarray(tf.convert_to_tensor(t)) for t in (losses, *tf.nest.flatten(found))]

    with tf.init_scope():
        trainable, non_trainable = (
            [np.asarray(w) for w in tf.nest.flatten(part)] for part in model.initial_weights
        )
        stacked = [w + 0.1 * generator.normal(size=[2, *w.shape]) for w in trainable]
        weights = [tf.constant(w, o.dtype) for w, o in zip(stacked, trainable, strict=True)]
        x, y = tf.nest.map_structure(draw, model.input_spec)
        pack = tf.nest.pack_sequence_as

        def of(chosen: Any, shared: list[Any]) -> list[Any]:
            """The result of a chosen client, or of both."""
            structure = (
                pack(model.initial_weights[0], [w[chosen] for w in weights]),
                pack(model.initial_weights[1], shared),
            )
            return result(structure, *tf.nest.map_structure(lambda t: t[chosen], (x, y)))

        both = of(slice(None), [w[np.newaxis] for w in non_trainable])
        alone = [of(client, non_trainable) for client in range(2)]
    return not all(
        np.allclose(both[i][k], alone[k][i], rtol=1e-3, atol=1e-4, equal_nan=True)
        for i in range(len(both))
        for k in range(2)
    )


def _is_elementwise(optimizer: tff.learning.optimizers.Optimizer) -> bool:
    """Tries whether two stacked sets of weights are moved as each is alone, for three steps."""
    # A rule that only sets in at some size, such as a clip, shows at one of these.
    return all(_moves_each_alone(optimizer, scale) for scale in (1e-4, 1.0, 1e4, 1e8))


def _moves_each_alone(optimizer: tff.learning.optimizers.Optimizer, scale: float) -> bool:
    """Tries it for gradients of this size, those of the second set a hundred times larger."""
    generator = np.random.default_rng(0)
    shapes: tuple[list[int], ...] = ([3, 2], [4], [])
    weights = [generator.normal(size=[2, *s]).astype(np.float32) for s in shapes]
    gradients = [scale * generator.normal(size=[3, 2, *s]).astype(np.float32) for s in shapes]
    for gradient in gradients:
        gradient[:, 1] *= 100.0

    def moved(chosen: Any) -> list[np.ndarray]:
        """The weights after three steps of the chosen set, or of both."""
        trained = [tf.constant(w[chosen]) for w in weights]
        specs = [tf.TensorSpec(w.shape, w.dtype) for w in trained]
        state = tf.nest.map_structure(tf.convert_to_tensor, optimizer.initialize(specs))
        for step in range(3):
            state, trained = optimizer.next(
                state, trained, [tf.constant(g[step][chosen]) for g in gradients]
            )
        return [np.asarray(w) for w in trained]

    with tf.init_scope():
        both, alone = moved(slice(None)), [moved(0), moved(1)]
    return all(
        np.allclose(both[i][k], alone[k][i], rtol=_TOLERANCE, atol=_TOLERANCE)
        for i in range(len(shapes))
        for k in range(2)
    )


def _adds_up(query: tfp.DPQuery, model: tff.learning.models.FunctionalModel) -> bool:
    """Tries whether accumulating two preprocessed records is accumulating their sum."""
    if not isinstance(query, tfp.SumAggregationDPQuery):
        return False
    generator = np.random.default_rng(0)
    weights = tff.learning.models.ModelWeights(*model.initial_weights)
    template = aggregation.record_template(tf.nest.map_structure(np.asarray, weights))
    draw = lambda spec: tf.cast(generator.normal(size=spec.shape), spec.dtype)  # noqa: E731
    with tf.init_scope():
        params = query.derive_sample_params(query.initial_global_state())
        one, other = (
            query.preprocess_record(params, tf.nest.map_structure(draw, template)) for _ in range(2)
        )
        empty = aggregation.empty_sample_state(query, template)
        in_turn = query.accumulate_preprocessed_record(
            query.accumulate_preprocessed_record(empty, one), other
        )
        at_once = query.accumulate_preprocessed_record(
            empty, tf.nest.map_structure(tf.add, one, other)
        )
        leaves = zip(tf.nest.flatten(in_turn), tf.nest.flatten(at_once), strict=True)
        return all(np.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE) for a, b in leaves)


def _model_bytes(model: tff.learning.models.FunctionalModel) -> int:
    """Returns the bytes of one client's trainable weights."""
    return sum(np.asarray(w).nbytes for w in tf.nest.flatten(model.initial_weights[0]))
