"""Noise at the clients: what leaves a client, for any update, and what the server gets."""

import collections
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from fl_research.errors import InputError
from fl_research.privacy.local_noise import LocalNoiseQuery
from tests.learning import private_clients, small_cohorts

KEY = (5, 6)
CLIP, NOISE = 0.5, 2.0
SIZE = 10_000


def query(noise: float = NOISE, key: tuple[int, int] = KEY, cohort: float = 10.0) -> Any:
    return LocalNoiseQuery(
        clip_norm=CLIP, noise_multiplier=noise, expected_cohort_size=cohort, noise_key=key
    )


def sent(update: Any, seed: tuple[int, int] = (1, 2), **settings: Any) -> np.ndarray:
    """What one client sends for an update of two tensors."""
    used = query(**settings)
    params = used.derive_sample_params(used.initial_global_state())
    record = collections.OrderedDict(
        update=[tf.constant(part, tf.float32) for part in np.split(np.asarray(update), 2)],
        weight=tf.constant(1.0),
        seed=tf.constant(seed, tf.int64),
    )
    return np.concatenate(used.preprocess_record(params, record)).astype(np.float64)


def test_noise_is_normal_with_the_declared_size() -> None:
    """Kolmogorov-Smirnov over 20,000 values, false alarm probability 1e-6."""
    noise = sent(np.zeros(2 * SIZE)) / (CLIP * NOISE)
    assert stats.kstest(noise, "norm").pvalue > 1e-6


def test_noise_is_that_of_key_client_and_round() -> None:
    """The same bits again; correlations of all others below 6.2 standard errors (6e-10 each)."""
    zeros = np.zeros(2 * SIZE)
    np.testing.assert_array_equal(sent(zeros), sent(zeros))
    streams = [
        sent(zeros),
        sent(zeros, seed=(1, 3)),  # another client
        sent(zeros, seed=(2, 2)),  # another round
        sent(zeros, seed=(2, 1)),
        sent(zeros, key=(5, 7)),
        sent(zeros, key=(6, 5)),
    ]
    tensors = np.concatenate([np.split(stream, 2) for stream in streams])
    correlations = np.corrcoef(tensors) - np.eye(12)
    assert np.abs(correlations).max() < 6.2 / np.sqrt(SIZE)


@pytest.mark.parametrize("value", [0.0, 1e-3, 1.0, 1e19, 1e38, 3.4e38, np.inf, -np.inf, np.nan])
def test_whatever_the_update_is_the_noise_is_the_same(value: float) -> None:
    """A clipped update is added to it; what is not finite counts as zero and is noised alike."""
    update = np.zeros(20)
    update[3] = value
    moved = sent(update) - sent(np.zeros(20))
    assert np.isfinite(moved).all()
    expected = min(value, CLIP) if np.isfinite(value) else 0.0
    assert moved[3] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(np.delete(moved, 3), 0.0, atol=1e-12)


def test_two_updates_of_a_client_are_two_clips_apart_at_most() -> None:
    direction = np.random.default_rng(0).normal(size=20)
    one, other = sent(1e6 * direction), sent(-1e6 * direction)
    assert np.linalg.norm(one - other) == pytest.approx(2 * CLIP, rel=1e-5)


def mean(cohort: int, expected: float, size: int = SIZE) -> np.ndarray:
    used = query(cohort=expected)
    state = used.initial_global_state()
    specs = collections.OrderedDict(update=[tf.TensorSpec([size])])
    params, sums = used.derive_sample_params(state), used.initial_sample_state(specs)
    for client in range(cohort):
        record = collections.OrderedDict(
            update=[tf.fill([size], 1e-6)],
            weight=tf.constant(7.0),
            seed=tf.constant([0, client], tf.int64),
        )
        sums = used.accumulate_record(params, sums, record)
    result, _, _ = used.get_noised_result(sums, state)
    return result[0].numpy().astype(np.float64)


def test_the_mean_has_the_noise_of_everybody_who_came() -> None:
    """sqrt(25) times the noise of one, over the expected 10; chi-square at 1e-6."""
    found = (mean(25, 10.0) - 25e-6 / 10) * 10 / (CLIP * NOISE * 5)
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], SIZE)
    assert low < np.sum(found**2) < high
    np.testing.assert_array_equal(mean(0, 10.0), 0.0)  # Nobody sent anything.


def test_the_event_is_that_of_one_clients_update() -> None:
    used = query()
    state = used.initial_global_state()
    sums = used.initial_sample_state(collections.OrderedDict(update=[tf.TensorSpec([2])]))
    _, _, event = used.get_noised_result(sums, state)
    assert float(event.noise_multiplier) == pytest.approx(NOISE, rel=1e-6)
    metrics = used.derive_metrics(state)
    assert float(metrics["clip_norm"]) == CLIP
    assert float(metrics["noise_stddev_of_sum"]) == pytest.approx(CLIP * NOISE)


def test_a_wrong_key_is_refused_and_not_shown() -> None:
    with pytest.raises(InputError, match="noise_key=") as raised:
        query(key=(2**70, 1))
    assert str(2**70) not in str(raised.value)


@pytest.mark.parametrize("execution", ["loop", "stacked"])
def test_trained_clients_send_the_same_in_any_execution(execution: str) -> None:
    """Ten clients, one of whom has a huge and one a NaN feature; sums to 1e-5 of the noise.

    The noise of a client does not depend on who else is in its block, or on how it is trained. Who
    has no rows sends nothing.
    """
    used = query(cohort=1.0)
    model = small_cohorts.model("logistic_regression")
    data = small_cohorts.clients()
    data.features["inputs"][0] = 1e30
    data.features["inputs"][6] = np.nan
    training = private_clients.training(model, None, execution=execution, batch_size=4)
    total = _sums(used, training, small_cohorts.blocks(data, num_blocks=1))
    in_blocks = _sums(used, training, small_cohorts.blocks(data, num_blocks=3))
    np.testing.assert_allclose(total, in_blocks, atol=1e-5)
    quiet = _sums(query(noise=0.0, cohort=1.0), training, small_cohorts.blocks(data, num_blocks=1))
    senders = [k for k, size in enumerate(small_cohorts.SIZES) if size]
    block = small_cohorts.blocks(data, num_blocks=1)[0]
    expected = sum(_noise_of(used, block["seeds"][k], model) for k in senders)
    np.testing.assert_allclose(total - quiet, expected, atol=1e-5)


def _sums(used: Any, training: Any, blocks: list[Any]) -> np.ndarray:
    """The sum of what the clients of all blocks send."""
    from fl_research.learning import client_update

    model = training.model
    weights = tf.nest.map_structure(
        tf.constant, private_clients.tff.learning.models.ModelWeights(*model.initial_weights)
    )
    params = used.derive_sample_params(used.initial_global_state())
    run = tf.function(
        lambda b: client_update.block_update(training, used, weights, params, b)["accumulated"],
        autograph=False,
        reduce_retracing=True,
    )
    totals = [run(tf.nest.map_structure(tf.constant, one)) for one in blocks]
    return sum(
        np.concatenate([np.ravel(t) for t in tf.nest.flatten(t)]).astype(np.float64) for t in totals
    )


def _noise_of(used: Any, seed: Any, model: Any) -> np.ndarray:
    """What a client with this seed adds."""
    params = used.derive_sample_params(used.initial_global_state())
    zeros = tf.nest.map_structure(lambda w: tf.zeros(np.shape(w)), model.initial_weights[0])
    record = collections.OrderedDict(
        update=zeros, weight=tf.constant(1.0), seed=tf.constant(seed, tf.int64)
    )
    noised = tf.nest.flatten(used.preprocess_record(params, record))
    return np.concatenate([np.ravel(t) for t in noised]).astype(np.float64)
