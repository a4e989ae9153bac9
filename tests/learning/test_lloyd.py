"""Lloyd's step at the server, by hand."""

import numpy as np
import pytest
import tensorflow as tf

from fl_research.errors import InputError
from fl_research.learning.lloyd import SMALLEST_SHARE, Lloyd
from fl_research.learning.optimizers import OptimizerConfig, build_optimizer
from fl_research.models.k_means import COUNT_SCALE, INERTIA_SCALE

CENTRES = np.array([[[0.2, 0.4], [-0.5, 0.5], [0.9, -0.9]]], np.float32)
WEIGHTS = (CENTRES, np.zeros([1, 3], np.float32), np.zeros([1], np.float32))


def _step(sums: list, shares: list, *, learning_rate: float = 1.0) -> list[np.ndarray]:
    """The new weights after a round with these mean sums and shares, and inertia 2."""
    optimizer = Lloyd(learning_rate)
    gradient = (
        -np.array([sums], np.float32),
        -COUNT_SCALE * np.array([shares], np.float32),
        -INERTIA_SCALE * np.array([2.0], np.float32),
    )
    weights = tuple(tf.constant(w) for w in WEIGHTS)
    state = optimizer.initialize(tuple(tf.TensorSpec(w.shape) for w in WEIGHTS))
    state, new = optimizer.next(state, weights, tuple(tf.constant(g) for g in gradient))
    assert state == ()
    return [np.asarray(w) for w in new]


def test_a_centre_goes_to_the_mean_of_its_rows() -> None:
    sums = [[0.05, -0.1], [0.1, 0.0], [0.0, 0.02]]
    centres, counts, inertia = _step(sums, [0.5, 0.4, 0.1])
    np.testing.assert_allclose(centres[0], [[0.3, 0.2], [-0.25, 0.5], [0.9, -0.7]], atol=1e-6)
    np.testing.assert_allclose(counts[0], [0.5, 0.4, 0.1], atol=1e-6)
    np.testing.assert_allclose(inertia, [2.0], atol=1e-6)


def test_a_shorter_step_goes_part_of_the_way() -> None:
    centres, *_ = _step([[0.05, -0.1], [0, 0], [0, 0]], [0.5, 0.4, 0.1], learning_rate=0.5)
    np.testing.assert_allclose(centres[0, 0], [0.25, 0.3], atol=1e-6)


@pytest.mark.parametrize("share", [0.0, -0.3, 0.9 * SMALLEST_SHARE])
def test_an_almost_empty_segment_keeps_its_place(share: float) -> None:
    """Also where noise leaves it a sum, and less than nobody."""
    centres, counts, _ = _step([[0.3, 0.3], [0.0, 0.0], [0.0, 0.0]], [share, 0.5, 0.5])
    np.testing.assert_array_equal(centres[0, 0], CENTRES[0, 0])
    assert counts[0, 0] == pytest.approx(share, abs=1e-7)


def test_centres_stay_where_encoded_values_can_be() -> None:
    centres, *_ = _step([[0.5, -0.5], [0.0, 0.0], [0.0, 0.0]], [0.01, 0.5, 0.49])
    np.testing.assert_array_equal(centres[0, 0], [1.0, -1.0])


def test_wrong_use() -> None:
    for rate in (1.5, float("nan")):
        with pytest.raises(InputError, match=f"learning_rate={rate}"):
            Lloyd(rate)
    with pytest.raises(InputError, match="moves the centres of --model=k_means"):
        Lloyd(1.0).initialize((tf.TensorSpec([4, 1]), tf.TensorSpec([1])))
    with pytest.raises(InputError, match="momentum=0.9 has no effect on lloyd"):
        OptimizerConfig(name="lloyd", learning_rate=1.0, momentum=0.9)


def test_is_found_by_its_name() -> None:
    assert isinstance(build_optimizer(OptimizerConfig(name="lloyd", learning_rate=1.0)), Lloyd)
