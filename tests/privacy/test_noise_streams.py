"""Noise streams against their matrices, and the tree against tensorflow_privacy's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_privacy.privacy.dp_query import tree_aggregation

from fl_research.privacy.factorization import buffered, toeplitz, tree
from fl_research.privacy.factorization.buffered import BufferedStrategy
from fl_research.privacy.factorization.noise_covariance import (
    toeplitz_covariance,
    tree_covariance,
)
from fl_research.privacy.noise_streams import (
    BandedNoise,
    BufferedNoise,
    FreshNoise,
    NoiseStream,
    TreeNoise,
)

ROUNDS = 40
COEFFICIENTS = (0.8, 0.5, 0.3, 0.1)
STRATEGY = BufferedStrategy(output_weights=(0.4, 0.1, 0.05), decays=(0.9, 0.5, 0.05))
TREE_LENGTHS = (1, 2, 3, 4, 6, 7, 8, 13, 16, 40)
ZEROS = [tf.zeros([3, 2], tf.float64), tf.zeros([], tf.float64)]


def noise_of(stream: NoiseStream, z: np.ndarray) -> np.ndarray:
    """The stream's noise for fresh noise z, which is used in the order in which it is drawn.

    Args:
      stream: Whose state is float64 here, so that only the arithmetic differs.
      z: float64[rounds or more, 7], six values for a tensor [3, 2] and one for a scalar.
    """
    places: dict[int, int] = {0: 0, 1: 0}

    def draw(index: int, place: Any) -> tf.Tensor:
        del place
        value = z[places[index], :6].reshape(3, 2) if index == 0 else z[places[index], 6]
        places[index] += 1
        return tf.constant(value)

    state, rows = stream.initial_state(ZEROS), []
    for _ in range(ROUNDS):
        noises, state = stream.next(state, ZEROS, draw)
        assert [noise.shape for noise in noises] == [zero.shape for zero in ZEROS]
        rows.append(np.concatenate([np.ravel(noise) for noise in noises]))
    return np.stack(rows)


@pytest.fixture(scope="module")
def z() -> np.ndarray:
    """Enough fresh noise for all nodes of any tree."""
    return np.random.default_rng(0).standard_normal((2 * ROUNDS, 7))


def test_fresh_noise_is_as_it_is_drawn(z: np.ndarray) -> None:
    np.testing.assert_array_equal(noise_of(FreshNoise(), z), z[:ROUNDS])


@pytest.mark.parametrize("bands", [1, 2, 4])
def test_banded_noise_is_the_inverse_strategy(bands: int, z: np.ndarray) -> None:
    """Equal to 1e-12 to the reference, and to the inverse of the matrix."""
    coefficients = COEFFICIENTS[:bands]
    found = noise_of(BandedNoise(coefficients), z)
    expected = toeplitz.correlated_noise(coefficients, z[:ROUNDS])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    strategy = sum(c * np.eye(ROUNDS, k=-j) for j, c in enumerate(coefficients))
    np.testing.assert_allclose(strategy @ found, z[:ROUNDS], atol=1e-10)


def test_buffered_noise_is_the_inverse_strategy(z: np.ndarray) -> None:
    """Equal to 1e-12 to the reference, and to the inverse of the matrix."""
    found = noise_of(BufferedNoise(STRATEGY.output_weights, STRATEGY.decays), z)
    expected = buffered.correlated_noise(STRATEGY, z[:ROUNDS])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    column = STRATEGY.coefficients(ROUNDS)
    strategy = sum(c * np.eye(ROUNDS, k=-j) for j, c in enumerate(column))
    np.testing.assert_allclose(strategy @ found, z[:ROUNDS], atol=1e-10)


def prefixes_of_tensorflow_privacy(z: np.ndarray, restart_every: int) -> np.ndarray:
    """Noise of each prefix sum by its aggregator, which draws z in the same order as ours."""

    class Given(tree_aggregation.ValueGenerator):
        """Gives one row after the other."""

        def initialize(self) -> tf.Tensor:
            return tf.constant(0)

        def next(self, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.gather(tf.constant(z, tf.float32), state), state + 1

    aggregator = tree_aggregation.EfficientTreeAggregator(Given())
    state = aggregator.init_state()
    finished, rows, drawn = np.zeros(7), [], 0
    for number in range(1, ROUNDS + 1):
        prefix, state_after = aggregator.get_cumsum_and_update(state)
        drawn += 1 + len(trailing_ones((number - 1) % restart_every))
        rows.append(finished + prefix.numpy())
        state = state_after
        if number % restart_every == 0:
            finished = rows[-1]
            # It has drawn the next leaf of the old tree ahead; the new tree begins with that draw.
            state = aggregator.reset_state(state._replace(value_generator_state=tf.constant(drawn)))
    return np.stack(rows)


def trailing_ones(position: int) -> list[int]:
    """The levels of the nodes that the leaf of a position completes, itself not counted."""
    levels = []
    while position >> len(levels) & 1:
        levels.append(len(levels) + 1)
    return levels


@pytest.mark.parametrize("restart_every", TREE_LENGTHS)
def test_tree_noise_is_that_of_tensorflow_privacy(restart_every: int, z: np.ndarray) -> None:
    """The same nodes give the same prefix sums, over restarts too; to 1e-5, it is float32."""
    found = np.cumsum(noise_of(TreeNoise(restart_every), z), axis=0)
    expected = prefixes_of_tensorflow_privacy(z, restart_every)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)


def matrix_of(stream: NoiseStream) -> np.ndarray:
    """The stream as a matrix: noise of each round from each fresh value, in order of the draws."""
    draws = 2 * ROUNDS
    identity = tf.eye(draws, dtype=tf.float64)
    drawn = [0]

    def draw(index: int, place: Any) -> tf.Tensor:
        del index, place
        drawn[0] += 1
        return identity[drawn[0] - 1]

    like = [tf.zeros([draws], tf.float64)]
    state, rows = stream.initial_state(like), []
    for _ in range(ROUNDS):
        (noise,), state = stream.next(state, like, draw)
        rows.append(noise.numpy())
    return np.stack(rows)


@pytest.mark.parametrize("restart_every", TREE_LENGTHS)
def test_tree_has_the_variance_and_covariance_that_are_accounted(restart_every: int) -> None:
    """From the weights of all nodes, exactly (1e-12): no draw is needed."""
    matrix = matrix_of(TreeNoise(restart_every))
    covariance = matrix @ matrix.T
    declared = tree_covariance(ROUNDS, restart_every)
    np.testing.assert_allclose(covariance, declared, atol=1e-12)
    errors = tree.prefix_errors(rounds=ROUNDS, restart_every=restart_every, efficient=True)
    to_prefixes = np.tri(ROUNDS)
    for found in (covariance, declared):
        variances = np.diag(to_prefixes @ found @ to_prefixes.T)
        np.testing.assert_allclose(variances, errors, rtol=1e-12)


@pytest.mark.parametrize("restart_every", [3, 8])
def test_trees_after_a_restart_are_independent_of_the_ones_before(restart_every: int) -> None:
    covariance = tree_covariance(24, restart_every)
    tree_of = np.arange(24) // restart_every
    np.testing.assert_array_equal(covariance[tree_of[:, None] != tree_of[None, :]], 0.0)
    first = covariance[:restart_every, :restart_every]
    np.testing.assert_allclose(covariance[-restart_every:, -restart_every:], first)


@pytest.mark.parametrize(
    ("stream", "coefficients"),
    [
        (BandedNoise(COEFFICIENTS), COEFFICIENTS),
        (BufferedNoise(STRATEGY.output_weights, STRATEGY.decays), STRATEGY.coefficients(ROUNDS)),
    ],
)
def test_toeplitz_streams_have_the_covariance_that_is_declared(
    stream: NoiseStream, coefficients: Any
) -> None:
    """From the weights of all fresh values, exactly (1e-10)."""
    matrix = matrix_of(stream)
    np.testing.assert_allclose(
        matrix @ matrix.T, toeplitz_covariance(coefficients, ROUNDS), atol=1e-10
    )
    errors = np.sum(np.cumsum(matrix, axis=0) ** 2, axis=1)
    np.testing.assert_allclose(errors, toeplitz.prefix_errors(coefficients, ROUNDS), rtol=1e-9)


def test_a_tree_of_one_round_is_fresh_noise(z: np.ndarray) -> None:
    np.testing.assert_allclose(noise_of(TreeNoise(1), z), z[:ROUNDS], rtol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BandedNoise(COEFFICIENTS),
        lambda: BufferedNoise(STRATEGY.output_weights, STRATEGY.decays),
        lambda: TreeNoise(5),
    ],
)
def test_float32_states_keep_the_noise_of_many_rounds(make: Callable[[], NoiseStream]) -> None:
    """300 rounds with a float32 state stay within 1e-4, also summed up, of those with float64."""
    z = np.random.default_rng(1).standard_normal((600, 4))

    def run(dtype: tf.DType) -> np.ndarray:
        stream, like, drawn = make(), [tf.zeros([4], dtype)], [0]

        def draw(index: int, place: Any) -> tf.Tensor:
            del index, place
            drawn[0] += 1
            return tf.constant(z[drawn[0] - 1])

        state, rows = stream.initial_state(like), []
        for _ in range(300):
            (noise,), state = stream.next(state, like, draw)
            rows.append(noise.numpy())
        return np.cumsum(np.stack(rows), axis=0)

    np.testing.assert_allclose(run(tf.float32), run(tf.float64), atol=1e-4)
