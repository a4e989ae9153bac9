"""Rating prediction and item ranking against sums by hand and scikit-learn."""

import math

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import ndcg_score

from fl_research.data.client_data import ClientData
from fl_research.data.interactions import RatingRange
from fl_research.errors import InputError
from fl_research.objectives.client_rows import ClientRows
from fl_research.objectives.item_ranking import ItemRanking, best_items
from fl_research.objectives.rating_prediction import RatingPrediction

STARS = RatingRange(lowest=1.0, highest=5.0)
ROWS = tf.constant([0, 1, 2, 3], tf.int64)


def _ratings(places: int = 3, items: int = 4) -> RatingPrediction:
    """The objective of a few items."""
    return RatingPrediction(
        items=tuple(f"i{n}" for n in range(items)), places=places, rating_range=STARS
    )


def _ranking(items: int = 60, places: int = 8) -> ItemRanking:
    """The objective of some items."""
    return ItemRanking(items=tuple(f"i{n}" for n in range(items)), places=places)


def _rated(*customers: dict[int, float], places: int = 3) -> ClientData:
    """Customers' ratings by the number of the item, from 1; targets are the context."""
    items = np.zeros([len(customers), places], np.int32)
    labels = np.zeros([len(customers), places, 2], np.float32)
    for row, given in enumerate(customers):
        for place, (item, stars) in enumerate(given.items()):
            items[row, place], labels[row, place] = item, (STARS.encode(stars), 1)
    features = {"context_items": items, "context_values": labels[..., 0], "target_items": items}
    return ClientData.from_rows(features, labels, [f"c{n}" for n in range(len(customers))])


# --------------------------------------------------------------------------------------- ratings


def test_ratings_are_in_their_own_units_and_cut_to_the_range() -> None:
    """Predictions 3, 9 (cut to 5), 1 for 5, 5, 2: errors 2, 0, 1; an empty place counts nowhere."""
    objective = _ratings()
    labels = _rated({1: 5.0, 2: 5.0}, {3: 2.0}, {}).labels
    scores = np.array([[0.0, 3.0, 7.0], [-1.0, 9.0, 9.0], [5.0, 5.0, 5.0]], np.float32)
    outputs = {"scores": tf.constant(scores)}
    pooled = objective.pooled(outputs, tf.constant(labels), {})
    assert objective.metrics(pooled) == pytest.approx({"rmse": math.sqrt(5 / 3), "mae": 1.0})
    assert int(pooled["examples"]) == 3 and int(pooled["ratings"]) == 3
    per_client = objective.per_client(outputs, tf.constant(labels), {}, ClientRows(ROWS))
    np.testing.assert_allclose(per_client["rmse"], [math.sqrt(2), 1, math.nan])
    np.testing.assert_allclose(per_client["mae"], [1, 1, math.nan])
    counts = np.asarray(pooled["actual_by_predicted"])
    assert counts.sum() == 3 and counts[19, 10] == counts[19, 19] == counts[5, 0] == 1
    finding = objective.findings(pooled)["rating_agreement"]
    assert finding["ratings"] == 3 and finding["edges"][0] == 1 and finding["edges"][-1] == 5


def test_a_prediction_that_is_no_number_is_not_hidden() -> None:
    labels = _rated({1: 5.0}).labels
    outputs = {"scores": tf.constant([[math.nan, 0.0, 0.0]])}
    pooled = _ratings().pooled(outputs, tf.constant(labels), {})
    assert math.isnan(_ratings().metrics(pooled)["rmse"])


def test_rating_loss_weighs_every_rating_equally() -> None:
    labels = tf.constant(_rated({1: 5.0, 2: 1.0}, {3: 3.0}).labels)
    outputs = {"scores": tf.zeros([2, 3]), "penalty": tf.constant([0.5, 0.0])}
    np.testing.assert_allclose(_ratings().row_loss(outputs, labels), [2.5 / 3, 0])


def test_trivial_predictions_of_ratings_by_hand() -> None:
    """Item 4 is new, and so is customer c2: the global mean stands in, or a bias of zero."""
    objective = _ratings()
    train = _rated({1: 5.0, 2: 3.0}, {1: 4.0})
    test = _rated({4: 4.0}, {2: 5.0}, {1: 1.0})
    found = objective.trivial(train, test)
    assert found["global mean"]["mae"] == pytest.approx((0 + 1 + 3) / 3)
    assert found["item mean"]["mae"] == pytest.approx((0 + 2 + 3.5) / 3)
    assert found["global mean"]["rmse"] == pytest.approx(math.sqrt((0 + 1 + 9) / 3))


def test_biases_are_the_solution_of_their_ridge_regression() -> None:
    """Of one-hot users and items, scikit-learn's ridge of weight 1; errors to 1e-3."""
    from sklearn.linear_model import Ridge

    generator = np.random.default_rng(0)
    customers = [
        {int(i) + 1: float(generator.integers(1, 6)) for i in generator.permutation(9)[:5]}
        for _ in range(12)
    ]
    train = _rated(*customers, places=5)
    test = _rated(*({i: 3.0 for i in range(1, 6)} for _ in range(12)), places=5)
    objective = _ratings(places=5, items=9)

    def one_hot(data: ClientData) -> tuple[np.ndarray, np.ndarray]:
        row, place = np.nonzero(data.labels[..., 1])
        item = data.features["target_items"][row, place] - 1
        return np.concatenate([np.eye(12)[row], np.eye(9)[item]], 1), data.labels[row, place, 0]

    inputs, values = one_hot(train)
    mean = values.mean()
    ridge = Ridge(alpha=1.0, fit_intercept=False).fit(inputs, values - mean)
    asked, actual = one_hot(test)
    error = 2 * (np.clip(mean + ridge.predict(asked), -1, 1) - actual)
    expected = {"rmse": np.sqrt(np.mean(error**2)), "mae": np.mean(np.abs(error))}
    found = objective.trivial(train, test)["item and user biases"]
    assert found == pytest.approx(expected, abs=1e-3)


def test_answers_are_ratings_with_names() -> None:
    features = {"target_items": tf.constant([[4, 0, 1]])}
    outputs = {"scores": tf.constant([[0.5, 0.5, -7.0]])}
    answers = _ratings().predictions(outputs, features)
    assert answers["item"].numpy().tolist() == [[b"i3", b"", b"i0"]]
    assert answers["rating"].numpy().tolist() == [[4.0, 0.0, 1.0]]


def test_customers_without_a_rating_or_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="a training customer has no rating"):
        _ratings().check(_rated({1: 2.0}, {}))
    with pytest.raises(InputError, match="a rating is outside"):
        _ratings().check(_rated({1: 7.0}))
    with pytest.raises(InputError, match=r"labels have rows of shape \(2, 2\)"):
        _ratings().check(_rated({1: 2.0}, places=2))
    _ratings().check(_rated({1: 2.0}))


# --------------------------------------------------------------------------------------- ranking


def _draw(rows: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, contexts and chosen items of customers, chosen ones not in the context."""
    generator = np.random.default_rng(1)
    scores = generator.normal(size=[rows, 60]).astype(np.float32)
    order = np.argsort(generator.random([rows, 60]), axis=1) + 1
    context, labels = order[:, :12], order[:, 12:20].copy()
    labels[np.arange(8) >= generator.integers(0, 9, rows)[:, None]] = 0
    context = np.where(generator.random(context.shape) < 0.7, context, 0)
    return scores, context.astype(np.int32), labels.astype(np.int32)


def test_ranking_metrics_are_those_of_scikit_learn() -> None:
    """NDCG by `ndcg_score` on the items outside the context, hits by sorting, for each customer."""
    scores, context, labels = _draw()
    objective = _ranking()
    features = {"context_items": tf.constant(context)}
    outputs = {"scores": tf.constant(scores)}
    pooled = objective.pooled(outputs, tf.constant(labels), features)
    splits = tf.range(len(labels) + 1, dtype=tf.int64)
    per_client = objective.per_client(outputs, tf.constant(labels), features, ClientRows(splits))
    gains, hits = [], []
    for row in range(len(labels)):
        left = np.setdiff1d(np.arange(1, 61), context[row])
        relevant = np.isin(left, labels[row])
        if not relevant.any():
            assert math.isnan(per_client["ndcg_at_10"][row])
            continue
        own = scores[row][left - 1]
        gains.append(ndcg_score([relevant], [own], k=10))
        hits.append(relevant[np.argsort(-own)[:10]].any())
        assert float(per_client["ndcg_at_10"][row]) == pytest.approx(gains[-1])
        assert float(per_client["hit_rate_at_10"][row]) == hits[-1]
    assert objective.metrics(pooled) == pytest.approx(
        {"ndcg_at_10": np.mean(gains), "hit_rate_at_10": np.mean(hits)}
    )
    assert 0 < np.mean(hits) < 1 and len(hits) < len(labels)


def test_what_the_customer_has_is_never_recommended() -> None:
    """The context's items have the highest scores; with few items the list has empty places."""
    scores = tf.constant([[9.0, 8.0, 1.0, 2.0], [math.nan, 1.0, 2.0, 3.0]])
    listed, _ = best_items(scores, tf.constant([[1, 2, 0], [0, 4, 4]]), 10)
    assert listed.numpy().tolist() == [[4, 3, 0, 0], [3, 2, 0, 0]]
    objective = _ranking(items=4, places=2)
    answers = objective.predictions(
        {"scores": scores}, {"context_items": tf.constant([[1, 2, 0], [0, 4, 4]])}
    )
    assert answers["item"].numpy().tolist()[0] == [b"i3", b"i2", b"", b""]


def test_an_item_of_the_context_counts_for_nobody() -> None:
    """A label that the customer had before could only be hit if it were recommended."""
    objective = _ranking(items=4, places=1)
    pooled = objective.pooled(
        {"scores": tf.constant([[9.0, 1.0, 2.0, 3.0]])},
        tf.constant([[1]]),
        {"context_items": tf.constant([[1]])},
    )
    assert objective.metrics(pooled) == {"ndcg_at_10": 0.0, "hit_rate_at_10": 0.0}


def test_popularity_is_the_ranking_by_training_counts() -> None:
    """The same sums come out of `pooled` with the counts as scores; ties are broken alike."""
    _, context, labels = _draw()
    features = {"context_items": context}
    train = ClientData.from_rows(features, np.maximum(context, 0), None)
    test = ClientData.from_rows(features, labels, None)
    objective = _ranking()
    counts = np.bincount(context[context > 0] - 1, minlength=60).astype(np.float32)
    outputs = {"scores": tf.constant(np.tile(counts, [len(labels), 1]))}
    tensors = {"context_items": tf.constant(context)}
    expected = objective.pooled(outputs, tf.constant(labels), tensors)
    found = objective.popularity(train, test)
    np.testing.assert_array_equal(found["hits_by_length"], expected["hits_by_length"])
    assert found["ndcg_sum"] == pytest.approx(float(expected["ndcg_sum"]))
    assert objective.trivial(train, test)["popularity"] == pytest.approx(
        objective.metrics(expected)
    )


def test_labels_that_are_no_items_are_refused() -> None:
    features = {"context_items": np.ones([2, 3], np.int32)}
    objective = _ranking(items=4, places=2)
    for labels, message in (
        ([[1, 5], [1, 0]], "labels go from 0 to 5"),
        ([[1, 2], [0, 0]], "a training customer has no item"),
        ([[1], [2]], r"labels have rows of shape \(1,\)"),
    ):
        with pytest.raises(InputError, match=message):
            objective.check(ClientData.from_rows(features, np.array(labels, np.int32), None))
