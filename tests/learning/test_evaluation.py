"""The federated evaluation against scikit-learn on the same scores."""

import functools
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
import tensorflow_federated as tff

from fl_research.data.client_data import ClientData
from fl_research.errors import InputError
from fl_research.learning import client_spread
from fl_research.learning.evaluation import EvaluationOutput, build_evaluation
from fl_research.objectives import binary_metrics
from fl_research.objectives.binary_classification import BinaryClassification
from tests.learning import small_cohorts

pytestmark = pytest.mark.usefixtures("tff_runtime")

# One-row clients, a client without rows, and many rows; see also the labels below.
SIZES = (40, 1, 1, 0, 9, 300, 2, 25, 120, 6)


@functools.cache
def _evaluation() -> tff.Computation:
    """The evaluation of logistic regression, built once."""
    return build_evaluation(small_cohorts.model("logistic_regression"), small_cohorts.OBJECTIVE)


def _clients() -> ClientData:
    """Clients with coarse features, so that scores tie; client 4 has one class only."""
    data = small_cohorts.clients(SIZES, seed=7)
    np.round(data.features["inputs"], out=data.features["inputs"])
    data.labels[data.row_splits[4] : data.row_splits[5]] = 1
    return data


def _weights(bias: float = -0.3) -> tff.learning.models.ModelWeights:
    """Weights whose products with whole numbers are exact, so that equal scores are equal bits."""
    kernel = np.array([[0.5], [0.25], [0.0], [-0.125]], np.float32)
    return tff.learning.models.ModelWeights((kernel, np.array([bias], np.float32)), ())


def _logits(data: ClientData, weights: tff.learning.models.ModelWeights) -> np.ndarray:
    """The float32 logits, as the model gives them, in float64."""
    kernel, bias = weights.trainable
    return (data.features["inputs"] @ kernel + bias)[:, 0].astype(np.float64)


@pytest.mark.parametrize("num_blocks", [1, 3, 12])
def test_equals_scikit_learn(num_blocks: int) -> None:
    """Log loss, Brier and accuracy to 1e-6 (float32 logits), AUC and precision to 1e-3 (bins).

    Per client, exact AUC to 1e-12, loss to 1e-6 and accuracy exactly.
    """
    data, weights = _clients(), _weights()
    output = _evaluation()(weights, small_cohorts.blocks(data, num_blocks=num_blocks))
    assert isinstance(output, EvaluationOutput) and len(output.per_client) == num_blocks
    logits = _logits(data, weights)
    probability = 1 / (1 + np.exp(-logits))
    found = binary_metrics.pooled_metrics(output.pooled)
    exact = {
        "log_loss": sklearn.metrics.log_loss(data.labels, probability),
        "brier": sklearn.metrics.brier_score_loss(data.labels, probability),
        "accuracy": sklearn.metrics.accuracy_score(data.labels, logits >= 0),
    }
    binned = {
        "auc": sklearn.metrics.roc_auc_score(data.labels, logits),
        "average_precision": sklearn.metrics.average_precision_score(data.labels, logits),
    }
    assert {name: found[name] for name in exact} == pytest.approx(exact, abs=1e-6)
    assert {name: found[name] for name in binned} == pytest.approx(binned, abs=1e-3)
    assert output.pooled["examples"] == data.num_rows

    per_client = client_spread.join_clients(output.per_client)
    np.testing.assert_array_equal(per_client["examples"], SIZES)
    with_both = 0
    for client in range(data.num_clients):
        rows = slice(data.row_splits[client], data.row_splits[client + 1])
        y, score = data.labels[rows], logits[rows]
        found = {name: per_client[name][client] for name in ("loss", "accuracy", "auc")}
        if not len(y):
            assert all(np.isnan(value) for value in found.values())
            continue
        loss = sklearn.metrics.log_loss(y, probability[rows], labels=[0, 1])
        assert found["loss"] == pytest.approx(loss, abs=1e-6)
        assert found["accuracy"] == np.mean((score >= 0) == y)
        if len(set(y)) == 2:
            auc = sklearn.metrics.roc_auc_score(y, score)
            assert found["auc"] == pytest.approx(auc, abs=1e-12)
            assert len(np.unique(score)) < len(y) or len(y) < 30, "there must be ties"
            with_both += 1
        else:
            assert np.isnan(found["auc"])
    assert with_both >= 5


def test_nobody_to_evaluate() -> None:
    output = _evaluation()(_weights(), small_cohorts.blocks(_clients(), num_blocks=2, chosen=[]))
    assert output.pooled["examples"] == 0
    assert all(np.isnan(v) for v in binary_metrics.pooled_metrics(output.pooled).values())
    assert all(len(v) == 0 for v in client_spread.join_clients(output.per_client).values())


def test_weights_that_are_not_finite_show_as_nan() -> None:
    """A model that diverged has no loss and no AUC, rather than a made-up one."""
    data = _clients()
    output = _evaluation()(_weights(np.nan), small_cohorts.blocks(data, num_blocks=2))
    found = binary_metrics.pooled_metrics(output.pooled)
    assert np.isnan(found["log_loss"]) and np.isnan(found["auc"]) and np.isnan(found["brier"])
    assert output.pooled["negative_counts"].sum() == 0
    assert np.isnan(client_spread.join_clients(output.per_client)["auc"]).all()


def test_certain_predictions_stay_in_the_last_bins() -> None:
    """Logits of 200 round to probability 1; the loss stays exact, as it is computed from logits."""
    output = _evaluation()(_weights(200.0), small_cohorts.blocks(_clients(), num_blocks=2))
    counts = output.pooled["negative_counts"] + output.pooled["positive_counts"]
    assert counts[-1] == counts.sum() == sum(SIZES)
    negatives = output.pooled["negative_counts"].sum()
    assert output.pooled["loss_sum"] == pytest.approx(200 * negatives, rel=0.05)


def test_type_of_the_evaluation() -> None:
    signature: Any = _evaluation().type_signature
    assert signature.compact_representation() == (
        "(<weights=<trainable=<float32[4,1],float32[1]>,non_trainable=<>>@SERVER,"
        "cohort={<features=<inputs=float32[?,4]>,labels=int32[?],row_splits=int64[?],"
        "seeds=int64[?,2]>}@CLIENTS> -> "
        "<pooled=<negative_counts=int64[10000],positive_counts=int64[10000],loss_sum=float64,"
        "squared_error_sum=float64,correct=int64,examples=int64>@SERVER,"
        "per_client={<examples=int64[?],accuracy=float64[?],loss=float64[?],auc=float64[?]>}"
        "@CLIENTS>)"
    )
    process = small_cohorts.process(
        small_cohorts.model("logistic_regression"), small_cohorts.query("none", population=1)
    )
    weights_type = process.get_model_weights.type_signature.result
    assert signature.parameter["weights"].member.is_equivalent_to(weights_type)


def test_too_few_bins_are_refused() -> None:
    with pytest.raises(InputError, match="num_bins=1"):
        BinaryClassification(num_bins=1)


def test_mlp_is_evaluated_too() -> None:
    """The pooled log loss of an MLP equals its own loss function, to 1e-6."""
    model, data = small_cohorts.model("mlp"), _clients()
    weights = tff.learning.models.ModelWeights(*model.initial_weights)
    output = build_evaluation(model, BinaryClassification(num_bins=100))(
        weights, small_cohorts.blocks(data, num_blocks=2)
    )
    logits = model.predict_on_batch(
        tf.nest.map_structure(tf.constant, model.initial_weights), dict(data.features), False
    )
    expected = float(model.loss(logits, tf.constant(data.labels)))
    assert binary_metrics.pooled_metrics(output.pooled)["log_loss"] == pytest.approx(
        expected, abs=1e-6
    )
