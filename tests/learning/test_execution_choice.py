"""Which way to train a block's clients is chosen for a model, an optimizer and a query."""

import collections
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fl_research.errors import InputError
from fl_research.learning import client_loop, execution
from fl_research.learning.client_update import LocalTraining
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.models import mlp
from fl_research.stackable.layers import dense, gru_last_state, sigmoid_cross_entropy
from fl_research.stackable.model import StackableModel
from tests.learning import small_cohorts, traced_blocks

UNITS = 8
RECURRENT_STEPS = 5 * small_cohorts.NUM_INPUTS


def _plain_model() -> tff.learning.models.FunctionalModel:
    """Logistic regression that knows nothing of stacks."""
    stackable = small_cohorts.model("logistic_regression")

    @tf.function
    def predict(weights: Any, x: Any, training: bool) -> tf.Tensor:
        return stackable.predict_on_batch(weights, x, training)

    return tff.learning.models.FunctionalModel(
        initial_weights=stackable.initial_weights,
        predict_on_batch_fn=predict,
        loss_fn=lambda output, label, sample_weight=None: stackable.loss(output, label),
        input_spec=stackable.input_spec,
    )


def _gru_model() -> StackableModel:
    """A recurrent model that reads a row's inputs one by one, five times over."""
    generator = np.random.default_rng(0)
    draw = lambda *shape: generator.normal(0, 0.5, shape).astype(np.float32)  # noqa: E731
    gru = (draw(1, 3 * UNITS), draw(UNITS, 3 * UNITS), draw(3 * UNITS), draw(3 * UNITS))

    def predict(trainable: Any, x: Any) -> tf.Tensor:
        *gru, kernel, bias = trainable
        series = tf.concat([x["inputs"]] * 5, axis=-1)[..., tf.newaxis]
        return tf.squeeze(dense(gru_last_state(series, *gru), kernel, bias), axis=-1)

    return StackableModel(
        initial_weights=((*gru, draw(UNITS, 1), draw(1)), ()),
        predict=predict,
        row_loss=sigmoid_cross_entropy,
        input_spec=small_cohorts.model("mlp").input_spec,
    )


class _LargestQuery(tfp.SumAggregationDPQuery):
    """Keeps the largest value of each number: a maximum, which is no sum."""

    def initial_sample_state(self, template: Any = None) -> Any:
        return tf.nest.map_structure(lambda t: tf.zeros(t.shape, t.dtype), template)

    def preprocess_record(self, params: Any, record: Any) -> Any:
        return record

    def accumulate_preprocessed_record(self, sample_state: Any, preprocessed_record: Any) -> Any:
        return tf.nest.map_structure(tf.maximum, sample_state, preprocessed_record)

    def get_noised_result(self, sample_state: Any, global_state: Any) -> Any:
        raise NotImplementedError


class _CountingQuery(tfp.NoPrivacySumQuery):
    """A sum that also counts how often it was handed a record."""

    def initial_sample_state(self, template: Any = None) -> Any:
        return super().initial_sample_state(template), tf.constant(0)

    def accumulate_preprocessed_record(self, sample_state: Any, preprocessed_record: Any) -> Any:
        total, count = sample_state
        total = super().accumulate_preprocessed_record(total, preprocessed_record)
        return total, count + 1


class _NormalizingOptimizer(tff.learning.optimizers.Optimizer):
    """Steps of norm 1 over all weights: a client's step depends on all of its gradient."""

    def initialize(self, specs: Any) -> Any:
        return collections.OrderedDict()

    def next(self, state: Any, weights: Any, gradients: Any) -> tuple[Any, Any]:
        norm = tf.linalg.global_norm(tf.nest.flatten(gradients))
        return state, tf.nest.map_structure(lambda w, g: w - g / norm, weights, gradients)


class _ClippingOptimizer(_NormalizingOptimizer):
    """Plain steps, but for gradients of a norm above 100 over all weights."""

    def next(self, state: Any, weights: Any, gradients: Any) -> tuple[Any, Any]:
        clipped, _ = tf.clip_by_global_norm(tf.nest.flatten(gradients), 100.0)
        gradients = tf.nest.pack_sequence_as(gradients, clipped)
        return state, tf.nest.map_structure(lambda w, g: w - 0.1 * g, weights, gradients)


def _mixing_model() -> StackableModel:
    """A model that centres by the first axis: a client's rows, but the clients of a stack."""
    kernel, bias = np.ones([small_cohorts.NUM_INPUTS, 1], np.float32), np.zeros(1, np.float32)

    def predict(trainable: Any, x: Any) -> tf.Tensor:
        inputs = x["inputs"] - tf.reduce_mean(x["inputs"], axis=0, keepdims=True)
        return tf.squeeze(dense(inputs, *trainable), axis=-1)

    return StackableModel(
        initial_weights=((kernel, bias), ()),
        predict=predict,
        row_loss=sigmoid_cross_entropy,
        input_spec=small_cohorts.model("mlp").input_spec,
    )


def _training(model: Any = "mlp", optimizer: Any = None, execution: str = "auto") -> LocalTraining:
    """Local training with SGD, or another optimizer."""
    return LocalTraining(
        model=small_cohorts.model(model) if isinstance(model, str) else model,
        optimizer=optimizer or small_cohorts.optimizer("sgd", 0.1),
        config=ClientUpdateConfig(execution=execution, batch_size=4, local_epochs=2),
    )


SUM = small_cohorts.UpdateAndWeightSum()


@pytest.mark.parametrize("model", ["logistic_regression", "mlp"])
def test_auto_stacks_small_models(model: str) -> None:
    for mechanism, settings in (
        ("none", {}),
        ("gaussian", {"clip_norm": 0.1, "noise_multiplier": 1.0}),
        ("adaptive_gaussian", {"clip_norm": 0.1, "noise_multiplier": 0.5}),
    ):
        query = small_cohorts.query(mechanism, population=10, **settings)
        assert execution.resolve(_training(model), query) == "stacked"


@pytest.mark.parametrize("name", traced_blocks.OPTIMIZERS)
def test_auto_stacks_elementwise_optimizers(name: str) -> None:
    training = traced_blocks.training("mlp", name)
    assert execution.resolve(training, SUM) == "stacked"


def test_auto_stacks_recurrent_models() -> None:
    assert execution.resolve(_training(_gru_model()), SUM) == "stacked"


def test_auto_loops_over_the_clients_of_large_models() -> None:
    large = mlp.build(
        mlp.Config(hidden_sizes=(100_000,)),
        row_types=small_cohorts.ROW_TYPES,
        objective=small_cohorts.OBJECTIVE,
        seed=0,
    )
    assert execution.resolve(_training(large), SUM) == "loop"
    # It could be stacked all the same.
    assert execution.resolve(_training(large, execution="stacked"), SUM) == "stacked"


@pytest.mark.parametrize("asked", ["loop", "stacked"])
def test_what_is_asked_for_is_taken_where_it_can_be(asked: str) -> None:
    for model in (small_cohorts.model("mlp"), _gru_model()):
        assert execution.resolve(_training(model, execution=asked), SUM) == asked


OBSTACLES = {
    "plain model": ({"model": _plain_model}, SUM, "the model is not a StackableModel"),
    "adafactor": (
        {"optimizer": lambda: small_cohorts.optimizer("adafactor", 0.1)},
        SUM,
        "the client optimizer does not treat each number on its own",
    ),
    "normalized steps": (
        {"optimizer": _NormalizingOptimizer},
        SUM,
        "the client optimizer does not treat each number on its own",
    ),
    "steps of bounded norm": (
        {"optimizer": _ClippingOptimizer},
        SUM,
        "the client optimizer does not treat each number on its own",
    ),
    "mixing model": (
        {"model": _mixing_model},
        SUM,
        "the model's result for stacked clients is not that of each alone",
    ),
    "maximum": ({}, _LargestQuery(), "the query's records do not add up"),
    "counting": ({}, _CountingQuery(), "the query's records do not add up"),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_cannot_be_stacked_is_trained_in_a_loop(obstacle: str) -> None:
    """`auto` takes the loop; asking for a stack names the obstacle and the way out."""
    parts, query, words = OBSTACLES[obstacle]
    parts = {name: make() for name, make in parts.items()}
    for asked in ("auto", "loop"):
        training = _training(**parts, execution=asked)
        assert execution.resolve(training, query) == "loop"
        assert execution.block_update_function(training, query) is client_loop.block_update
    with pytest.raises(InputError, match=f"execution='stacked' .*{words}.*'auto' or 'loop'"):
        execution.resolve(_training(**parts, execution="stacked"), query)


def test_process_that_cannot_be_stacked_is_refused_when_it_is_built() -> None:
    query = small_cohorts.query("none", population=10)
    small_cohorts.process(_plain_model(), query)
    with pytest.raises(InputError, match="execution='stacked'.*StackableModel"):
        small_cohorts.process(_plain_model(), query, execution="stacked")


def test_unknown_execution_is_refused() -> None:
    with pytest.raises(InputError, match="execution='fast'.*auto, loop, stacked"):
        ClientUpdateConfig(execution="fast")


def test_recurrent_clients_are_trained_alike() -> None:
    """Sums and losses of a GRU agree with the loop's to 1e-5 relative, 1e-6 absolute."""
    training = traced_blocks.training(_gru_model(), batch_size=4, local_epochs=2)
    block = traced_blocks.one_block(small_cohorts.clients())
    expected = traced_blocks.sums(training, "loop")(block)
    found = traced_blocks.sums(training, "stacked", 8)(block)
    small_cohorts.assert_states_close(found, expected, rtol=1e-5, atol=1e-6)
