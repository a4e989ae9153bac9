"""Matrix factorisation whose user factors are rebuilt on the client and never leave it.

The weights hold what concerns items only. The factor of a user is no weight: `predict` rebuilds it
from the interactions of the row (`context_items`, `context_values`) by a ridge regression on the
factors of those items, solved exactly (a system of the size of the factors), and scores items with
it. So a client update has an axis of items and none of users, and a customer who was never trained
on is served as well as any other.

- Ratings (the rows have `target_items`): `rating = mean + item bias + user bias + user . item`, the
  user's bias and factor from the ridge regression of what mean and item biases leave. Scores are
  those of the targets.
- Implicit feedback (no `target_items`): the loss of a user u with items N(u) is
  `sum_{i in N(u)} (1 - u.v_i)^2 + unobserved_weight * sum_{all i} (u.v_i)^2 + ridge * |u|^2`; the
  sum over the whole catalogue is a matrix of the factors' size, so none is sampled. Scores are
  those of all items.

The loss of a row is its squared errors plus `ridge * |user part|^2`, and item factors follow its
gradient with the user part held fixed. Where context and targets are the same interactions, as in
training, this is the exact gradient of the loss after the user part was chosen best, since at the
best choice its own derivative is zero (Golub and Pereyra 1973, "variable projection"). In addition
each interaction pulls the factors (and bias) of its item to zero with `item_ridge`.

Papers: Singhal et al. 2021, "Federated Reconstruction: Partially Local Federated Learning";
Ammad-ud-din et al. 2019, "Federated Collaborative Filtering for Privacy-Preserving Personalized
Recommendation System"; Hu, Koren and Volinsky 2008, "Collaborative Filtering for Implicit Feedback
Datasets"; Rendle et al. 2021, "Revisiting the Performance of iALS on Item Recommendation
Benchmarks".
"""

import collections
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research import randomness
from fl_research.argument_checks import (
    require_at_least,
    require_not_negative,
    require_positive,
)
from fl_research.data.clients import RowTypes
from fl_research.data.interaction_split import CONTEXT_ITEMS, CONTEXT_VALUES, TARGET_ITEMS
from fl_research.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_federated as tff

    from fl_research.objectives.objective import Objective

# Keeps the system positive definite in float32, where sums of squares are off by about 1e-6.
_ROUNDING = 3e-6
_LARGEST_TRACE = 1e30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of matrix factorisation.

    Attributes:
      factors: Numbers that describe an item, at least 1.
      ridge: Weight of the squared user part (factor and bias) in its regression, above 0. Ratings
        are in units of half their range.
      item_ridge: Weight of the squared factor and bias of the item of each interaction, 0 or more.
      unobserved_weight: Weight of every item of the catalogue as not wanted, against 1 for an
        item that was chosen; above 0, for implicit feedback only.
      initial_scale: Standard deviation of the item factors at the start, above 0.

    Raises:
      InputError: A value is out of its range.
    """

    factors: int = 8
    ridge: float = 0.5
    item_ridge: float = 0.02
    unobserved_weight: float = 1.0
    initial_scale: float = 0.1

    def __post_init__(self) -> None:
        require_at_least("factors", self.factors, 1)
        require_positive("ridge", self.ridge)
        require_not_negative("item_ridge", self.item_ridge)
        require_positive("unobserved_weight", self.unobserved_weight)
        require_positive("initial_scale", self.initial_scale)


def build(
    config: Config, *, row_types: RowTypes, objective: "Objective", seed: int
) -> "tff.learning.models.FunctionalModel":
    """Returns matrix factorisation as a functional model.

    Args:
      config: The settings.
      row_types: Shape and type of one row of each feature: `context_items` int32[length] (number
        of the item from 1, 0 for nothing), `context_values` float32[length] for ratings, and for
        ratings `target_items` int32[targets].
      objective: `rating_prediction` or `item_ranking`; knows the number of items.
      seed: Seed of the initial item factors.

    Returns:
      A model from these features to `OrderedDict(scores, penalty)`: `float32[..., rows, targets]`,
      or for implicit feedback `[..., rows, items]`, and what the model adds to the loss of each
      row, `float32[..., rows]`.

    Raises:
      InputError: The features are not interactions or the objective has no items.
    """
    # Imported here so that a command line can read `Config` without waiting for TensorFlow.
    from fl_research.stackable.inputs import input_spec
    from fl_research.stackable.model import StackableModel

    items = _num_items(row_types, objective)
    is_rating = TARGET_ITEMS in row_types
    draws = randomness.generator(seed, "model_init").normal(size=[items, config.factors])
    factors = (config.initial_scale * draws).astype(np.float32)
    weights: tuple[np.ndarray, ...] = (factors,)
    if is_rating:
        weights = (factors, np.zeros([items], np.float32), np.zeros([], np.float32))

    def predict(trainable: Any, x: Any) -> Any:
        if is_rating:
            return predict_ratings(config, trainable, x)
        return score_all_items(config, trainable[0], x[CONTEXT_ITEMS])

    return StackableModel(
        initial_weights=(weights, ()),
        predict=predict,
        row_loss=objective.row_loss,
        input_spec=input_spec(row_types, objective),
    )


def _num_items(row_types: RowTypes, objective: "Objective") -> int:
    """The number of items; refuses features that are no interactions, or an objective without."""
    items = getattr(objective, "num_items", None)
    fits = set(row_types) in ({CONTEXT_ITEMS}, {CONTEXT_ITEMS, CONTEXT_VALUES, TARGET_ITEMS})
    if items is None or not fits:
        raise InputError(
            f"model='matrix_factorization' does not fit the features {sorted(row_types)}; it needs "
            "the interactions of users with items, as personalized_recommendation has them"
        )
    return int(items)


def predict_ratings(
    config: Config, trainable: tuple["tf.Tensor", ...], x: Mapping[str, "tf.Tensor"]
) -> collections.OrderedDict:
    """Returns scores and penalty of the targets of each row; see `build`.

    Args:
      config: The settings.
      trainable: Item factors `[..., items, factors]`, item biases `[..., items]`, mean `[...]`.
      x: The features, `[..., rows, length]` each.
    """
    import tensorflow as tf

    factors, biases, mean = trainable

    def described(items: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Factors with a one in front, bias and weight (1, or 0 for nothing) of items."""
        weight = tf.cast(items > 0, tf.float32)
        vector, bias = _gather(factors, items), _gather(biases[..., tf.newaxis], items)[..., 0]
        return tf.concat([tf.ones_like(vector[..., :1]), vector], axis=-1), bias, weight

    mean = mean[..., tf.newaxis, tf.newaxis]
    vectors, bias, weight = described(x[CONTEXT_ITEMS])
    left = (x[CONTEXT_VALUES] - mean - bias) * weight
    user = ridge_solution(vectors * weight[..., tf.newaxis], left, config.ridge)
    vectors, bias, weight = described(x[TARGET_ITEMS])
    scores = mean + bias + tf.linalg.matvec(vectors, user)
    size = tf.reduce_sum(tf.square(vectors[..., 1:]), axis=-1) + tf.square(bias)
    penalty = config.item_ridge * tf.reduce_sum(size * weight, axis=-1)
    penalty += config.ridge * tf.reduce_sum(tf.square(user), axis=-1)
    return collections.OrderedDict(scores=scores, penalty=penalty)


def score_all_items(
    config: Config, factors: "tf.Tensor", context: "tf.Tensor"
) -> collections.OrderedDict:
    """Returns each row's scores of all items, and the penalty; see `build`.

    Args:
      config: The settings.
      factors: `[..., items, factors]`.
      context: int32 `[..., rows, length]`.
    """
    import tensorflow as tf

    weight = tf.cast(context > 0, tf.float32)
    vectors = _gather(factors, context) * weight[..., tf.newaxis]
    of_all = config.unobserved_weight * tf.matmul(factors, factors, transpose_a=True)
    user = ridge_solution(vectors, weight, config.ridge, of_all[..., tf.newaxis, :, :])
    scores = tf.matmul(user, factors, transpose_b=True)
    size = tf.reduce_sum(tf.square(vectors), axis=[-2, -1])
    penalty = config.unobserved_weight * tf.reduce_sum(tf.square(scores), axis=-1)
    penalty += config.item_ridge * size + config.ridge * tf.reduce_sum(tf.square(user), axis=-1)
    return collections.OrderedDict(scores=scores, penalty=penalty)


def ridge_solution(
    vectors: "tf.Tensor", values: "tf.Tensor", ridge: float, gramian: Any = 0.0
) -> "tf.Tensor":
    """Returns the user part: `argmin_u |values - vectors u|^2 + u' gramian u + ridge |u|^2`.

    No gradient passes through it. Where numbers are too large for float32 it is NaN, so that the
    client is left out of the round instead of ending it.

    Args:
      vectors: `[..., length, size]`, zero where there is no interaction.
      values: `[..., length]`.
      ridge: Above 0.
      gramian: `[..., size, size]`, or 0.

    Returns:
      `[..., size]`.
    """
    import tensorflow as tf

    size = vectors.shape[-1]
    system = tf.matmul(vectors, vectors, transpose_a=True) + gramian
    trace = tf.linalg.trace(system)
    usable = tf.abs(trace) < _LARGEST_TRACE
    diagonal = (ridge + _ROUNDING * trace)[..., tf.newaxis, tf.newaxis] * tf.eye(size)
    matrix_usable = usable[..., tf.newaxis, tf.newaxis]
    system = tf.where(matrix_usable, system + diagonal, tf.eye(size))
    right = tf.linalg.matvec(vectors, values, transpose_a=True)[..., tf.newaxis]
    solution = tf.linalg.cholesky_solve(tf.linalg.cholesky(system), right)[..., 0]
    nan = tf.constant(float("nan"), solution.dtype)
    return tf.stop_gradient(tf.where(usable[..., tf.newaxis], solution, nan))


def _gather(table: "tf.Tensor", items: "tf.Tensor") -> "tf.Tensor":
    """Returns the rows `[..., rows, length, width]` of a table `[..., items, width]`."""
    import tensorflow as tf

    return tf.gather(table, tf.maximum(items - 1, 0), axis=-2, batch_dims=table.shape.rank - 2)
