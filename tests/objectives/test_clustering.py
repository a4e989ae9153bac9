"""Clustering: its sums, its index, its segment table and its start, against scikit-learn."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix

from fl_research.data.client_data import ClientData
from fl_research.data.schema import Column, Schema, encode
from fl_research.errors import InputError
from fl_research.models import k_means
from fl_research.objectives.adjusted_rand import adjusted_rand_index
from fl_research.objectives.client_rows import ClientRows
from fl_research.objectives.clustering import Clustering
from fl_research.objectives.public_centres import public_centres

COLUMNS = (
    Column(name="age", kind="number", minimum=0, maximum=100),
    Column(name="spend", kind="number", minimum=0, maximum=1000, scale="log1p"),
    Column(name="channel", kind="category", values=("shop", "web", "app")),
)


def _objective(**settings: object) -> Clustering:
    return Clustering(segments=3, columns=COLUMNS, **settings)


def _rows(rows: int = 60) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Encoded inputs, labels (true group, worth) and distances to three centres."""
    generator = np.random.default_rng(0)
    inputs = generator.uniform(-1, 1, (rows, 5)).astype(np.float32)
    inputs[:, 2:] = np.eye(3)[generator.integers(3, size=rows)]
    labels = np.stack([generator.integers(4, size=rows), generator.integers(-1, 2, rows)], axis=1)
    return {"inputs": inputs}, labels.astype(np.int32), generator.uniform(0, 4, (rows, 3))


def _pooled(objective: Clustering, rows: slice = slice(None)) -> dict[str, np.ndarray]:
    features, labels, distances = _rows()
    pooled = objective.pooled(
        tf.constant(distances[rows]),
        tf.constant(labels[rows]),
        {"inputs": tf.constant(features["inputs"][rows])},
    )
    return {name: np.asarray(value) for name, value in pooled.items()}


def test_adjusted_rand_index_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    for groups, segments, rows in ((2, 3, 10), (5, 5, 200), (1, 4, 30), (4, 1, 30), (1, 1, 9)):
        one, other = generator.integers(groups, size=rows), generator.integers(segments, size=rows)
        found = adjusted_rand_index(contingency_matrix(one, other))
        assert found == pytest.approx(adjusted_rand_score(one, other), abs=1e-12)
    assert np.isnan(adjusted_rand_index([[1, 0]]))
    # Counts whose pairs do not fit into 32 bits.
    assert adjusted_rand_index([[10**9, 0], [0, 10**9]]) == 1.0


def test_metrics_are_those_of_the_rows() -> None:
    objective = _objective(groups=("a", "b", "c", "d"))
    _, labels, distances = _rows()
    metrics = objective.metrics(_pooled(objective))
    assert metrics["inertia"] == pytest.approx(distances.min(axis=1).mean())
    expected = adjusted_rand_score(labels[:, 0], distances.argmin(axis=1))
    assert metrics["adjusted_rand_index"] == pytest.approx(expected)


def test_sums_of_parts_are_sums_of_the_whole() -> None:
    objective = _objective(groups=("a", "b", "c", "d"))
    whole, parts = _pooled(objective), [_pooled(objective, slice(*at)) for at in ((0, 7), (7, 60))]
    for name, value in whole.items():
        np.testing.assert_allclose(parts[0][name] + parts[1][name], value, rtol=1e-12)


def test_rows_of_unknown_group_do_not_count_for_the_index() -> None:
    objective = _objective(groups=("a", "b"))
    labels = tf.constant([[0, 1], [1, 1], [-1, -1]])
    outputs = tf.constant([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    pooled = objective.pooled(outputs, labels, {"inputs": tf.zeros([3, 5])})
    np.testing.assert_array_equal(pooled["contingency"], [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(pooled["rows"], [2, 1, 0])
    np.testing.assert_array_equal(pooled["worth_known"], [1, 1, 0])


def test_without_groups_there_is_no_index_and_without_rows_no_number() -> None:
    objective = _objective()
    assert set(objective.metrics(_pooled(objective))) == {"inertia"}
    empty = _pooled(objective, slice(0, 0))
    assert np.isnan(objective.metrics(empty)["inertia"])
    assert objective.findings(empty) == {}


def test_segment_table_is_in_the_units_of_the_records() -> None:
    """Encoded by the schema and back: means, shares and worth as the records have them."""
    import pandas as pd

    generator = np.random.default_rng(3)
    records = pd.DataFrame(
        {
            "age": generator.uniform(0, 100, 40),
            "spend": generator.uniform(0, 1000, 40),
            "channel": generator.choice(["shop", "web", "app"], 40),
            "worth": generator.choice(["no", "yes"], 40),
        }
    )
    label = Column(name="worth", kind="label", values=("no", "yes"), positive="yes")
    encoded = encode(records, Schema(columns=(*COLUMNS, label)))
    objective = _objective(worth="worth = yes")
    distances = generator.uniform(0, 4, (40, 3))
    distances[:, 1] += 10  # nobody is in segment 2
    labels = np.stack([np.full(40, -1), encoded.labels], axis=1)
    pooled = objective.pooled(
        tf.constant(distances), tf.constant(labels), {"inputs": tf.constant(encoded.inputs)}
    )
    table = objective.findings({k: np.asarray(v) for k, v in pooled.items()})["segments"]
    segment = distances.argmin(axis=1)
    assert [row["segment"] for row in table["segments"]][-1] == 2
    assert [row["share"] for row in table["segments"]] == sorted(
        (row["share"] for row in table["segments"]), reverse=True
    )
    for row in table["segments"][:2]:
        own = records[segment == row["segment"] - 1]
        assert row["rows"] == len(own) and row["share"] == pytest.approx(len(own) / 40)
        assert row["numbers"]["age"] == pytest.approx(own["age"].mean(), rel=1e-5)
        assert row["numbers"]["spend"] == pytest.approx(own["spend"].mean(), rel=1e-5)
        for value, share in row["categories"]["channel"].items():
            assert share == pytest.approx((own["channel"] == value).mean())
        assert row["worth_share"] == pytest.approx((own["worth"] == "yes").mean())
    assert table["segments"][2]["numbers"] == {"age": None, "spend": None}
    assert table["segments"][2]["worth_share"] is None
    assert table["overall"]["numbers"]["age"] == pytest.approx(records["age"].mean(), rel=1e-5)


def test_inertia_of_each_client() -> None:
    outputs = tf.constant([[1.0, 2.0], [3.0, 0.5], [7.0, 9.0]])
    clients = ClientRows(tf.constant([0, 2, 2, 3], tf.int64))
    found = _objective().per_client(outputs, tf.zeros([3, 2], tf.int32), {}, clients)["inertia"]
    np.testing.assert_allclose(found, [0.75, np.nan, 7.0])


def _clients(rows: int = 400) -> ClientData:
    """Rows of three groups, each row a client."""
    generator = np.random.default_rng(4)
    middles = np.array([[-0.6, 0, 1, 0, 0], [0.6, 0.5, 0, 1, 0], [0, -0.7, 0, 0, 1]])
    group = generator.integers(3, size=rows)
    inputs = middles[group] + generator.normal(0, 0.1, (rows, 5)) * [1, 1, 0, 0, 0]
    labels = np.stack([group, np.full(rows, -1)], axis=1).astype(np.int32)
    return ClientData.from_rows({"inputs": inputs.astype(np.float32)}, labels, None)


def test_central_weights_are_scikit_learns_centres() -> None:
    """As the model reads them: outputs are the distances to the centres of ten starts' best."""
    objective, train = _objective(groups=("a", "b", "c")), _clients()
    model = k_means.build(
        k_means.Config(restarts=2), row_types=train.row_types, objective=objective, seed=0
    )
    weights = objective.central_weights(model, train, seed=0)
    inputs = train.features["inputs"]
    outputs = model.predict_on_batch((weights, ()), {"inputs": tf.constant(inputs)})
    reference = KMeans(3, n_init=10, random_state=0).fit(inputs.astype(np.float64))
    np.testing.assert_allclose(outputs, np.square(reference.transform(inputs)), atol=1e-5)
    assert [w.dtype for w in weights] == [np.float32] * 3


def test_trivial_baselines() -> None:
    """One centre: the mean squared distance to the training mean; nothing to tell groups by."""
    objective, train = _objective(groups=("a", "b", "c")), _clients()
    found = objective.trivial(train, train)
    inputs = train.features["inputs"].astype(np.float64)
    assert found["one_centre"]["inertia"] == pytest.approx(inputs.var(axis=0).sum())
    assert found["one_centre"]["adjusted_rand_index"] == 0.0
    start = public_centres(COLUMNS, segments=3, restarts=1, seed=0)[0]
    distance = np.square(inputs[:, None] - start[None]).sum(axis=-1)
    assert found["public_centres"]["inertia"] == pytest.approx(distance.min(axis=1).mean())
    expected = adjusted_rand_score(train.labels[:, 0], distance.argmin(axis=1))
    assert found["public_centres"]["adjusted_rand_index"] == pytest.approx(expected)


def test_public_centres_need_no_records_and_lie_inside_the_public_domain() -> None:
    centres = public_centres(COLUMNS, segments=4, restarts=3, seed=1)
    assert centres.shape == (3, 4, 5) and centres.dtype == np.float32
    assert np.abs(centres[..., :2]).max() <= 0.5
    np.testing.assert_allclose(centres[..., 2:].sum(axis=-1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(centres, public_centres(COLUMNS, segments=4, restarts=3, seed=1))
    assert (centres[0] != centres[1]).any()
    assert (centres != public_centres(COLUMNS, segments=4, restarts=3, seed=2)).any()


def test_wrong_settings_and_data() -> None:
    with pytest.raises(InputError, match="segments=1 is not possible; give a whole number, 2 or"):
        Clustering(segments=1, columns=COLUMNS)
    with pytest.raises(InputError, match="leaves nothing to cluster by"):
        Clustering(segments=3, columns=())
    train = _clients(rows=2)
    with pytest.raises(InputError, match="segments=3 is more than the 2 clients.*fewer segments"):
        _objective().check(train)
    with pytest.raises(InputError, match="are not the .* inputs of a row"):
        Clustering(segments=2, columns=COLUMNS[:1]).check(train)
    _objective().check(_clients())
