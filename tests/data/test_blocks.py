"""Blocks: nothing lost, nothing reordered, balanced, and seeds that ignore the cut."""

import numpy as np
import pytest

from fl_research import randomness
from fl_research.data import blocks
from fl_research.data.client_data import ClientData
from fl_research.errors import InputError


def _skewed_clients(num_clients: int = 60) -> ClientData:
    """Clients with 1 to about 100 rows and two features of different shape and type."""
    generator = np.random.default_rng(0)
    sizes = np.minimum(np.exp(1.5 * generator.standard_normal(num_clients)) + 1, 100).astype(int)
    rows = int(sizes.sum())
    features = {
        "inputs": generator.random((rows, 3), dtype=np.float32),
        "tokens": generator.integers(0, 9, (rows, 4, 2)),
    }
    labels = generator.integers(0, 2, rows).astype(np.int32)
    return ClientData.from_rows(features, labels, np.repeat(np.arange(num_clients), sizes))


@pytest.mark.parametrize("num_blocks", [1, 2, 7, 40, 64])
def test_blocks_together_are_the_cohort(num_blocks: int) -> None:
    data = _skewed_clients()
    clients = np.random.default_rng(1).permutation(60)[:40]
    cut = blocks.cut_into_blocks(data, clients, num_blocks=num_blocks, seed=5, round_number=3)
    cohort = data.select(clients)
    assert len(cut) == num_blocks
    for name, values in cohort.features.items():
        joined = np.concatenate([block["features"][name] for block in cut])
        np.testing.assert_array_equal(joined, values)
        assert all(block["features"][name].dtype == values.dtype for block in cut)
    np.testing.assert_array_equal(np.concatenate([b["labels"] for b in cut]), cohort.labels)
    lengths = np.concatenate([np.diff(b["row_splits"]) for b in cut])
    np.testing.assert_array_equal(lengths, cohort.rows_per_client)
    for block in cut:
        assert list(block) == ["features", "labels", "row_splits", "seeds"]
        assert block["row_splits"].dtype == block["seeds"].dtype == np.int64
        assert block["row_splits"][0] == 0 and block["row_splits"][-1] == len(block["labels"])
        assert block["seeds"].shape == (len(block["row_splits"]) - 1, 2)
    seeds = np.concatenate([b["seeds"] for b in cut])
    np.testing.assert_array_equal(seeds[:, 1], clients)
    assert np.all(seeds[:, 0] == randomness.key(5, "client_update", 3)[0])


def test_seeds_change_with_seed_and_round() -> None:
    data = _skewed_clients()

    def key(seed: int, round_number: int) -> int:
        cut = blocks.cut_into_blocks(
            data, np.array([4]), num_blocks=2, seed=seed, round_number=round_number
        )
        return int(np.concatenate([b["seeds"] for b in cut])[0, 0])

    assert len({key(0, 0), key(0, 1), key(1, 0), key(1, 1)}) == 4


@pytest.mark.parametrize("num_blocks", [2, 3, 8])
def test_blocks_are_balanced(num_blocks: int) -> None:
    data = _skewed_clients()
    cut = blocks.cut_into_blocks(data, np.arange(60), num_blocks=num_blocks, seed=0, round_number=0)
    work = np.array([len(b["labels"]) + len(b["seeds"]) for b in cut])
    # A block's border misses its place by at most half of the client that lies there.
    largest_client = data.rows_per_client.max() + 1
    assert np.all(np.abs(work - work.mean()) <= largest_client)


def test_one_client_a_block_and_more_blocks_than_clients() -> None:
    data = _skewed_clients()
    cut = blocks.cut_into_blocks(data, np.arange(60), num_blocks=60, seed=0, round_number=0)
    assert [len(b["seeds"]) for b in cut] == [1] * 60
    cut = blocks.cut_into_blocks(data, np.arange(3), num_blocks=5, seed=0, round_number=0)
    assert [len(b["seeds"]) for b in cut] == [1, 1, 1, 0, 0]


def test_an_empty_cohort_gives_empty_blocks_of_the_same_type() -> None:
    data = _skewed_clients()
    cut = blocks.cut_into_blocks(data, np.array([], np.int64), num_blocks=3, seed=0, round_number=0)
    assert len(cut) == 3
    for block in cut:
        assert block["features"]["inputs"].shape == (0, 3)
        assert block["features"]["tokens"].shape == (0, 4, 2)
        assert block["labels"].shape == (0,) and block["labels"].dtype == np.int32
        assert list(block["row_splits"]) == [0]
        assert block["seeds"].shape == (0, 2) and block["seeds"].dtype == np.int64


def test_wrong_input_is_refused() -> None:
    data = _skewed_clients()
    with pytest.raises(InputError, match="num_blocks=0"):
        blocks.cut_into_blocks(data, np.arange(3), num_blocks=0, seed=0, round_number=0)
    with pytest.raises(InputError, match="clients has indices from 0 to 60"):
        blocks.cut_into_blocks(data, np.arange(61), num_blocks=1, seed=0, round_number=0)
