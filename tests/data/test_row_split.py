"""Splitting the rows of each client."""

import numpy as np
import pytest

from fl_research.data.client_data import ClientData
from fl_research.data.row_split import split_rows
from fl_research.errors import InputError


def _clients(sizes: tuple[int, ...]) -> ClientData:
    """Clients of these sizes; a row's input is its number."""
    rows = sum(sizes)
    splits = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    inputs = np.arange(rows, dtype=np.float32)[:, None]
    return ClientData({"inputs": inputs}, np.arange(rows) % 2, splits, np.arange(len(sizes)) + 10)


def test_every_row_is_in_one_part_and_stays_with_its_client() -> None:
    data = _clients((10, 1, 0, 25, 4))
    parts = split_rows(data, validation_fraction=0.1, test_fraction=0.2, seed=3)
    train, validation, test = parts
    numbers = np.concatenate([p.features["inputs"][:, 0] for p in parts])
    np.testing.assert_array_equal(np.sort(numbers), np.arange(40))
    for part in parts:
        for index, client in enumerate(part.client_ids):
            rows = part.features["inputs"][slice(*part.row_splits[index : index + 2]), 0]
            first = data.row_splits[client - 10]
            assert (rows >= first).all() and (rows < data.row_splits[client - 9]).all()
            np.testing.assert_array_equal(
                part.labels[slice(*part.row_splits[index : index + 2])], rows.astype(int) % 2
            )
    assert dict(zip(test.client_ids, test.rows_per_client, strict=True)) == {10: 2, 13: 5, 14: 1}
    assert dict(zip(validation.client_ids, validation.rows_per_client, strict=True)) == {
        10: 1,
        13: 3,
    }
    # Whoever has a row trains on one, and whoever has none is in no part.
    assert train.client_ids.tolist() == [10, 11, 13, 14]


def test_parts_follow_from_the_seed_and_are_spread_over_the_rows() -> None:
    data = _clients((4000,))
    one, again, other = (
        split_rows(data, validation_fraction=0.0, test_fraction=0.5, seed=s)[2] for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.features["inputs"], again.features["inputs"])
    assert (one.features["inputs"] != other.features["inputs"]).any()
    # The mean of half of 0..3999 drawn at random, to five standard deviations.
    assert one.features["inputs"].mean() == pytest.approx(1999.5, abs=5 * 1155 / np.sqrt(4000))


def test_without_fractions_all_rows_train() -> None:
    train, validation, test = split_rows(
        _clients((3, 2)), validation_fraction=0.0, test_fraction=0.0, seed=0
    )
    assert (train.num_rows, validation.num_clients, test.num_rows) == (5, 0, 0)


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((0.6, 0.5), "leave nothing to train on"),
        ((-0.1, 0.2), "validation_fraction=-0.1 is not a fraction"),
        ((0.1, float("nan")), "test_fraction=nan is not a fraction"),
        ((0.01, 0.2), "validation_fraction=0.01 of the rows of each client is no row"),
    ],
)
def test_wrong_fractions(fractions: tuple[float, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_rows(
            _clients((5, 5)), validation_fraction=fractions[0], test_fraction=fractions[1], seed=0
        )
