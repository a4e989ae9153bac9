"""Matrix factorisation against its own formulas in NumPy, and what leaves a client."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fl_research.data.client_data import ClientData
from fl_research.data.interaction_split import SplitConfig, split_interactions
from fl_research.data.interactions import InteractionColumns, RatingRange, read_interactions
from fl_research.data.synthetic import baskets, ratings
from fl_research.errors import InputError
from fl_research.learning.aggregation import update_specs
from fl_research.models import matrix_factorization
from fl_research.models.matrix_factorization import Config
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.objectives.item_ranking import ItemRanking
from fl_research.objectives.rating_prediction import RatingPrediction
from tests.contracts.rating_rows import ITEMS, PLACES, RATINGS, draw_ratings

RANKING = ItemRanking(items=tuple(f"i{n}" for n in range(ITEMS)), places=PLACES)


def _types(features: dict[str, np.ndarray]) -> dict:
    """Row types of features."""
    return {name: (values.shape[1:], values.dtype) for name, values in features.items()}


def _model(config: Config, objective, features: dict[str, np.ndarray]):
    """The model for these features."""
    return matrix_factorization.build(
        config, row_types=_types(features), objective=objective, seed=3
    )


def _weights(seed: int, factors: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Item factors, biases and mean that are not those of the start."""
    generator = np.random.default_rng(seed)
    drawn = (generator.normal(size=s) for s in ([ITEMS, factors], [ITEMS], []))
    return tuple(np.asarray(w, np.float32) for w in drawn)


def test_predicted_ratings_are_those_of_a_ridge_regression() -> None:
    """scikit-learn's ridge on the ones and factors of the context's items, user by user; 1e-4."""
    from sklearn.linear_model import Ridge

    features, _ = draw_ratings(np.random.default_rng(0), 6)
    # Other targets than the context, as in the evaluation.
    others, _ = draw_ratings(np.random.default_rng(1), 6)
    features = {**features, "target_items": others["context_items"]}
    factors, biases, mean = _weights(2)
    model = _model(Config(factors=3, ridge=0.7), RATINGS, features)
    outputs = model.predict_on_batch(((factors, biases, mean), ()), features, training=False)
    ones = np.concatenate([np.ones([ITEMS, 1]), factors], axis=1)
    for row in range(6):
        context, target = features["context_items"][row], features["target_items"][row]
        known = context > 0
        left = features["context_values"][row][known] - mean - biases[context[known] - 1]
        ridge = Ridge(alpha=0.7, fit_intercept=False).fit(ones[context[known] - 1], left)
        asked = target > 0
        expected = mean + biases[target[asked] - 1] + ones[target[asked] - 1] @ ridge.coef_
        np.testing.assert_allclose(outputs["scores"][row][asked], expected, atol=1e-4)


def test_a_user_without_context_gets_mean_and_item_bias() -> None:
    features = {
        "context_items": np.zeros([1, PLACES], np.int32),
        "context_values": np.zeros([1, PLACES], np.float32),
        "target_items": np.array([[2, 9, 0, 0, 0]], np.int32),
    }
    factors, biases, mean = _weights(2)
    model = _model(Config(factors=3), RATINGS, features)
    outputs = model.predict_on_batch(((factors, biases, mean), ()), features, training=False)
    np.testing.assert_allclose(outputs["scores"][0, :2], mean + biases[[1, 8]], rtol=1e-6)


def test_implicit_scores_and_loss_are_those_of_the_papers_sums() -> None:
    """The user's factor by weighted least squares over every item, one by one; 1e-4."""
    config = Config(factors=3, ridge=0.5, item_ridge=0.2, unobserved_weight=0.1)
    context = np.array([[1, 4, 9, 0, 0], [2, 0, 0, 0, 0], [0, 0, 0, 0, 0]], np.int32)
    factors = _weights(4)[0]
    model = _model(config, RANKING, {"context_items": context})
    outputs = model.predict_on_batch(
        ((factors,), ()), {"context_items": tf.constant(context)}, training=True
    )
    losses = RANKING.row_loss(outputs, tf.constant(context))
    for row in range(3):
        chosen = context[row][context[row] > 0] - 1
        # (1 - s)^2 for chosen items, and weight * s^2 for every item, as one regression.
        rows = np.concatenate([factors[chosen], np.sqrt(0.1) * factors, np.sqrt(0.5) * np.eye(3)])
        wanted = np.concatenate([np.ones(len(chosen)), np.zeros(ITEMS + 3)])
        user = np.linalg.lstsq(rows, wanted, rcond=None)[0]
        np.testing.assert_allclose(outputs["scores"][row], factors @ user, atol=1e-4)
        loss = np.sum((wanted - rows @ user) ** 2) + 0.2 * np.sum(factors[chosen] ** 2)
        assert float(losses[row]) == pytest.approx(loss / PLACES, rel=1e-4)


def test_implicit_gradient_equals_finite_differences_of_the_best_loss() -> None:
    """The user part is held fixed, yet the gradient is that of the loss at the best user part."""
    config = Config(factors=3, ridge=0.5)
    context = np.array([[1, 4, 9, 0, 0], [2, 3, 5, 7, 0]], np.int32)
    model = _model(config, RANKING, {"context_items": context})
    batch = {"context_items": tf.constant(context)}

    def loss(factors: tf.Tensor) -> tf.Tensor:
        outputs = model.predict_on_batch(((factors,), ()), batch, training=True)
        return model.loss(outputs, tf.constant(context))

    factors = tf.constant(_weights(5)[0])
    with tf.GradientTape() as tape:
        tape.watch(factors)
        value = loss(factors)
    gradient = tape.gradient(value, factors).numpy()
    direction = np.random.default_rng(6).normal(size=factors.shape).astype(np.float32)
    direction /= np.linalg.norm(direction)
    slope = (loss(factors + 1e-2 * direction) - loss(factors - 1e-2 * direction)) / 2e-2
    assert float(slope) == pytest.approx(float(np.sum(gradient * direction)), rel=1e-2)


@pytest.mark.parametrize("objective", [RATINGS, RANKING])
def test_nothing_of_a_user_is_in_the_model(objective) -> None:
    """Every weight has an axis of items or is one number; none depends on how many users there are.

    So neither a client update, whose parts have these shapes, nor the server's state can hold a
    user's factor, which is as long as an item's.
    """
    features, _ = draw_ratings(np.random.default_rng(0), 4)
    if objective is RANKING:
        features = {"context_items": features["context_items"]}
    model = _model(Config(factors=3), objective, features)
    shapes = [tuple(w.shape) for w in tf.nest.flatten(model.initial_weights)]
    assert shapes == ([(ITEMS, 3)] if objective is RANKING else [(ITEMS, 3), (ITEMS,), ()])
    specs = [tuple(spec.shape) for spec in tf.nest.flatten(update_specs(model))]
    assert specs == shapes


def test_numbers_too_large_are_nan_and_no_crash() -> None:
    """A client that diverged is left out of a round; an error would end the round."""
    features, _ = draw_ratings(np.random.default_rng(0), 2)
    factors, biases, mean = _weights(2)
    model = _model(Config(factors=3), RATINGS, features)
    for scale in (1e5, 1e12, 1e25, np.inf, np.nan):
        outputs = model.predict_on_batch(
            ((factors * np.float32(scale), biases, mean), ()), features, training=True
        )
        assert np.isfinite(outputs["scores"]).all() == (scale in (1e5, 1e12))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factors": 0}, "factors=0"),
        ({"ridge": 0.0}, "ridge=0.0"),
        ({"item_ridge": -1.0}, "item_ridge=-1.0"),
        ({"unobserved_weight": 0.0}, "unobserved_weight=0.0"),
        ({"initial_scale": float("nan")}, "initial_scale=nan"),
    ],
)
def test_settings_out_of_range(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Config(**settings)


def test_other_features_or_objectives_are_refused() -> None:
    types = {"inputs": ((3,), np.dtype(np.float32))}
    for objective in (BinaryClassification(), RATINGS):
        with pytest.raises(InputError, match="needs the interactions of users with items"):
            matrix_factorization.build(Config(), row_types=types, objective=objective, seed=0)


# ------------------------------------------------------------------- against an independent peer


def _minimise(model: tff.learning.models.FunctionalModel, train: ClientData, steps: int) -> list:
    """Weights after so many steps of Adam on all rows; no federated learning in it."""
    weights = [tf.Variable(w) for w in model.initial_weights[0]]
    optimizer = tf.keras.optimizers.legacy.Adam(0.03)
    x = collections.OrderedDict((n, tf.constant(v)) for n, v in train.features.items())
    labels = tf.constant(train.labels)

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            outputs = model.predict_on_batch((tuple(weights), ()), x, training=True)
            loss = model.loss(outputs, labels)
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    for _ in range(steps):
        step()
    return weights


def _alternating_least_squares(
    train: ClientData, items: int, rank: int, ridge: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Central matrix factorisation with biases: users and items in turn, each solved exactly."""
    user, place = np.nonzero(train.labels[..., 1])
    item = train.features["target_items"][user, place] - 1
    values = train.labels[user, place, 0].astype(float)
    mean = values.mean()
    of_user = np.zeros([train.num_clients, rank + 1])
    of_item = np.random.default_rng(1).normal(scale=0.1, size=[items, rank + 1])
    of_item[:, 0] = 0
    for _ in range(12):
        for side, other, number, others in (
            (of_user, of_item, user, item),
            (of_item, of_user, item, user),
        ):
            left = values - mean - other[others, 0]
            known = np.concatenate([np.ones([len(left), 1]), other[others, 1:]], axis=1)
            for one in range(len(side)):
                rows = number == one
                if rows.any():
                    system = known[rows].T @ known[rows] + ridge * np.eye(rank + 1)
                    side[one] = np.linalg.solve(system, known[rows].T @ left[rows])
    return of_user[:, 1:], of_item[:, 1:], of_user[:, 0], of_item[:, 0], mean


@pytest.mark.slow
def test_rmse_is_within_three_percent_of_central_factorisation_with_biases() -> None:
    """On generated ratings of known rank; and far better than biases alone."""
    config = ratings.RatingsConfig(num_customers=500, num_items=80, typical_ratings=30, rank=3)
    read = read_interactions(
        ratings.generate(config, seed=0).records,
        InteractionColumns(user="customer", item="item", rating="rating"),
        rating_range=RatingRange(lowest=1.0, highest=5.0),
    )
    split = split_interactions(read, SplitConfig(held_out="random", max_items=60), seed=0)
    objective = RatingPrediction(items=read.items, places=60, rating_range=read.rating_range)
    model = _model(
        Config(factors=3, ridge=0.5, item_ridge=0.01), objective, dict(split.train.features)
    )
    weights = _minimise(model, split.train, 150)
    held = split.held_out
    features = {name: tf.constant(values) for name, values in held.features.items()}
    outputs = model.predict_on_batch((tuple(weights), ()), features, training=False)
    rmse = objective.metrics(objective.pooled(outputs, tf.constant(held.labels), features))["rmse"]

    row, place = np.nonzero(held.labels[..., 1])
    item = held.features["target_items"][row, place] - 1
    users = np.searchsorted(split.train.client_ids, held.client_ids)[row]
    found = []
    for ridge in (0.25, 0.5, 1.0):  # The reference at its best.
        of_user, of_item, user_bias, item_bias, mean = _alternating_least_squares(
            split.train, len(read.items), 3, ridge
        )
        predicted = mean + user_bias[users] + item_bias[item]
        predicted = predicted + np.sum(of_user[users] * of_item[item], axis=1)
        error = np.clip(predicted, -1, 1) - held.labels[row, place, 0]
        found.append(2 * np.sqrt(np.mean(error**2)))
    assert rmse < 1.03 * min(found)
    assert rmse < 0.85 * objective.trivial(split.train, held)["item and user biases"]["rmse"]


@pytest.mark.slow
def test_implicit_ranking_beats_popularity_and_stays_below_the_known_law() -> None:
    config = baskets.BasketsConfig(num_customers=600, num_items=60, num_themes=4)
    generated = baskets.generate(config, seed=0)
    read = read_interactions(
        generated.records,
        InteractionColumns(user="customer", item="item", time="time", basket="invoice"),
    )
    split = split_interactions(read, SplitConfig(held_out="last_basket", max_items=30), seed=0)
    objective = ItemRanking(items=read.items, places=30)
    model = _model(Config(factors=8, item_ridge=0.02), objective, dict(split.train.features))
    weights = _minimise(model, split.train, 100)
    held = split.held_out
    features = {name: tf.constant(values) for name, values in held.features.items()}

    def ndcg(outputs: dict) -> float:
        pooled = objective.pooled(outputs, tf.constant(held.labels), features)
        return objective.metrics(pooled)["ndcg_at_10"]

    found = ndcg(model.predict_on_batch((tuple(weights), ()), features, training=False))
    owner = np.char.replace(held.client_ids, "C", "").astype(int) - 1
    items = np.char.replace(np.array(read.items), "I", "").astype(int) - 1
    known = generated.probability[np.ix_(owner, items)].astype(np.float32)
    best = ndcg({"scores": tf.constant(known)})
    popularity = objective.trivial(split.train, held)["popularity"]["ndcg_at_10"]
    assert 1.2 * popularity < found < best
