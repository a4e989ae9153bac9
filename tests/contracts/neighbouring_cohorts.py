"""Two cohorts that differ in one client, and a whole release of each with the same randomness.

A real model is trained on each client of a block, and the query clips, sums and adds noise.
"""

import collections
from collections.abc import Callable
from typing import Any

import dp_accounting
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fl_research.learning import aggregation
from fl_research.learning.client_update import block_update
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.local_training import LocalTraining
from fl_research.privacy.plan import PrivacyPlan
from tests.contracts.mechanism_cases import EXPECTED_COHORT, vector
from tests.learning import small_cohorts
from tests.learning.small_cohorts import NUM_INPUTS

Relation = dp_accounting.NeighboringRelation
Member = tuple[int, np.ndarray]  # The client's number and its rows' features.
CLIP = 0.05  # Every ordinary client is clipped, too.
RATE = 0.3
MODEL = small_cohorts.model("logistic_regression")


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Features of ordinary rows."""
    return np.random.default_rng(seed).normal(size=[count, NUM_INPUTS]).astype(np.float32)


STRANGE: dict[str, np.ndarray] = {
    "ordinary": rows(6, 10),
    "one_row": rows(1, 11),
    "no_rows": rows(0),
    "zeros": np.zeros([3, NUM_INPUTS], np.float32),
    "huge": np.float32(1e19) * rows(4, 12),
    "one_huge_row": np.float32(1e38) * np.sign(rows(1, 13)),
    "largest": np.full([20, NUM_INPUTS], np.finfo(np.float32).max),
    "infinite": np.where(rows(5, 14) > 1, np.inf, 0.5).astype(np.float32),
    "nan": np.full([2, NUM_INPUTS], np.nan, np.float32),
}
OTHERS: dict[str, list[Member]] = {
    "nobody": [],
    "three": [(1, rows(5, 1)), (2, rows(1, 2)), (3, rows(12, 3))],
    "with_a_bad_one": [(1, rows(5, 1)), (2, STRANGE["nan"]), (3, STRANGE["huge"])],
}


def block(members: list[Member], round_number: int) -> Any:
    """A block of these clients, whose seeds follow from their own number and the round."""
    counts = [len(features) for _, features in members]
    labels = [np.arange(count, dtype=np.int32) % 2 for count in [0, *counts]]
    features = np.concatenate([rows(0), *[features for _, features in members]])
    seeds = np.array([[round_number, number] for number, _ in members], np.int64)
    return collections.OrderedDict(
        features=collections.OrderedDict(inputs=tf.constant(features)),
        labels=tf.constant(np.concatenate(labels)),
        row_splits=tf.constant(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)),
        seeds=tf.constant(seeds.reshape(-1, 2)),
    )


def runner(plan: PrivacyPlan, query: Any, **client_update: Any) -> Callable[[Any, Any], Any]:
    """Returns `(sample parameters, block) -> sample state`, as one graph."""
    training = LocalTraining(
        model=MODEL,
        optimizer=small_cohorts.optimizer("sgd", RATE),
        config=ClientUpdateConfig(**client_update),
        example_privacy=plan.example_privacy,
    )
    weights = tff.learning.models.ModelWeights(*MODEL.initial_weights)
    weights = tf.nest.map_structure(tf.constant, weights)
    x, y = MODEL.input_spec
    spec = collections.OrderedDict(
        features=collections.OrderedDict(x),
        labels=y,
        row_splits=tf.TensorSpec([None], tf.int64),
        seeds=tf.TensorSpec([None, 2], tf.int64),
    )
    params = query.derive_sample_params(query.initial_global_state())
    specs = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), params)
    return tf.function(
        lambda params, b: block_update(training, query, weights, params, b)["accumulated"],
        autograph=False,
        input_signature=[specs, spec],
    )


class Aggregation:
    """Runs one release of a cohort from any state."""

    def __init__(self, plan: PrivacyPlan, **client_update: Any) -> None:
        self.query = plan.query(aggregation.update_specs(MODEL))
        self.total = runner(plan, self.query, **client_update)

    def sums(self, state: Any, members: list[Member], round_number: int) -> tuple[np.ndarray, Any]:
        """The noised sum, float64, and the state after the release."""
        params = self.query.derive_sample_params(state)
        total = self.total(params, block(members, round_number))
        mean, state, _ = self.query.get_noised_result(total, state)
        return vector(mean).astype(np.float64) * EXPECTED_COHORT, state


def neighbours(relation: Relation, data: np.ndarray) -> tuple[list[Member], list[Member]]:
    """A client with these data, and its neighbour: nobody, itself without data, or another one."""
    one = [(9, data)]
    if relation is Relation.ADD_OR_REMOVE_ONE:
        return one, []
    if relation is Relation.REPLACE_SPECIAL:
        return one, [(9, STRANGE["no_rows"])]
    return one, [(9, -STRANGE["huge"])]
