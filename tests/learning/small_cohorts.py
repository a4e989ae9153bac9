"""Small seeded cohorts and processes that several tests of this folder use."""

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fl_research.data.blocks import cut_into_blocks
from fl_research.data.client_data import ClientData
from fl_research.data.client_sampling import FullParticipation
from fl_research.learning.aggregation import update_specs
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.learning_process import build_learning_process
from fl_research.learning.optimizers import OptimizerConfig, build_optimizer
from fl_research.models import registry as models
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.privacy.mechanisms import registry as mechanisms
from fl_research.privacy.plan import PlanSetting

NUM_INPUTS = 4
ROW_TYPES = {"inputs": ((NUM_INPUTS,), np.dtype(np.float32))}
OBJECTIVE = BinaryClassification()
SIZES = (5, 1, 12, 0, 7, 3, 20, 1, 8, 2)  # rows of each client; one has none

Block = collections.OrderedDict


def clients(sizes: Sequence[int] = SIZES, *, seed: int = 0, scale: float = 1.0) -> ClientData:
    """Clients of these sizes with normal features, each with a shift of its own."""
    generator = np.random.default_rng(seed)
    rows = sum(sizes)
    shift = np.repeat(generator.normal(size=[len(sizes), NUM_INPUTS]), sizes, axis=0)
    inputs = scale * (generator.normal(size=[rows, NUM_INPUTS]) + shift)
    labels = (inputs[:, 0] + generator.normal(size=rows) > 0).astype(np.int32)
    splits = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    features = {"inputs": inputs.astype(np.float32)}
    return ClientData(features, labels, splits, np.arange(len(sizes)))


def blocks(
    data: ClientData,
    *,
    num_blocks: int,
    chosen: Sequence[int] | None = None,
    round_number: int = 1,
) -> list[Block]:
    """The chosen clients (all of them by default) as blocks."""
    cohort = np.arange(data.num_clients) if chosen is None else np.array(chosen, np.int64)
    return cut_into_blocks(data, cohort, num_blocks=num_blocks, seed=3, round_number=round_number)


def query(
    mechanism: str,
    *,
    population: int,
    weighting: str = "uniform",
    of: tff.learning.models.FunctionalModel | None = None,
    **config: Any,
) -> Any:
    """The query of a mechanism under full participation, with a fixed noise key.

    Its noise may need to know the model that it is `of`; most do not.
    """
    module = mechanisms.load(mechanism)
    setting = PlanSetting(
        sampling=FullParticipation(population=population), noise_key=(1, 2), weighting=weighting
    )
    specs = update_specs(of or model("logistic_regression"))
    return module.make_plan(module.Config(**config), setting).query(specs)


class UpdateAndWeightSum(tfp.NoPrivacySumQuery):
    """Sums updates and weights as they are, and leaves out what else a record holds."""

    def initial_sample_state(self, template: Any = None) -> Any:
        return super().initial_sample_state(_update_and_weight(template))

    def preprocess_record(self, params: Any, record: Any) -> Any:
        return _update_and_weight(record)


def _update_and_weight(record: Any) -> Any:
    return collections.OrderedDict(update=record["update"], weight=record["weight"])


class BareClip(tfp.GaussianSumQuery):
    """Clips updates as tensorflow_privacy does, with nothing around it."""

    def initial_sample_state(self, template: Any = None) -> Any:
        return super().initial_sample_state(template["update"])

    def preprocess_record(self, params: Any, record: Any) -> Any:
        return super().preprocess_record(params, record["update"])


def model(name: str) -> tff.learning.models.FunctionalModel:
    """A model family with its default settings, for four inputs."""
    family = models.load(name)
    return family.build(family.Config(), row_types=ROW_TYPES, objective=OBJECTIVE, seed=5)


def optimizer(name: str, learning_rate: float, **settings: float) -> Any:
    """An optimizer by name."""
    return build_optimizer(OptimizerConfig(name=name, learning_rate=learning_rate, **settings))


def process(
    used_model: tff.learning.models.FunctionalModel,
    used_query: tfp.DPQuery,
    *,
    client_optimizer: Any = None,
    server_optimizer: Any = None,
    **client_update: Any,
) -> tff.learning.templates.LearningProcess:
    """A process; plain SGD with learning rate 0.3 at the clients and 1 at the server."""
    return build_learning_process(
        used_model,
        client_update=ClientUpdateConfig(**client_update),
        client_optimizer=client_optimizer or optimizer("sgd", 0.3),
        query=used_query,
        server_optimizer=server_optimizer or optimizer("sgd", 1.0),
    )


def leaves(structure: Any) -> list[np.ndarray]:
    """The arrays of a structure, in order."""
    return [np.asarray(leaf) for leaf in tf.nest.flatten(structure)]


def assert_states_close(one: Any, other: Any, *, rtol: float, atol: float) -> None:
    """Fails unless every array of the two states is close."""
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def assert_states_equal(one: Any, other: Any) -> None:
    """Fails unless every array of the two states is equal to the bit, and finite."""
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()
