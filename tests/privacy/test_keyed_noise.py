"""The generator of the noise, and the query that adds it, with plain tensors."""

import dp_accounting
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_privacy as tfp
from scipy import stats

from fl_research.errors import InputError
from fl_research.learning import keyed_values
from fl_research.learning.keyed_values import (
    noise_root,
    seed_at,
    standard_laplace,
    standard_normal,
)
from fl_research.privacy.keyed_noise import KeyedNoiseQuery, NoisedPart

KEY = (1, 2)


def normal(key: tuple[int, int], release_index: int, tensor_index: int, size: int) -> np.ndarray:
    values = standard_normal(seed_at(noise_root(key), release_index, tensor_index), [size])
    return values.numpy()


def sum_query(noise_multiplier: float = 1.0, key: tuple[int, int] = KEY) -> KeyedNoiseQuery:
    part = NoisedPart(
        tensors=lambda sample_state: sample_state,
        clip_norm=lambda state: state.l2_norm_clip,
        noise_multiplier=noise_multiplier,
    )
    inner = tfp.GaussianSumQuery(l2_norm_clip=3.0, stddev=0.0)
    return KeyedNoiseQuery(inner, parts=[part], noise_key=key, update_specs=[tf.TensorSpec([1])])


def test_values_are_standard_normal() -> None:
    """Kolmogorov-Smirnov at a false-alarm probability of 1e-6."""
    assert stats.kstest(normal(KEY, 5, 3, 200_000), "norm").pvalue > 1e-6


def test_laplace_values_have_scale_one() -> None:
    """Kolmogorov-Smirnov at a false-alarm probability of 1e-6, in one piece and in several."""
    for size in (40_000, 300_000):
        values = standard_laplace(seed_at(noise_root(KEY), 1, 1), [size]).numpy()
        assert stats.kstest(values, "laplace").pvalue > 1e-6
    edges = tf.constant([0.0, 0.5, 1 - 2.0**-52], tf.float64)
    lowest, middle, highest = keyed_values._compiled_inverse_laplace(edges).numpy()
    assert -36.1 < lowest < -36.0 and 35.3 < highest < 36.1 and abs(middle) < 1e-15


def test_the_tail_goes_beyond_the_edge_of_tensorflows_own_generator() -> None:
    """A known place of the stream; `tf.random.stateless_normal` never passes 5.678."""
    values = normal(KEY, 278, 0, 1_000_000)
    assert np.argmax(np.abs(values)) == 641_624
    assert values[641_624] == pytest.approx(-6.057078257268385, abs=1e-9)


def test_the_stream_of_a_key_stays_what_it_is() -> None:
    """A change here would break the repetition of runs that were made before it."""
    expected = [0.55376899, 1.0458903, -0.39053474]
    np.testing.assert_allclose(normal(KEY, 0, 0, 3), expected, atol=1e-7)


def test_every_release_tensor_and_key_has_a_stream_of_its_own() -> None:
    """Also the neighbours that a careless sum of key and index would join.

    Largest correlation of 45 pairs; each exceeds its bound with a probability of 6e-10.
    """
    size = 20_000
    places = [
        (KEY, 0, 0), (KEY, 0, 1), (KEY, 1, 0), (KEY, 1, 1), (KEY, 2**40, 0),
        ((2, 2), 0, 0), ((1, 3), 0, 0), ((2, 1), 0, 0), ((-1, 2), 0, 0), ((1, 2**62), 0, 0),
    ]  # fmt: skip
    streams = np.stack([normal(*place, size) for place in places])
    correlations = np.corrcoef(streams) - np.eye(len(places))
    assert np.abs(correlations).max() < 6.2 / np.sqrt(size)


def test_release_adds_the_stream_and_counts_up() -> None:
    query = sum_query(noise_multiplier=0.5)
    state = query.initial_global_state()
    sums = [tf.constant([10.0, 20.0]), tf.constant([[30.0]])]
    for release_index in range(3):
        assert int(state.release_index) == release_index
        result, state, event = query.get_noised_result(sums, state)
        for tensor_index, (tensor, clean) in enumerate(zip(result, sums, strict=True)):
            noise = normal(KEY, release_index, tensor_index, clean.shape.num_elements())
            expected = clean.numpy() + (1.5 * noise).astype(np.float32).reshape(clean.shape)
            np.testing.assert_array_equal(tensor.numpy(), expected)
        assert isinstance(event, dp_accounting.GaussianDpEvent)
        assert float(event.noise_multiplier) == 0.5


def test_event_and_noise_follow_the_live_state() -> None:
    query = sum_query(noise_multiplier=0.3)
    state = query.initial_global_state()
    live = state._replace(inner=state.inner._replace(l2_norm_clip=tf.constant(7.7)))
    metrics = query.derive_metrics(live)
    assert float(metrics["clip_norm"]) == np.float32(7.7)
    assert float(metrics["noise_stddev_of_sum"]) == pytest.approx(0.3 * 7.7, rel=1e-7)
    zero = [tf.zeros([4])]
    noise, _, event = query.get_noised_result(zero, live)
    initial_noise, _, _ = query.get_noised_result(zero, state)
    np.testing.assert_allclose(noise[0], initial_noise[0] * (7.7 / 3.0), rtol=1e-6)
    assert event.noise_multiplier.dtype == tf.float64
    assert float(event.noise_multiplier) == pytest.approx(0.3, rel=1e-7)


def test_no_noise_leaves_the_sum_and_says_so() -> None:
    query = sum_query(noise_multiplier=0.0)
    sums = [tf.constant([1e-3, -5.0, 0.0])]
    result, _, event = query.get_noised_result(sums, query.initial_global_state())
    np.testing.assert_array_equal(result[0], sums[0])
    assert float(event.noise_multiplier) == 0.0


def test_a_clip_norm_of_zero_claims_no_privacy_rather_than_nan() -> None:
    query = sum_query()
    state = query.initial_global_state()
    state = state._replace(inner=state.inner._replace(l2_norm_clip=tf.constant(0.0)))
    _, _, event = query.get_noised_result([tf.zeros([2])], state)
    assert float(event.noise_multiplier) == 0.0


def test_a_tensor_without_noise_is_refused() -> None:
    part = NoisedPart(
        tensors=lambda sample_state: sample_state[0],
        clip_norm=lambda state: state.l2_norm_clip,
        noise_multiplier=1.0,
    )
    inner = tfp.GaussianSumQuery(l2_norm_clip=1.0, stddev=0.0)
    query = KeyedNoiseQuery(
        inner,
        parts=[part],
        noise_key=KEY,
        update_specs=[tf.TensorSpec([2]), tf.TensorSpec([3])],
    )
    with pytest.raises(ValueError, match="cover 1 tensors of a sample state of 2"):
        query.get_noised_result([tf.zeros([2]), tf.zeros([3])], query.initial_global_state())
    with pytest.raises(TypeError, match="int32"):
        sum_query().get_noised_result([tf.zeros([2], tf.int32)], query.initial_global_state())


@pytest.mark.parametrize("key", [(1,), (1, 2, 3), (1.5, 2), (2**63, 0), "ab", None])
def test_a_key_is_two_64_bit_integers(key: object) -> None:
    with pytest.raises(InputError, match="noise_key"):
        sum_query(key=key)  # type: ignore[arg-type]


def test_compiled_pieces_are_the_same_up_to_rounding() -> None:
    """Large tensors go through XLA in pieces; the values agree to 1e-11 with SciPy's inverse."""
    size = 2 * keyed_values._PIECE_ELEMENTS + 60_001
    place = tf.bitwise.bitwise_xor(noise_root(KEY), tf.constant([4, 1], tf.int64))
    uniform = tf.random.stateless_uniform([size], seed=place, dtype=tf.float64, alg="philox")
    edges = tf.constant([0.0, 2.0**-52, 1 - 2.0**-52], tf.float64)
    expected = stats.norm.ppf(uniform.numpy() + 2.0**-53)
    np.testing.assert_allclose(normal(KEY, 4, 1, size), expected, rtol=1e-11, atol=1e-12)
    compiled = keyed_values._compiled_inverse_normal(edges).numpy()
    assert -8.3 < compiled[0] < compiled[1] < -8.0 and 8.1 < compiled[2] < 8.3
