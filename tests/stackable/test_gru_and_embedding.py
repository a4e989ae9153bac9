"""What only one of the layers has: the GRU's own gradient, and the embedding's ids."""

import numpy as np
import pytest
import tensorflow as tf

from fl_research.stackable import layers
from tests.stackable.test_layers import LEADING, ROWS, STEPS, VOCABULARY, WIDTH


@pytest.mark.parametrize("bad", [-1, VOCABULARY])
@pytest.mark.parametrize("leading", LEADING)
def test_an_id_beyond_the_table_is_an_error(leading: tuple[int, ...], bad: int) -> None:
    """Also where a stack has another client's table in that place."""
    ids = np.zeros([*leading, ROWS, STEPS], np.int32)
    ids[(0,) * len(leading) if bad > 0 else (-1,) * len(leading)] = bad
    table = np.zeros([*leading, VOCABULARY, WIDTH], np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError):
        layers.embedding_mean(tf.constant(ids), tf.constant(table))


@pytest.mark.parametrize("leading", LEADING)
def test_the_gradient_of_the_gru_is_that_of_its_values(leading: tuple[int, ...]) -> None:
    """By every argument, against differences in float64, to 1e-7."""
    generator = np.random.default_rng(3)
    # Small: a difference is taken for each number of each argument.
    rows, steps, width, units = 2, 3, 2, 2
    shapes = [
        [rows, steps, width],
        *([width, 3 * units], [units, 3 * units], [3 * units], [3 * units]),
    ]
    arguments = [tf.constant(generator.normal(size=[*leading, *shape])) for shape in shapes]
    weights = generator.normal(size=[*leading, rows, units])
    exact, differences = tf.test.compute_gradient(
        lambda *a: tf.reduce_sum(weights * layers.gru_last_state(*a)), arguments, delta=1e-5
    )
    for one, other in zip(exact, differences, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-7)
