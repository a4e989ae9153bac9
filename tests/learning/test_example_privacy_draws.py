"""What DP-SGD on the rows of a client draws: which rows each step takes, and the noise."""

import functools
import itertools

import numpy as np
import scipy.stats
import tensorflow as tf

from fl_research.learning import example_privacy
from tests.learning import small_cohorts
from tests.learning.private_clients import (
    KEY,
    LEARNING_RATE,
    block,
    indifferent_model,
    private,
    runner,
    training,
)


def _seed(client: int, round_number: int = 1, key: tuple[int, int] = KEY) -> tf.Tensor:
    """The seed of a client of a round."""
    members = block((1,) * (client + 1), chosen=[client], round_number=round_number)
    return example_privacy.client_seed(key, tf.constant(members["seeds"][0]))


def _is_taken(seed: tf.Tensor, steps: int, batch_size: int, rows: int) -> np.ndarray:
    """Returns `bool[steps, rows]`."""

    @functools.partial(tf.function, autograph=False)
    def run() -> tf.Tensor:
        def of_step(step: tf.Tensor) -> tf.Tensor:
            count = tf.constant(rows, tf.int64)
            taken = example_privacy.taken_rows(seed, step, batch_size, count)
            return tf.reduce_any(tf.one_hot(taken, rows, True, False, dtype=tf.bool), axis=0)

        return tf.map_fn(of_step, tf.range(steps, dtype=tf.int64), fn_output_signature=tf.bool)

    return run().numpy()


def test_rows_are_taken_one_by_one_with_the_sampling_rate() -> None:
    """Batch sizes and counts of rows are binomial; rows, steps and clients are independent.

    Chi-square tests: one of the sizes, one of the rows, three of pairs, each at 1e-7, so that a
    false alarm has a probability below 1e-6.
    """
    steps, rows, batch_size = 6000, 12, 5
    taken = _is_taken(_seed(0), steps, batch_size, rows)
    law = steps * scipy.stats.binom.pmf(np.arange(rows + 1), rows, batch_size / rows)
    sizes = np.bincount(taken.sum(axis=1), minlength=rows + 1)
    # Sizes up to 1 and from 10 on are merged: at least 5 are expected in each class.
    classes = [0, 2, *range(3, 11)]
    law, sizes = np.add.reduceat(law, classes), np.add.reduceat(sizes, classes)
    assert min(law) > 5
    assert scipy.stats.chisquare(sizes, law).pvalue > 1e-7
    rate = batch_size / rows
    z = (taken.sum(axis=0) - steps * rate) / np.sqrt(steps * rate * (1 - rate))
    assert scipy.stats.chi2.sf(np.sum(z**2), rows) > 1e-7
    other_client = _is_taken(_seed(1), steps, batch_size, rows)
    for a, b in (
        (taken[:, 0], taken[:, 1]),
        (taken[:-1, 0], taken[1:, 0]),
        (taken[:, 0], other_client[:, 0]),
    ):
        table = np.histogram2d(a, b, bins=2)[0]
        assert scipy.stats.chi2_contingency(table, correction=False)[1] > 1e-7


def test_small_clients_take_every_row_and_others_by_the_key() -> None:
    """Two draws of 12 rows agree with probability below 0.06; 11 of 50 do with below 1e-4."""
    assert _is_taken(_seed(0), 50, 12, 12).all() and _is_taken(_seed(0), 50, 13, 12).all()
    taken = _is_taken(_seed(0), 50, 5, 12)
    np.testing.assert_array_equal(taken, _is_taken(_seed(0), 50, 5, 12))
    for other in (_seed(1), _seed(0, round_number=2), _seed(0, key=(11, -11))):
        assert (_is_taken(other, 50, 5, 12) != taken).any(axis=1).sum() > 35


def test_streams_of_clients_rounds_steps_tensors_and_keys_are_independent() -> None:
    """Each is standard normal (Kolmogorov-Smirnov), and no two are correlated.

    48 streams and 1,128 pairs, each at 5e-10: a false alarm has a probability below 1e-6.
    """
    size, streams = 20_000, []
    for client, round_number, step, key in itertools.product(
        (0, 1), (1, 2), (0, 1, 5), (KEY, (1, 2))
    ):
        noised = example_privacy.noised_mean(
            private(clip_norm=0.5, noise=4.0),
            _seed(client, round_number, key),
            tf.constant(step, tf.int64),
            [tf.zeros([size], tf.float64)] * 2,
            tf.constant(10.0, tf.float64),
        )
        streams += [tensor.numpy() * 10 / (0.5 * 4.0) for tensor in noised]
    assert len(streams) == 48
    assert min(scipy.stats.kstest(stream, "norm").pvalue for stream in streams) > 5e-10
    correlation = np.abs(np.corrcoef(streams)[np.triu_indices(len(streams), 1)])
    assert 2 * scipy.stats.norm.sf(correlation.max() * np.sqrt(size)) > 5e-10


def test_updates_carry_the_declared_noise() -> None:
    """What a model without gradients is moved by, over four steps of three clients.

    Divided by learning rate * stddev * sqrt(steps) / expected size, each client's is standard
    normal, and those of two are not correlated: three tests and three pairs at 1e-7 each, so that a
    false alarm has a probability below 1e-6.
    """
    sizes, batch_size, scaled = (20, 5, 3), 5, []
    run = runner(
        training(
            indifferent_model(),
            private(clip_norm=0.5, noise=3.0),
            batch_size=batch_size,
            local_epochs=4,
            local_steps=4,
        )
    )
    for client, rows in enumerate(sizes):
        record, metrics = run(block(sizes, chosen=[client]))
        assert metrics["clients_not_finite"] == 0
        of_step = LEARNING_RATE * 1.5 / min(batch_size, rows)
        values = np.concatenate([leaf.ravel() for leaf in small_cohorts.leaves(record["update"])])
        scaled.append(values / (of_step * np.sqrt(4)))
        assert scipy.stats.kstest(scaled[-1], "norm").pvalue > 1e-7
    correlation = np.abs(np.corrcoef(scaled)[np.triu_indices(3, 1)])
    assert 2 * scipy.stats.norm.sf(correlation.max() * np.sqrt(len(scaled[0]))) > 1e-7


def test_steps_without_rows_add_noise_all_the_same() -> None:
    """Clients of 400 rows with one expected in each of two steps; some take none in both.

    The spread of 60,000 values is within ten of its standard errors: a false alarm is below 1e-20.
    """
    run = runner(training(indifferent_model(), private(1.0, 1.0), batch_size=1, local_steps=2))
    without_rows_taken = 0
    for client in range(12):
        record, metrics = run(block((400,) * 12, chosen=[client]))
        without_rows_taken += metrics["examples"] == 0
        spread = np.std(record["update"][0]) / (LEARNING_RATE * np.sqrt(2))
        assert 0.97 < spread < 1.03
        assert metrics["clients_without_rows"] == 0 and metrics["clients"] == 1
        assert record["weight"] == 1.0
    assert 0 < without_rows_taken < 12
