"""Three rounds equal TFF's own federated averaging on the same clients, batches and start."""

import collections
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fl_research.data.client_data import ClientData
from tests.learning import small_cohorts

pytestmark = pytest.mark.usefixtures("tff_runtime")

ROUNDS, EPOCHS, BATCH_SIZE, CLIP_NORM = 3, 2, 4, 0.6
SIZES = (5, 1, 12, 7, 3)
# Model, client optimiser, server optimiser; the names and learning rates are the same for both.
CASES = {
    "logistic, SGD, server momentum": (
        "logistic_regression",
        ("sgd", 0.3, {}),
        ("sgd", 0.7, {"momentum": 0.9}),
    ),
    "mlp, client Adam, server SGD": ("mlp", ("adam", 0.02, {}), ("sgd", 1.0, {})),
    "mlp, client momentum, server Adam": (
        "mlp",
        ("sgd", 0.1, {"momentum": 0.8}),
        ("adam", 0.05, {}),
    ),
}


def _datasets(data: ClientData) -> list[tf.data.Dataset]:
    """Each client as TFF wants it, in the batches that the blocks give."""
    datasets = []
    for client in range(data.num_clients):
        one = data.select([client])
        features = collections.OrderedDict(one.features)
        rows = tf.data.Dataset.from_tensor_slices((features, one.labels))
        datasets.append(rows.batch(BATCH_SIZE).repeat(EPOCHS))
    return datasets


def _trained(process: Any, cohort: list) -> list[np.ndarray]:
    """The model weights after the rounds."""
    state = process.initialize()
    for _ in range(ROUNDS):
        state = process.next(state, cohort).state
    return small_cohorts.leaves(process.get_model_weights(state))


def _both(
    case: str, *, weighted: bool, execution: str
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Our weights and the stock ones after the rounds."""
    model_name, client, server = CASES[case]
    model = small_cohorts.model(model_name)
    data = small_cohorts.clients(SIZES)
    client_optimizer, server_optimizer = (
        small_cohorts.optimizer(name, rate, **more) for name, rate, more in (client, server)
    )
    if weighted:
        query = small_cohorts.query("none", population=len(SIZES), weighting="examples")
        build, aggregator = (
            tff.learning.algorithms.build_weighted_fed_avg,
            tff.aggregators.MeanFactory(),
        )
    else:
        query = small_cohorts.query(
            "gaussian", population=len(SIZES), clip_norm=CLIP_NORM, noise_multiplier=0.0
        )
        mean = tfp.NormalizedQuery(tfp.GaussianSumQuery(CLIP_NORM, 0.0), len(SIZES))
        build, aggregator = (
            tff.learning.algorithms.build_unweighted_fed_avg,
            tff.aggregators.DifferentiallyPrivateFactory(mean),
        )
    ours = small_cohorts.process(
        model,
        query,
        client_optimizer=client_optimizer,
        server_optimizer=server_optimizer,
        local_epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        shuffle=False,
        execution=execution,
        weighting="examples" if weighted else "uniform",
    )
    stock = build(
        model_fn=model,
        client_optimizer_fn=client_optimizer,
        server_optimizer_fn=server_optimizer,
        model_aggregator=aggregator,
    )
    return (
        _trained(ours, small_cohorts.blocks(data, num_blocks=2)),
        _trained(stock, _datasets(data)),
    )


@pytest.mark.parametrize("weighted", [False, True], ids=["clipped", "weighted by examples"])
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[] if case.startswith("logistic") else pytest.mark.slow)
        for case in CASES
    ],
)
@pytest.mark.parametrize("execution", ["loop", "auto"])
def test_three_rounds_equal_stock_fed_avg(case: str, weighted: bool, execution: str) -> None:
    """Weights agree to 1e-5 relative and 2e-6 absolute, float32 sums in another order.

    With Adam at the server 2e-5 absolute: it divides by the size of the gradient, so that the
    rounding of a gradient near zero comes out larger; stacked, with products in another order
    again, 5e-5.
    """
    ours, stock = _both(case, weighted=weighted, execution=execution)
    start = small_cohorts.leaves(small_cohorts.model(CASES[case][0]).initial_weights)
    atol = 2e-6
    if case.endswith("server Adam"):
        atol = 2e-5 if execution == "loop" else 5e-5
    for before, after, expected in zip(start, ours, stock, strict=True):
        np.testing.assert_allclose(after, expected, rtol=1e-5, atol=atol)
        assert np.abs(after - before).max() > 5e-3


def test_the_clip_of_the_comparison_binds() -> None:
    """Some clients are clipped in the comparison and some are not, so that it tests clipping."""
    data = small_cohorts.clients(SIZES)
    process = small_cohorts.process(
        small_cohorts.model("logistic_regression"),
        small_cohorts.query("none", population=1),
        local_epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        shuffle=False,
    )
    norms = []
    for client in range(data.num_clients):
        cohort = small_cohorts.blocks(data, num_blocks=1, chosen=[client])
        weights = process.next(process.initialize(), cohort).state.global_model_weights
        norms.append(np.sqrt(sum(np.sum(leaf**2) for leaf in small_cohorts.leaves(weights))))
    assert min(norms) < CLIP_NORM < max(norms), norms
