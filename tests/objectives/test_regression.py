"""Regression: losses by hand, metrics by scikit-learn, sums that add up, baselines, predictions."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics as sk

from fl_research.data.client_data import ClientData
from fl_research.errors import InputError
from fl_research.objectives.client_rows import ClientRows
from fl_research.objectives.regression import Regression

QUANTILES = (0.1, 0.5, 0.9)
NAIVE = ("last_value", "moving_average")


def _objective(loss: str, **changed: Any) -> Regression:
    """An objective of three steps."""
    quantiles = QUANTILES if loss == "pinball" else ()
    return Regression(
        **{"horizon": 3, "loss": loss, "quantiles": quantiles, "naive": NAIVE} | changed
    )


def _rows(rows: int, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Features, scaled labels and outputs for three quantiles."""
    generator = np.random.default_rng(seed)
    features = {
        "scale": generator.uniform(1, 90, rows).astype(np.float32),
        "naive": generator.uniform(0, 90, [rows, 2, 3]).astype(np.float32),
        "own_quantiles": np.sort(generator.uniform(0, 90, [rows, 3]), axis=1).astype(np.float32),
    }
    labels = generator.gamma(1.0, 1.0, [rows, 3]).astype(np.float32)
    outputs = generator.normal(1.0, 1.0, [rows, 9]).astype(np.float32)
    return features, labels, outputs


def _pooled(objective: Regression, rows: Any, part: slice = slice(None)) -> dict[str, np.ndarray]:
    """The pooled sums of some of the rows, as NumPy arrays."""
    features, labels, outputs = rows
    sums = objective.pooled(
        tf.constant(outputs[part]),
        tf.constant(labels[part]),
        {name: tf.constant(values[part]) for name, values in features.items()},
    )
    return {name: total.numpy() for name, total in sums.items()}


def test_losses_by_hand_on_clipped_labels() -> None:
    labels = np.array([[0.5, 2.0, 50.0], [-3.0, 0.0, 1.0]], np.float32)
    clipped = np.array([[0.5, 2.0, 10.0], [-1.0, 0.0, 1.0]])
    outputs = np.array([[1.0, 1.0, 4.0], [0.0, 0.0, 3.0]], np.float32)
    error = clipped - outputs
    squared = _objective("squared").row_loss(tf.constant(outputs), tf.constant(labels))
    np.testing.assert_allclose(squared, (error**2).mean(axis=1), rtol=1e-6)
    absolute = _objective("absolute").row_loss(tf.constant(outputs), tf.constant(labels))
    np.testing.assert_allclose(absolute, np.abs(error).mean(axis=1), rtol=1e-6)
    three = np.repeat(outputs, 3, axis=1)  # Of each step the same number for all quantiles.
    pinball = _objective("pinball").row_loss(tf.constant(three), tf.constant(labels))
    expected = np.mean(
        [[sk.mean_pinball_loss(c, o, alpha=q) for q in QUANTILES]
         for c, o in zip(clipped, outputs, strict=True)],
        axis=1,
    )  # fmt: skip
    np.testing.assert_allclose(pinball, expected, rtol=1e-6)


@pytest.mark.parametrize("loss", ["squared", "absolute", "pinball"])
def test_leading_axes_of_clients_change_nothing(loss: str) -> None:
    objective = _objective(loss)
    _, labels, outputs = _rows(12)
    outputs = outputs[:, : objective.num_outputs]
    flat = objective.row_loss(tf.constant(outputs), tf.constant(labels))
    stacked = objective.row_loss(
        tf.constant(outputs.reshape(4, 3, -1)), tf.constant(labels.reshape(4, 3, 3))
    )
    np.testing.assert_allclose(tf.reshape(stacked, [-1]), flat, rtol=1e-6)


def test_metrics_agree_with_scikit_learn() -> None:
    rows = features, labels, outputs = _rows(40)
    found = _objective("pinball").metrics(_pooled(_objective("pinball"), rows))
    scale = features["scale"][:, None].astype(float)
    actual = labels * scale
    by_quantile = np.clip(np.sort(outputs.reshape(40, 3, 3), axis=-1), -1, 10) * scale[..., None]
    point = by_quantile[..., 1]
    inside = (actual >= by_quantile[..., 0]) & (actual <= by_quantile[..., 2])
    assert found == pytest.approx(
        {
            "mae": sk.mean_absolute_error(actual, point),
            "rmse": np.sqrt(sk.mean_squared_error(actual, point)),
            "wmape": np.abs(actual - point).sum() / actual.sum(),
            "pinball_loss": np.mean(
                [
                    sk.mean_pinball_loss(actual, by_quantile[..., index], alpha=q)
                    for index, q in enumerate(QUANTILES)
                ]
            ),
            "coverage_80": inside.mean(),
        },
        rel=1e-6,
    )


def test_sums_add_up_over_blocks_and_an_empty_block_adds_nothing() -> None:
    objective, rows = _objective("pinball"), _rows(30)
    whole = _pooled(objective, rows)
    parts = [
        _pooled(objective, rows, part) for part in (slice(0, 11), slice(11, 11), slice(11, 30))
    ]
    for name, total in whole.items():
        np.testing.assert_allclose(sum(part[name] for part in parts), total, rtol=1e-12)
    assert all(np.isnan(v) for v in objective.metrics(parts[1]).values())


def test_the_error_of_each_client() -> None:
    objective = _objective("squared")
    features, labels, outputs = _rows(6)
    found = objective.per_client(
        tf.constant(outputs[:, :3]),
        tf.constant(labels),
        {name: tf.constant(values) for name, values in features.items()},
        ClientRows(tf.constant([0, 4, 4, 6], tf.int64)),
    )
    error = np.abs(np.clip(outputs[:, :3], -1, 10) - labels)
    expected = [error[:4].mean(), np.nan, error[4:].mean()]
    np.testing.assert_allclose(found["scaled_mae"], expected, rtol=1e-5)
    in_units = error * features["scale"][:, None]
    np.testing.assert_allclose(
        found["mae"], [in_units[:4].mean(), np.nan, in_units[4:].mean()], rtol=1e-5
    )


def test_baselines_are_those_of_the_features() -> None:
    features, labels, _ = _rows(20)
    test = ClientData.from_rows(features, labels, np.arange(20) // 2)
    found = _objective("pinball").trivial(test, test)
    actual = labels * features["scale"][:, None]
    assert list(found) == ["last_value", "moving_average", "always_zero", "own_quantiles"]
    for index, name in enumerate(NAIVE):
        expected = sk.mean_absolute_error(actual, features["naive"][:, index])
        assert found[name]["mae"] == pytest.approx(expected, rel=1e-6)
        # The same number for all quantiles: the mean of q and 1 - q is a half.
        assert found[name]["pinball_loss"] == pytest.approx(expected / 2, rel=1e-6)
    assert found["always_zero"]["wmape"] == pytest.approx(1.0)
    own = np.repeat(features["own_quantiles"][:, None], 3, axis=1)
    assert found["own_quantiles"]["coverage_80"] == pytest.approx(
        np.mean((actual >= own[..., 0]) & (actual <= own[..., 2]))
    )
    without = _objective("squared").trivial(test, test)
    assert list(without) == ["last_value", "moving_average", "always_zero"]
    assert "pinball_loss" not in without["last_value"]


def test_predictions_are_in_units_and_quantiles_never_cross() -> None:
    features, _, outputs = _rows(8)
    found = _objective("pinball").predictions(
        tf.constant(outputs), {name: tf.constant(values) for name, values in features.items()}
    )
    assert list(found) == ["forecast", "quantile_10", "quantile_50", "quantile_90"]
    ordered = np.stack([found[f"quantile_{q}"] for q in (10, 50, 90)])
    assert (np.diff(ordered, axis=0) >= 0).all()
    np.testing.assert_array_equal(found["forecast"], found["quantile_50"])
    assert (found["quantile_10"].numpy() >= -features["scale"][:, None]).all()
    point = _objective("squared", clip=(0.0, 10.0)).predictions(
        tf.constant(outputs[:, :3]), {"scale": tf.constant(features["scale"])}
    )
    expected = np.clip(outputs[:, :3], 0, 10) * features["scale"][:, None]
    np.testing.assert_allclose(point["forecast"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "metric"), [("squared", "rmse"), ("absolute", "mae"), ("pinball", "pinball_loss")]
)
def test_the_finding_splits_the_metric_by_step(loss: str, metric: str) -> None:
    objective = _objective(loss)
    features, labels, outputs = _rows(25)
    pooled = _pooled(objective, (features, labels, outputs[:, : objective.num_outputs]))
    found = objective.findings(pooled)["forecast"]
    whole = objective.metrics(pooled)
    assert found["metric"] == metric
    errors = np.asarray(found["errors"]["model"])
    power = 2 if metric == "rmse" else 1
    assert np.mean(errors**power) ** (1 / power) == pytest.approx(whole[metric])
    actual = (labels * features["scale"][:, None]).sum(axis=0)
    np.testing.assert_allclose(found["actual"], actual, rtol=1e-6)
    assert ("not_above" in found) == (loss == "pinball")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"horizon": 0}, "horizon=0"),
        ({"loss": "huber"}, "loss='huber' is unknown"),
        ({"loss": "pinball", "quantiles": ()}, "quantiles=\\(\\) are not possible"),
        ({"loss": "pinball", "quantiles": (0.1, 0.9)}, "0.5 among them"),
        ({"loss": "pinball", "quantiles": (0.5, 0.1)}, "rising"),
        ({"loss": "pinball", "quantiles": (0.5, 1.0)}, "not possible"),
        ({"loss": "squared", "quantiles": (0.5,)}, "do not go with loss='squared'"),
        ({"clip": (2.0, 1.0)}, "clip=\\(2.0, 1.0\\)"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Regression(**{"horizon": 3, "loss": "squared", **settings})


def test_labels_of_another_horizon_are_refused() -> None:
    features, labels, _ = _rows(4)
    with pytest.raises(InputError, match="horizon=2"):
        _objective("squared", horizon=2).check(ClientData.from_rows(features, labels, None))
