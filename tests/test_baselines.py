"""Baselines against scikit-learn on the same rows."""

import functools

import numpy as np
import pytest
import tensorflow_federated as tff
from sklearn import linear_model, metrics

from fl_research import baselines
from fl_research.client_evaluator import ClientEvaluator
from fl_research.data.client_data import ClientData
from fl_research.data.client_sampling import FullParticipation
from fl_research.data.datasets import registry as datasets
from fl_research.data.schema import encode
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.evaluation import build_evaluation
from fl_research.objectives.binary_classification import BinaryClassification
from tests.learning import small_cohorts

pytestmark = pytest.mark.usefixtures("tff_runtime")


@functools.cache
def _splits() -> tuple[ClientData, ClientData, ClientData]:
    """The synthetic telecom customers, as a run with seed 0 splits them."""
    loaded = datasets.load("synthetic_telecom", seed=0)
    encoded = encode(loaded.records, loaded.schema)
    data = ClientData.from_rows({"inputs": encoded.inputs}, encoded.labels, encoded.client_ids)
    return data.split(validation_fraction=0.1, test_fraction=0.2, seed=0)


@functools.cache
def _model() -> tff.learning.models.FunctionalModel:
    """Logistic regression on all inputs of the synthetic customers."""
    from fl_research.models import logistic_regression

    inputs = _splits()[0].features["inputs"].shape[1]
    return logistic_regression.build(
        logistic_regression.Config(),
        row_types={"inputs": ((inputs,), np.dtype(np.float32))},
        objective=BinaryClassification(),
        seed=0,
    )


def _evaluator(clients: ClientData) -> ClientEvaluator:
    return ClientEvaluator(
        build_evaluation(_model(), BinaryClassification()),
        clients,
        objective=BinaryClassification(),
        num_blocks=2,
    )


@pytest.mark.slow
def test_central_training_reaches_scikit_learn() -> None:
    """AUC and log loss within 0.002 of scikit-learn's logistic regression on the same rows."""
    train, validation, test = _splits()
    weights = baselines.train_central(
        _model(),
        clients=train,
        validate=_evaluator(validation).pooled,
        metric="auc",
        batch_size=8,
        seed=0,
    )
    found = _evaluator(test).pooled(weights)
    peer = linear_model.LogisticRegression(max_iter=2000)
    peer.fit(train.features["inputs"], train.labels)
    scores = peer.predict_proba(test.features["inputs"])[:, 1]
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(test.labels, scores), abs=0.002)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(test.labels, scores), abs=0.005)


def test_without_privacy_every_client_once_a_round_is_plain_averaging() -> None:
    """Full participation, one step on all rows: gradient descent computed by hand."""
    data = small_cohorts.clients([4, 4, 4])
    weights = baselines.train_without_privacy(
        small_cohorts.model("logistic_regression"),
        clients=data,
        sampling=FullParticipation(population=3),
        client_update=ClientUpdateConfig(batch_size=4),
        client_optimizer=small_cohorts.optimizer("sgd", 0.5),
        server_optimizer=small_cohorts.optimizer("sgd", 1.0),
        rounds=range(1, 4),
        seed=0,
        num_blocks=2,
    )
    slope, intercept = np.zeros([small_cohorts.NUM_INPUTS]), 0.0
    inputs, labels = data.features["inputs"], data.labels
    for _ in range(3):
        error = 1 / (1 + np.exp(-(inputs @ slope + intercept))) - labels
        slope, intercept = slope - 0.5 * error @ inputs / 12, intercept - 0.5 * error.mean()
    found = np.concatenate([np.ravel(w) for w in weights.trainable])
    np.testing.assert_allclose(found, [*slope, intercept], rtol=1e-5, atol=1e-6)


def test_central_training_without_a_metric_keeps_the_last_weights() -> None:
    """A validation metric that is not defined, such as an AUC of one class, chooses nothing."""
    data = small_cohorts.clients([20, 20])
    weights = baselines.train_central(
        small_cohorts.model("logistic_regression"),
        clients=data,
        validate=lambda weights: {"auc": float("nan")},
        metric="auc",
        batch_size=40,
        seed=0,
    )
    assert all(np.any(weight) for weight in weights.trainable)
