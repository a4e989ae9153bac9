"""The order of a client's rows: a pure-Python twin, independence of the cut, uniformity."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from fl_research.learning.visiting_order import visiting_order
from tests.learning import small_cohorts

MASK = 2**64 - 1
SEEDS = [(0, 0), (1, 2), (-1, -1), (-(2**63), 2**63 - 1), (2**62 + 12345, -7), (3, 4_000_000_000)]


def _splitmix64(state: int) -> int:
    """The output that SplitMix64 gives for a state, in Python's whole numbers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def _order_by_hand(seed: tuple[int, int], rows: int, epoch: int) -> list[int]:
    """The order of one client's rows in one epoch, counted from 1."""
    start = _splitmix64((_splitmix64(seed[0] & MASK) + seed[1]) & MASK)
    start = _splitmix64((start + epoch) & MASK)
    keys = [_splitmix64((start + row * 0x9E3779B97F4A7C15) & MASK) >> 24 for row in range(rows)]
    return sorted(range(rows), key=keys.__getitem__)


def _orders(sizes: list[int], seeds: list[tuple[int, int]], epochs: int = 2) -> np.ndarray:
    """The orders of clients of these sizes, as one block has them."""
    splits = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    drawn = visiting_order(
        tf.constant(splits),
        tf.constant(np.array(seeds, np.int64).reshape([-1, 2])),
        epochs=epochs,
        shuffle=True,
    )
    assert drawn.dtype == tf.int64 and drawn.shape == [epochs, splits[-1]]
    return drawn.numpy()


def test_the_mixing_function_is_that_of_splitmix64() -> None:
    """The first outputs for the seeds 0 and 1234567 as other implementations print them."""
    gamma = 0x9E3779B97F4A7C15
    assert _splitmix64(gamma) == 0xE220A8397B1DCDAF
    assert _splitmix64(2 * gamma & MASK) == 0x6E789E6AA1B965F4
    assert _splitmix64(1234567 + gamma & MASK) == 6457827717110365317


def test_orders_equal_those_of_whole_number_arithmetic() -> None:
    """Also for negative and extreme seeds, and with clients without rows in between."""
    sizes = [5, 0, 300, 1, 0, 17]
    drawn = _orders(sizes, SEEDS, epochs=3)
    start = 0
    for seed, rows in zip(SEEDS, sizes, strict=True):
        for epoch in range(3):
            expected = [start + row for row in _order_by_hand(seed, rows, epoch + 1)]
            assert drawn[epoch, start : start + rows].tolist() == expected
        start += rows


@pytest.mark.parametrize("sizes", [[], [0], [0, 0, 0], [1]])
def test_blocks_with_hardly_any_rows(sizes: list[int]) -> None:
    seeds = SEEDS[: len(sizes)]
    np.testing.assert_array_equal(_orders(sizes, seeds), [range(sum(sizes))] * 2)


def test_order_does_not_depend_on_the_cut_into_blocks() -> None:
    """Each client visits the same rows of its own in the same order, whatever its block."""
    data = small_cohorts.clients()
    by_cut = []
    for num_blocks in (1, 3, data.num_clients, 2 * data.num_clients):
        visited = []
        for block in small_cohorts.blocks(data, num_blocks=num_blocks):
            splits = block["row_splits"]
            order = visiting_order(
                tf.constant(splits), tf.constant(block["seeds"]), epochs=2, shuffle=True
            ).numpy()
            for first, last in itertools.pairwise(splits):
                visited.append(block["features"]["inputs"][order[:, first:last]])
        by_cut.append(visited)
    assert [len(visited) for visited in by_cut] == [data.num_clients] * 4
    for visited in by_cut[1:]:
        for one, other in zip(by_cut[0], visited, strict=True):
            np.testing.assert_array_equal(one, other)
    longest = by_cut[0][6]
    assert (longest[0] != longest[1]).any(), "epochs have orders of their own"


def test_without_shuffling_rows_keep_their_order() -> None:
    order = visiting_order(
        tf.constant([0, 2, 2, 5], tf.int64),
        tf.constant(SEEDS[:3], tf.int64),
        epochs=4,
        shuffle=False,
    )
    np.testing.assert_array_equal(order, [range(5)])
    assert order.dtype == tf.int64


@pytest.mark.parametrize("rows", [2, 3, 4])
@pytest.mark.parametrize("varied", ["client", "run", "epoch"])
def test_every_order_of_few_rows_is_equally_likely(rows: int, varied: str) -> None:
    """Over 24,000 neighbouring clients, run keys or epochs, by a chi-square test.

    The seeds are fixed, so it alarms always or never; for seeds at random each of the nine tests
    would alarm with probability 1e-6, all together in 9 of a million.
    """
    draws = 24_000
    if varied == "epoch":
        drawn = _orders([rows], [(77, -5)], epochs=draws)
    else:
        seeds = [(77, i) if varied == "client" else (i - draws // 2, 5) for i in range(draws)]
        drawn = _orders([rows] * draws, seeds, epochs=1).reshape([draws, rows])
        drawn = drawn - rows * np.arange(draws)[:, np.newaxis]
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == math.factorial(rows)
    assert scipy.stats.chisquare(counts).pvalue > 1e-6
