"""ClientData: grouping, selecting, splitting, capping, and the size it must carry."""

import collections
import pathlib
import sys
import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fl_research.data.client_data import ClientData
from fl_research.errors import InputError


def _uneven_clients() -> ClientData:
    """Clients 0..9 with 1..10 rows; feature and label name the client and the row."""
    ids = np.repeat(np.arange(10), np.arange(1, 11))
    inputs = np.stack([ids, np.arange(len(ids))], axis=1).astype(np.float32)
    return ClientData.from_rows({"inputs": inputs}, ids.astype(np.int32), ids)


@pytest.mark.parametrize(
    "to_ids",
    [
        lambda numbers: numbers,
        lambda numbers: np.char.mod("C%03d", numbers),
        lambda numbers: np.char.mod("C%03d", numbers).astype(object),
        lambda numbers: pd.Series(np.char.mod("C%03d", numbers), dtype="category"),
    ],
    ids=["integers", "fixed-width text", "objects", "categorical"],
)
def test_rows_are_grouped_by_client_in_their_order(to_ids) -> None:
    numbers = np.random.default_rng(0).integers(0, 40, 500)
    ids = to_ids(numbers)
    data = ClientData.from_rows({"inputs": np.arange(500.0)}, numbers, ids)
    expected = pd.Series(np.arange(500.0)).groupby(np.asarray(ids)).apply(list)
    assert list(data.client_ids) == list(expected.index)
    assert data.client_ids.dtype != object
    for client, rows in enumerate(expected):
        own = slice(data.row_splits[client], data.row_splits[client + 1])
        assert list(data.features["inputs"][own]) == rows
        np.testing.assert_array_equal(data.labels[own], numbers[np.array(rows, int)])


def test_ids_of_mixed_types_are_compared_as_text() -> None:
    ids = np.array(["2", 1, 2, "1"], dtype=object)
    data = ClientData.from_rows({"inputs": np.arange(4.0)}, np.arange(4), ids)
    assert list(data.client_ids) == ["1", "2"]
    assert list(data.labels) == [1, 3, 0, 2]


def test_without_ids_each_row_is_a_client() -> None:
    data = ClientData.from_rows({"inputs": np.arange(3.0)}, np.arange(3), None)
    assert data.num_clients == data.num_rows == 3
    assert list(data.rows_per_client) == [1, 1, 1]


def test_select_keeps_the_order_given() -> None:
    chosen = _uneven_clients().select([7, 0, 3])
    assert list(chosen.client_ids) == [7, 0, 3]
    assert list(chosen.labels) == [7] * 8 + [0] + [3] * 4
    assert list(chosen.row_splits) == [0, 8, 9, 13]
    assert list(chosen.features["inputs"][:, 1]) == [*range(28, 36), 0, *range(6, 10)]
    assert _uneven_clients().select([]).num_clients == 0
    with pytest.raises(InputError, match=r"clients has indices from -1 .* 0 to 9"):
        _uneven_clients().select([-1, 3])


def test_memory_maps_stay_on_disk(tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "inputs.npy", np.random.default_rng(0).random((6000, 5)))
    np.save(tmp_path / "labels.npy", np.arange(6000))
    inputs = np.load(tmp_path / "inputs.npy", mmap_mode="r")
    labels = np.load(tmp_path / "labels.npy", mmap_mode="r")
    data = ClientData.from_rows({"inputs": inputs}, labels, np.repeat(np.arange(2000), 3))
    assert np.shares_memory(data.features["inputs"], inputs)
    assert np.shares_memory(data.labels, labels)
    chosen = data.select([1999, 5])
    assert not np.shares_memory(chosen.features["inputs"], inputs)
    np.testing.assert_array_equal(chosen.features["inputs"], inputs[[5997, 5998, 5999, 15, 16, 17]])


def test_split_is_by_client_and_exact() -> None:
    data = _uneven_clients()
    parts = data.split(validation_fraction=0.15, test_fraction=0.24, seed=3)
    assert [part.num_clients for part in parts] == [6, 2, 2]  # 1.5 rounds to 2, 2.4 to 2
    assert sorted(np.concatenate([part.client_ids for part in parts])) == list(range(10))
    for part in parts:
        np.testing.assert_array_equal(part.labels, np.repeat(part.client_ids, part.rows_per_client))
        np.testing.assert_array_equal(part.rows_per_client, part.client_ids + 1)
    again = data.split(validation_fraction=0.15, test_fraction=0.24, seed=3)
    assert all(
        np.array_equal(a.client_ids, b.client_ids) for a, b in zip(parts, again, strict=True)
    )
    other = data.split(validation_fraction=0.15, test_fraction=0.24, seed=4)
    assert any(
        not np.array_equal(a.client_ids, b.client_ids) for a, b in zip(parts, other, strict=True)
    )
    train, validation, test = data.split(validation_fraction=0, test_fraction=0, seed=3)
    assert (train.num_clients, validation.num_clients, test.num_clients) == (10, 0, 0)


def test_every_client_is_as_likely_in_every_split() -> None:
    """Counts over 1,000 seeds; the chi-square test raises a false alarm with probability 1e-6.

    The counts of one split sum to a constant, so their statistic has one degree of freedom less
    and, drawn without replacement, a scale of (1 - fraction).
    """
    data = _uneven_clients()
    counts = np.zeros((3, 10))
    for seed in range(1000):
        for part, clients in enumerate(
            data.split(validation_fraction=0.2, test_fraction=0.3, seed=seed)
        ):
            counts[part, clients.client_ids] += 1
    for fraction, observed in zip((0.5, 0.2, 0.3), counts, strict=True):
        expected = 1000 * fraction
        statistic = np.sum((observed - expected) ** 2) / (expected * (1 - fraction)) * 0.9
        assert stats.chi2.sf(statistic, df=9) > 1e-6


def test_cap_keeps_a_uniform_choice_in_order() -> None:
    """Counts over 2,000 seeds; the chi-square tests raise a false alarm with probability 2e-6."""
    data = _uneven_clients()
    kept = np.zeros(data.num_rows)
    for seed in range(2000):
        capped = data.cap_rows(4, seed)
        rows = capped.features["inputs"][:, 1].astype(int)
        kept[rows] += 1
        assert list(capped.rows_per_client) == [1, 2, 3, *[4] * 7]
        np.testing.assert_array_equal(capped.labels, data.labels[rows])
        assert np.all(np.diff(rows) > 0)
    assert np.all(kept[data.labels < 4] == 2000)
    for client in (5, 9):
        size, observed = client + 1, kept[data.labels == client]
        fraction = 4 / size
        expected = 2000 * fraction
        statistic = np.sum((observed - expected) ** 2) / (expected * (1 - fraction))
        assert stats.chi2.sf(statistic * (size - 1) / size, df=size - 1) > 1e-6


def test_cap_above_every_client_changes_nothing() -> None:
    data = _uneven_clients()
    assert data.cap_rows(10, seed=0) is data


@pytest.mark.parametrize(
    ("features", "labels", "ids", "message"),
    [
        ({"inputs": np.ones((3, 2))}, np.ones(4), None, "feature 'inputs' has 3 rows, labels has"),
        ({"inputs": np.ones((3, 2))}, np.ones(3), [1, 2], "client_ids has 2 rows"),
        ({"inputs": np.ones((0, 2))}, np.ones(0), None, "the table is empty"),
        ({"inputs": np.array([[1, 2], [3, np.nan]])}, np.ones(2), None, r"'inputs' .* row 1"),
        ({"inputs": np.array([np.inf, 1])}, np.ones(2), None, "'inputs' .* NaN or infinite"),
        ({"inputs": np.ones(2)}, np.array([0, np.nan]), None, "'labels' .* row 1"),
        ({"inputs": np.ones(2)}, np.ones(2), np.array(["a", None]), "client id is missing in row"),
    ],
)
def test_wrong_rows_are_refused(features, labels, ids, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ClientData.from_rows(features, labels, ids)
    assert "\n" not in str(caught.value)


def test_a_bad_value_is_found_in_a_large_array() -> None:
    values = np.zeros((1_500_000, 4), np.float32)
    values[1_234_567, 2] = np.nan
    with pytest.raises(InputError, match="row 1234567"):
        ClientData.from_rows({"inputs": values}, np.zeros(len(values)), None)


@pytest.mark.parametrize(
    ("validation", "test", "message"),
    [
        (-0.1, 0.2, "validation_fraction=-0.1"),
        (0.1, 1.0, "test_fraction=1.0"),
        (float("nan"), 0.1, "validation_fraction=nan"),
        (0.5, 0.5, "leave nothing to train on"),
        (0.04, 0.2, "do not fit 10 clients"),
        (0.0, 0.96, "would get 0, 0 and 10"),
    ],
)
def test_wrong_fractions_are_refused(validation: float, test: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _uneven_clients().split(validation_fraction=validation, test_fraction=test, seed=0)


def test_wrong_cap_and_wrong_splits_are_refused() -> None:
    with pytest.raises(InputError, match="max_rows_per_client=0"):
        _uneven_clients().cap_rows(0, seed=0)
    with pytest.raises(InputError, match="row_splits"):
        ClientData({}, np.ones(3), np.array([0, 2, 4]), np.array([0, 1]))
    with pytest.raises(InputError, match="row_splits"):
        ClientData({}, np.ones(3), np.array([0, 3]), np.array([0, 1]))


def test_from_tff_reads_tuples_and_mappings() -> None:
    import tensorflow_federated as tff

    x = {"b": np.arange(6.0).reshape(3, 2), "a": np.arange(4.0).reshape(2, 2) + 10}
    y = {"b": np.array([0, 1, 0]), "a": np.array([1, 1])}
    tuples = tff.simulation.datasets.TestClientData({k: (x[k], y[k]) for k in x})
    data = ClientData.from_tff(tuples)
    assert list(data.client_ids) == ["a", "b"]
    assert list(data.row_splits) == [0, 2, 5]
    np.testing.assert_array_equal(data.features["inputs"], np.concatenate([x["a"], x["b"]]))
    assert list(data.labels) == [1, 1, 0, 1, 0]

    mappings = tff.simulation.datasets.TestClientData(
        {k: collections.OrderedDict(x=x[k], z=y[k] * 2, target=y[k]) for k in x}
    )
    data = ClientData.from_tff(mappings, label_key="target")
    assert set(data.features) == {"x", "z"}
    assert list(data.labels) == [1, 1, 0, 1, 0]
    data = ClientData.from_tff(mappings, label_key="target", feature_keys=["z"])
    assert set(data.features) == {"z"}
    with pytest.raises(InputError, match="label_key='label' is not there"):
        ClientData.from_tff(mappings)
    with pytest.raises(InputError, match="feature_keys='w'"):
        ClientData.from_tff(mappings, label_key="target", feature_keys=["w"])
    # A client that a preprocessing step leaves empty does not exist.
    only_b = tuples.preprocess(lambda dataset: dataset.filter(lambda x, y: y < 1))
    assert list(ClientData.from_tff(only_b).client_ids) == ["b"]


@pytest.mark.slow
def test_a_million_clients_make_no_python_object_each() -> None:
    """20 million unsorted rows: under 60 s in all and under 10,000 live Python objects more."""
    clients, rows = 1_000_000, 20_000_000
    ids = np.random.default_rng(0).permutation(rows) % clients
    inputs = np.zeros((rows, 4), np.float32)
    inputs[:, 0] = ids
    started, blocks = time.perf_counter(), sys.getallocatedblocks()
    data = ClientData.from_rows({"inputs": inputs}, np.zeros(rows, np.int32), ids)
    loaded = time.perf_counter()
    parts = data.split(validation_fraction=0.1, test_fraction=0.1, seed=0)
    split = time.perf_counter()
    capped = parts[0].cap_rows(10, seed=0)
    capped_at = time.perf_counter()
    cohort = capped.select(np.arange(0, 800_000, 800))
    selected = time.perf_counter()
    print(
        f"load {loaded - started:.2f} s, split {split - loaded:.2f} s, "
        f"cap {capped_at - split:.2f} s, select 1,000 {1e3 * (selected - capped_at):.2f} ms"
    )
    assert sys.getallocatedblocks() - blocks < 10_000
    assert selected - started < 60
    assert [part.num_clients for part in parts] == [800_000, 100_000, 100_000]
    assert np.all(capped.rows_per_client == 10)
    np.testing.assert_array_equal(
        cohort.features["inputs"][:, 0], np.repeat(cohort.client_ids.astype(np.float32), 10)
    )


def test_cap_keeps_the_same_rows_of_everybody_when_a_neighbour_leaves() -> None:
    """Client by client: who else is there changes nothing, or the sensitivity would be of many."""
    ids = np.repeat([f"c{number:02d}" for number in range(30)], 12)
    rows = np.arange(len(ids), dtype=np.float32)[:, None]
    labels = np.zeros(len(ids), np.int32)
    whole = ClientData.from_rows({"inputs": rows}, labels, ids).cap_rows(5, seed=3)
    stays = ids != "c07"
    less = ClientData.from_rows({"inputs": rows[stays]}, labels[stays], ids[stays])
    kept = set(less.cap_rows(5, seed=3).features["inputs"][:, 0].tolist())
    assert kept == {row for row in whole.features["inputs"][:, 0].tolist() if not 84 <= row < 96}
