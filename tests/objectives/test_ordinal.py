"""The ordinal objective: its likelihood, its fit, its metrics, against numpy, scipy and sklearn."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize, special
from sklearn import metrics as sklearn_metrics

from fl_research.data.client_data import ClientData
from fl_research.errors import InputError
from fl_research.models import registry
from fl_research.objectives import ordinal_rows
from fl_research.objectives.client_rows import ClientRows
from fl_research.objectives.ordinal import Ordinal

_LEVELS = ("1", "2", "3", "4", "5")


def _odds(outputs: np.ndarray) -> np.ndarray:
    """The falling log-odds, written out with loops."""
    result = np.zeros_like(outputs)
    for row, values in enumerate(outputs):
        for step in range(1, len(values)):
            fall = np.log1p(np.exp(values[step - 1] - values[step]))
            result[row, step] = result[row, step - 1] - fall
        result[row] += values.mean() - result[row].mean()
    return result


def _probabilities(log_odds: np.ndarray) -> np.ndarray:
    """Differences of "level k or higher"."""
    reached = np.pad(special.expit(log_odds), ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
    return reached[:, :-1] - reached[:, 1:]


def test_probabilities_are_differences_of_cumulative_ones() -> None:
    outputs = np.random.default_rng(0).normal(0, 2, [50, 4])
    log_odds = ordinal_rows.cumulative_log_odds(tf.constant(outputs))
    np.testing.assert_allclose(log_odds, _odds(outputs), atol=1e-12)
    assert (np.diff(log_odds) < 0).all()
    probabilities = np.exp(ordinal_rows.log_probabilities(tf.constant(outputs)))
    np.testing.assert_allclose(probabilities, _probabilities(_odds(outputs)), atol=1e-12)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)


def test_every_falling_sequence_comes_from_outputs() -> None:
    """The inverse of softplus gives the outputs back that lead to wanted log-odds."""
    wanted = np.array([[2.0, 0.5, 0.45, -3.0]])
    falls = -np.diff(wanted)
    outputs = np.concatenate([[[0.0]], -np.cumsum(np.log(np.expm1(falls)), axis=1)], axis=1)
    outputs += wanted.mean() - outputs.mean()
    np.testing.assert_allclose(
        ordinal_rows.cumulative_log_odds(tf.constant(outputs)), wanted, atol=1e-12
    )


def test_gradient_is_that_of_the_likelihood() -> None:
    generator = np.random.default_rng(1)
    outputs, labels = generator.normal(0, 2, [6, 4]), np.array([0, 1, 2, 3, 4, 4])

    def loss(values: np.ndarray) -> float:
        probabilities = _probabilities(_odds(values.reshape(6, 4)))
        return -np.log(probabilities[np.arange(6), labels]).sum()

    variable = tf.Variable(outputs)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(ordinal_rows.row_loss(variable, tf.constant(labels)))
    gradient = tape.gradient(value, variable)
    assert float(value) == pytest.approx(loss(outputs.ravel()), abs=1e-10)
    expected = optimize.approx_fprime(outputs.ravel(), loss, 1e-7).reshape(6, 4)
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_extreme_outputs_have_finite_losses_and_gradients() -> None:
    outputs = tf.Variable(np.array([[200, -200, 200, 0], [-300] * 4, [300] * 4], np.float32))
    for level in range(5):
        with tf.GradientTape() as tape:
            loss = ordinal_rows.row_loss(outputs, tf.fill([3], level))
        assert np.isfinite(loss).all()
        assert np.isfinite(tape.gradient(loss, outputs)).all()


def test_leading_axes_of_clients_change_nothing() -> None:
    generator = np.random.default_rng(2)
    outputs = generator.normal(size=[3, 7, 4]).astype(np.float32)
    labels = generator.integers(0, 5, [3, 7])
    losses = Ordinal(levels=_LEVELS).row_loss(tf.constant(outputs), tf.constant(labels))
    for client in range(3):
        one = ordinal_rows.row_loss(tf.constant(outputs[client]), tf.constant(labels[client]))
        np.testing.assert_allclose(losses[client], one, rtol=1e-6)


def _drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, and levels of a proportional odds model with a wide and a narrow level."""
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=[rows, 3])
    score = inputs @ [1.0, -0.5, 0.0] + generator.logistic(size=rows)
    return inputs, np.searchsorted([-2.0, -0.2, 0.1, 1.5], score)


def test_linear_fit_is_the_proportional_odds_model() -> None:
    """Both likelihoods at their maximum, ours by outputs, theirs by thresholds: equal."""
    inputs, labels = _drawn(400, 3)

    def by_thresholds(parameters: np.ndarray) -> float:
        log_odds = (inputs @ parameters[:3])[:, np.newaxis] - parameters[3:]
        probability = _probabilities(log_odds)[np.arange(len(labels)), labels]
        return -np.log(np.maximum(probability, 1e-300)).mean()

    def by_outputs(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        variable = tf.Variable(parameters)
        with tf.GradientTape() as tape:
            score = tf.linalg.matvec(tf.constant(inputs), variable[:3])
            outputs = score[:, tf.newaxis] + variable[3:]
            loss = tf.reduce_mean(ordinal_rows.row_loss(outputs, tf.constant(labels)))
        return float(loss), tape.gradient(loss, variable).numpy()

    theirs = optimize.minimize(by_thresholds, [0, 0, 0, -1, 0, 0.5, 1], method="BFGS", tol=1e-9)
    ours = optimize.minimize(by_outputs, np.zeros(7), jac=True, method="BFGS", tol=1e-9)
    assert ours.fun == pytest.approx(theirs.fun, abs=1e-8)
    np.testing.assert_allclose(ours.x[:3], theirs.x[:3], atol=2e-4)
    thresholds = -ordinal_rows.cumulative_log_odds(tf.constant(ours.x[np.newaxis, 3:]))[0]
    np.testing.assert_allclose(thresholds, theirs.x[3:], atol=2e-4)


@pytest.mark.parametrize("family", ["logistic_regression", "mlp"])
def test_models_give_one_score_and_a_bias_for_each_step(family: str) -> None:
    """The odds of all steps move together; the linear model is at its maximum where theirs is."""
    inputs, labels = _drawn(300, 6)
    objective = Ordinal(levels=_LEVELS)
    row_types = {"inputs": ((3,), np.dtype(np.float32))}
    module = registry.load(family)
    model = module.build(module.Config(), row_types=row_types, objective=objective, seed=1)
    weights = [np.array(w, np.float32) for w in model.initial_weights[0]]
    assert weights[-2].shape[-1] == 1 and weights[-1].shape == (4,)
    x = {"inputs": tf.constant(inputs, tf.float32)}

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        parts = np.split(flat.astype(np.float32), np.cumsum([w.size for w in weights])[:-1])
        tensors = [
            tf.constant(part.reshape(w.shape)) for part, w in zip(parts, weights, strict=True)
        ]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            outputs = model.predict_on_batch((tuple(tensors), ()), x)
            value = model.loss(outputs, tf.constant(labels, tf.int32))
        gradients = [np.ravel(g) for g in tape.gradient(value, tensors)]
        return float(value), np.concatenate(gradients).astype(np.float64)

    start = np.concatenate([w.ravel() for w in weights]).astype(np.float64)
    if family == "mlp":
        outputs = model.predict_on_batch((tuple(map(tf.constant, weights)), ()), x).numpy()
        assert np.ptp(outputs, axis=0).min() > 0.1
        np.testing.assert_allclose(np.ptp(outputs - outputs[:, :1], axis=0), 0, atol=1e-5)
        value, gradient = loss(start)
        assert loss(start - 0.01 * gradient)[0] < value
        return

    def theirs(parameters: np.ndarray) -> float:
        log_odds = (inputs @ parameters[:3])[:, np.newaxis] - parameters[3:]
        probability = _probabilities(log_odds)[np.arange(len(labels)), labels]
        return -np.log(np.maximum(probability, 1e-300)).mean()

    best = optimize.minimize(theirs, [0, 0, 0, -1, 0, 0.5, 1], method="BFGS")
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B")
    assert found.fun == pytest.approx(best.fun, abs=1e-5)
    np.testing.assert_allclose(found.x[:3], best.x[:3], atol=0.02)


def _evaluated(outputs: np.ndarray, labels: np.ndarray, objective: Ordinal) -> dict[str, float]:
    """Metrics by way of the sums of two blocks."""
    sums: dict[str, np.ndarray] = {}
    for rows in (slice(0, 100), slice(100, None)):
        pooled = objective.pooled(tf.constant(outputs[rows]), tf.constant(labels[rows]), {})
        sums = {name: sums.get(name, 0) + value.numpy() for name, value in pooled.items()}
    return objective.metrics(sums)


def test_metrics_equal_those_of_scikit_learn() -> None:
    inputs, labels = _drawn(500, 4)
    score = inputs @ [0.8, -0.3, 0.1]
    outputs = (score[:, np.newaxis] + [1.5, 0.3, -0.2, -1.4]).astype(np.float32)
    probabilities = _probabilities(_odds(outputs.astype(np.float64)))
    level = np.array([np.flatnonzero(np.cumsum(p) > 0.5)[0] for p in probabilities])
    found = _evaluated(outputs, labels, Ordinal(levels=_LEVELS, num_bins=50_000))
    areas = [sklearn_metrics.roc_auc_score(labels >= step, score) for step in range(1, 5)]
    expected = {
        "mae": sklearn_metrics.mean_absolute_error(labels, level),
        "accuracy": sklearn_metrics.accuracy_score(labels, level),
        "auc": np.mean(areas),
        "log_loss": sklearn_metrics.log_loss(labels, probabilities, labels=range(5)),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-4), name


def test_metrics_of_nobody_and_of_one_level_are_undefined() -> None:
    objective = Ordinal(levels=_LEVELS, num_bins=10)
    nobody = objective.metrics(objective.pooled(tf.zeros([0, 4]), tf.zeros([0], tf.int32), {}))
    assert all(np.isnan(value) for value in nobody.values())
    same = objective.metrics(objective.pooled(tf.zeros([3, 4]), tf.fill([3], 2), {}))
    assert np.isnan(same["auc"])
    assert same["mae"] == 0 and same["accuracy"] == 1


def test_confusion_is_by_true_level_then_by_predicted_one() -> None:
    outputs = np.array([[9, 9, -9, -9], [9, -9, -9, -9], [9, -9, -9, -9]], np.float32)
    objective = Ordinal(levels=_LEVELS)
    pooled = objective.pooled(tf.constant(outputs), tf.constant([4, 1, 0]), {})
    found = objective.findings({name: value.numpy() for name, value in pooled.items()})["levels"]
    expected = np.zeros([5, 5], int)
    expected[4, 2] = expected[1, 1] = expected[0, 1] = 1
    assert found == {"levels": list(_LEVELS), "confusion": expected.tolist()}


def test_clients_are_evaluated_on_their_own_rows() -> None:
    outputs = tf.constant([[9, 9, -9, -9], [9, -9, -9, -9], [9, 9, 9, 9]], tf.float32)
    found = Ordinal(levels=_LEVELS).per_client(
        outputs, tf.constant([2, 4, 4]), {}, ClientRows(tf.constant([0, 2, 2, 3], tf.int64))
    )
    np.testing.assert_array_equal(found["mae"], [1.5, np.nan, 0])
    np.testing.assert_array_equal(found["accuracy"], [0.5, np.nan, 1])
    losses = ordinal_rows.row_loss(tf.cast(outputs, tf.float64), tf.constant([2, 4, 4]))
    np.testing.assert_allclose(found["loss"], [np.mean(losses[:2]), np.nan, losses[2]], rtol=1e-12)


def _clients(labels: list[int]) -> ClientData:
    return ClientData.from_rows({"inputs": np.zeros([len(labels), 1])}, np.array(labels), None)


def test_trivial_levels_are_the_median_and_the_most_frequent_of_training() -> None:
    train, test = _clients([0, 0, 0, 1, 2, 2, 3, 4]), _clients([0, 1, 4, 4])
    found = Ordinal(levels=_LEVELS).trivial(train, test)
    shares = np.array([3, 1, 2, 1, 1]) / 8
    loss = sklearn_metrics.log_loss([0, 1, 4, 4], np.tile(shares, (4, 1)), labels=range(5))
    same = {"auc": 0.5, "log_loss": pytest.approx(loss)}
    # Four of eight are at level 2 or above.
    assert found == {
        "median_level": {"mae": 1.75, "accuracy": 0.0, **same},
        "majority_level": {"mae": 2.25, "accuracy": 0.25, **same},
    }
    unseen = Ordinal(levels=_LEVELS).trivial(_clients([0, 1]), test)["median_level"]
    assert 1 < unseen["log_loss"] < 20


def test_predictions_are_level_expectation_and_probabilities() -> None:
    outputs = np.random.default_rng(5).normal(size=[9, 4])
    found = Ordinal(levels=_LEVELS).predictions(tf.constant(outputs), {})
    probabilities = _probabilities(_odds(outputs))
    np.testing.assert_allclose(found["probabilities"], probabilities, atol=1e-12)
    np.testing.assert_allclose(found["expected_level"], probabilities @ range(1, 6), atol=1e-12)
    median = (np.cumsum(probabilities, axis=1) < 0.5).sum(axis=1)
    np.testing.assert_array_equal(found["level"], median)


@pytest.mark.parametrize(
    ("levels", "values"),
    [
        (("0", "2.5", "10"), [0, 2.5, 10]),
        (("bad", "fair", "good"), [0, 1, 2]),
        (("3", "2", "1"), [0, 1, 2]),
        (("1", "2", "inf"), [0, 1, 2]),
        (("nan", "1", "2"), [0, 1, 2]),
    ],
)
def test_the_expected_level_is_in_the_numbers_of_the_levels(
    levels: tuple[str, ...], values: list[float]
) -> None:
    outputs = np.random.default_rng(7).normal(size=[9, 2])
    found = Ordinal(levels=levels).predictions(tf.constant(outputs), {})
    expected = _probabilities(_odds(outputs)) @ values
    np.testing.assert_allclose(found["expected_level"], expected, atol=1e-12)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"levels": ("no", "yes")}, "are 2; give 3 to 100.*--positive_label"),
        ({"levels": tuple(map(str, range(101)))}, "are 101"),
        ({"levels": ("a", "b", "a")}, "a name twice"),
        ({"levels": _LEVELS, "primary_metric": "rmse"}, "primary_metric='rmse'.*mae"),
        ({"levels": _LEVELS, "num_bins": 1}, "num_bins=1"),
    ],
)
def test_wrong_settings_are_refused(setting: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Ordinal(**setting)


@pytest.mark.parametrize(
    ("labels", "words"), [([0, 5], "levels from 0 to 4.*5"), ([2, 2], "is '3'.*label_column")]
)
def test_wrong_labels_are_refused(labels: list[int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Ordinal(levels=_LEVELS).check(_clients(labels))
    Ordinal(levels=_LEVELS).check(_clients([0, 3]))
