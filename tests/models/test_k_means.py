"""k-means as a federated model: its update is Lloyd's sums and counts, its rounds Lloyd's steps."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.cluster import KMeans

from fl_research.data.client_data import ClientData
from fl_research.data.schema import Column
from fl_research.errors import InputError
from fl_research.learning.lloyd import SMALLEST_SHARE, Lloyd
from fl_research.models import k_means
from fl_research.models.k_means import COUNT_SCALE, INERTIA_SCALE
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.objectives.clustering import Clustering
from tests.learning import small_cohorts

WIDTH, SEGMENTS = 4, 3
COLUMNS = tuple(Column(name=f"x{i}", kind="number", minimum=-1, maximum=1) for i in range(WIDTH))
OBJECTIVE = Clustering(segments=SEGMENTS, columns=COLUMNS)
SIZES = (5, 1, 40, 0, 17, 33)


def _clients(sizes: tuple[int, ...] = SIZES, seed: int = 0) -> ClientData:
    """Clients of these sizes; the last rows and the first are of other middles."""
    generator = np.random.default_rng(seed)
    rows = sum(sizes)
    middles = generator.uniform(-0.6, 0.6, (SEGMENTS, WIDTH))
    inputs = middles[np.sort(generator.integers(SEGMENTS, size=rows))]
    inputs = np.clip(inputs + generator.normal(0, 0.15, (rows, WIDTH)), -1, 1)
    splits = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    labels = np.full((rows, 2), -1, np.int32)
    return ClientData({"inputs": inputs.astype(np.float32)}, labels, splits, np.arange(len(sizes)))


def _model(restarts: int = 1, seed: int = 3) -> object:
    return k_means.build(
        k_means.Config(restarts=restarts),
        row_types=_clients().row_types,
        objective=OBJECTIVE,
        seed=seed,
    )


def _statistics(inputs: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean residual sums, shares and inertia, with loops."""
    sums, shares = np.zeros_like(centres), np.zeros(len(centres))
    inertia = 0.0
    for row in inputs:
        distance = np.square(row - centres).sum(axis=1)
        nearest = int(np.argmin(distance))
        sums[nearest] += (row - centres[nearest]) / len(inputs)
        shares[nearest] += 1 / len(inputs)
        inertia += distance[nearest] / len(inputs)
    return sums, shares, inertia


def _process(model: object, mechanism: str = "none", **settings: object) -> object:
    weighting = settings.pop("weighting", "examples")
    population = settings.pop("population", len(SIZES))
    execution = settings.pop("execution", "auto")
    query = small_cohorts.query(
        mechanism, population=population, weighting=weighting, of=model, **settings
    )
    return small_cohorts.process(
        model,
        query,
        client_optimizer=small_cohorts.optimizer("sgd", 1.0),
        server_optimizer=small_cohorts.optimizer("lloyd", 1.0),
        batch_size=64,
        weighting=weighting,
        execution=execution,
    )


def test_gradient_is_minus_the_statistics_of_each_restart() -> None:
    model, inputs = _model(restarts=2), _clients().features["inputs"]
    trainable = [tf.constant(w) for w in model.initial_weights[0]]
    with tf.GradientTape() as tape:
        tape.watch(trainable)
        outputs = model.predict_on_batch((tuple(trainable), ()), {"inputs": tf.constant(inputs)})
        loss = model.loss(outputs, tf.zeros([len(inputs), 2], tf.int32))
    found = [-np.asarray(g) for g in tape.gradient(loss, trainable)]
    centres = model.initial_weights[0][0].astype(np.float64)
    for restart in range(2):
        sums, shares, inertia = _statistics(inputs.astype(np.float64), centres[restart])
        np.testing.assert_allclose(found[0][restart], sums, atol=1e-6)
        np.testing.assert_allclose(found[1][restart], COUNT_SCALE * shares, atol=1e-6)
        assert found[2][restart] == pytest.approx(INERTIA_SCALE * inertia, abs=1e-6)
    distance = np.square(inputs[:, None] - centres[0][None]).sum(axis=-1)
    np.testing.assert_allclose(outputs, distance, atol=1e-5)
    assert float(loss) == pytest.approx(distance.min(axis=1).mean(), abs=1e-5)


def test_outputs_are_of_the_restart_with_least_inertia() -> None:
    model, inputs = _model(restarts=3), _clients().features["inputs"]
    centres, counts, _ = model.initial_weights[0]
    weights = (centres, counts, np.array([2.0, 0.5, 1.0], np.float32))
    outputs = model.predict_on_batch((weights, ()), {"inputs": tf.constant(inputs)})
    expected = np.square(inputs[:, None] - centres[1][None]).sum(axis=-1)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.parametrize("execution", ["loop", "stacked"])
def test_rounds_are_lloyds_iterations_on_all_rows(execution: str, tff_runtime: None) -> None:
    """Without privacy, weighted by rows: centres as scikit-learn's from the same start, to 1e-5."""
    data, model = _clients(), _model()
    process = _process(model, execution=execution)
    state = process.initialize()
    start = model.initial_weights[0][0][0].astype(np.float64)
    inputs = data.features["inputs"].astype(np.float64)
    for rounds in range(1, 5):
        state = process.next(state, small_cohorts.blocks(data, num_blocks=2)).state
        reference = KMeans(
            SEGMENTS, init=start, n_init=1, max_iter=rounds, tol=0, algorithm="lloyd"
        ).fit(inputs)
        centres, counts, inertia = process.get_model_weights(state).trainable
        np.testing.assert_allclose(centres[0], reference.cluster_centers_, atol=1e-5)
    # The round measures shares and inertia of the centres that it began with.
    before = KMeans(SEGMENTS, init=start, n_init=1, max_iter=3, tol=0).fit(inputs)
    _, shares, mean_distance = _statistics(inputs, before.cluster_centers_)
    np.testing.assert_allclose(counts[0], shares, atol=1e-5)
    assert inertia[0] == pytest.approx(mean_distance, abs=1e-4)


def test_clip_bounds_the_whole_update_of_a_client(tff_runtime: None) -> None:
    """Without noise: one client's sums, counts and inertia together have the norm of the clip."""
    data, model = _clients((40,)), _model(restarts=2)
    process = _process(
        model,
        mechanism="gaussian",
        population=1,
        weighting="uniform",
        clip_norm=0.2,
        noise_multiplier=0.0,
    )
    blocks = small_cohorts.blocks(data, num_blocks=1)
    state = process.next(process.initialize(), blocks).state
    centres, shares, inertia = process.get_model_weights(state).trainable
    assert ((shares == 0) | (shares > SMALLEST_SHARE)).all()
    sums = (centres - model.initial_weights[0][0]) * shares[..., np.newaxis]
    sent = [sums, COUNT_SCALE * shares, INERTIA_SCALE * inertia]
    norm = np.sqrt(sum(np.square(part, dtype=np.float64).sum() for part in sent))
    assert norm == pytest.approx(0.2, rel=1e-5)


def test_example_level_privacy_without_noise_is_the_mean_over_clients(tff_runtime: None) -> None:
    """client_dpsgd with a wide clip and no noise moves as the plain mean does."""
    from fl_research.learning.client_update_config import ClientUpdateConfig
    from fl_research.learning.example_privacy import ExamplePrivacy
    from fl_research.learning.learning_process import build_learning_process

    data, model = _clients(), _model()
    plain = _process(model, weighting="uniform")
    private = build_learning_process(
        model,
        client_update=ClientUpdateConfig(batch_size=64),
        client_optimizer=small_cohorts.optimizer("sgd", 1.0),
        query=small_cohorts.query("none", population=len(SIZES), of=model),
        server_optimizer=Lloyd(1.0),
        example_privacy=ExamplePrivacy(clip_norm=50.0, noise_multiplier=0.0, noise_key=(1, 2)),
    )
    blocks = small_cohorts.blocks(data, num_blocks=1)
    states = [p.next(p.initialize(), blocks).state for p in (plain, private)]
    weights = [p.get_model_weights(s) for p, s in zip((plain, private), states, strict=True)]
    small_cohorts.assert_states_close(*weights, rtol=1e-5, atol=1e-5)


def test_restarts_are_starts_of_their_own() -> None:
    centres = _model(restarts=4).initial_weights[0][0]
    assert len({start.tobytes() for start in centres}) == 4
    with pytest.raises(InputError, match="restarts=0 is not possible"):
        k_means.Config(restarts=0)


def test_other_objectives_are_refused() -> None:
    with pytest.raises(InputError, match="model=k_means finds segments.*BinaryClassification"):
        k_means.build(
            k_means.Config(),
            row_types=_clients().row_types,
            objective=BinaryClassification(),
            seed=0,
        )
