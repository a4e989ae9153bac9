"""Random values for noise, as pure functions of a seed, with the tails that a small delta needs.

The seed starts the counter-based generator Philox, which turns different seeds into streams that
cannot overlap. A normal or a Laplace value is the inverse of the distribution function at a 52-bit
uniform value, in float64. `tf.random.stateless_normal` is not used: it never gives a value beyond
5.68 standard deviations, in float64 neither, so that each draw leaves out (and piles up at the
edge) 1e-7 of the distribution's mass, which over thousands of draws is not small beside a delta of
1e-5. Here the edges hold a mass of 2e-16: 8.2 standard deviations of the normal distribution.

The generator is not cryptographic, and attacks on floating-point rounding are out of scope.

Philox: Salmon et al. 2011, Parallel Random Numbers: As Easy as 1, 2, 3.
"""

import hashlib
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

# From here on compiling saves more than it costs: a million values took 27 ms instead of 107.
_COMPILE_FROM_ELEMENTS = 50_000
_PHILOX = tf.random.Algorithm.PHILOX.value
# Pieces that may be drawn side by side; even, as one Philox block gives two values.
_PIECE_ELEMENTS = 2**17


def noise_root(noise_key: tuple[int, int]) -> np.ndarray:
    """Returns int64[2] for a key; keys that differ in one bit give unrelated roots."""
    digest = hashlib.sha256(b"fl_research keyed noise" + struct.pack("<qq", *noise_key)).digest()
    return np.frombuffer(digest[:16], dtype="<i8").astype(np.int64)


def seed_at(root: np.ndarray, first: Any, second: Any) -> tf.Tensor:
    """Returns the seed (int64[2]) of one place; other places under the root have other seeds.

    Args:
      root: int64[2], from `noise_root`.
      first: int64 scalar, such as the release.
      second: int64 scalar, such as the tensor.
    """
    place = tf.stack([tf.cast(first, tf.int64), tf.cast(second, tf.int64)])
    return tf.bitwise.bitwise_xor(root, place)


def standard_normal(seed: Any, shape: Any) -> tf.Tensor:
    """Returns independent values with mean 0 and standard deviation 1, float64.

    Args:
      seed: int64[2].
      shape: Shape of the result.
    """
    return _values(seed, shape, _inverse_normal, _compiled_inverse_normal)


def standard_laplace(seed: Any, shape: Any) -> tf.Tensor:
    """Returns independent Laplace values with mean 0 and scale 1, float64.

    Args:
      seed: int64[2].
      shape: Shape of the result.
    """
    return _values(seed, shape, _inverse_laplace, _compiled_inverse_laplace)


def _values(
    seed: Any,
    shape: Any,
    inverse: Callable[[tf.Tensor], tf.Tensor],
    compiled_inverse: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """The inverse distribution function at uniform values, large tensors in pieces."""
    static_shape = tf.get_static_value(tf.convert_to_tensor(shape, tf.int32))
    elements = 0 if static_shape is None else int(np.prod(static_shape))
    if elements < _COMPILE_FROM_ELEMENTS:
        uniform = tf.random.stateless_uniform(shape, seed=seed, dtype=tf.float64, alg=_PHILOX)
        return inverse(uniform)
    pieces = [
        compiled_inverse(_uniform_piece(seed, first, min(_PIECE_ELEMENTS, elements - first)))
        for first in range(0, elements, _PIECE_ELEMENTS)
    ]
    return tf.reshape(tf.concat(pieces, axis=0), static_shape)


def _uniform_piece(seed: tf.Tensor, first: int, size: int) -> tf.Tensor:
    """Returns values `first:first + size` of what one call of `stateless_uniform` would give."""
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
    # The low word of a counter that starts at zero; `first` is even.
    counter += tf.constant([first // 2, 0], tf.uint64)
    return tf.raw_ops.StatelessRandomUniformV2(
        shape=[size], key=key, counter=counter, alg=_PHILOX, dtype=tf.float64
    )


def _inverse_normal(uniform: tf.Tensor) -> tf.Tensor:
    """Returns normal values of multiples of 2**-52 in [0, 1)."""
    # Half a step up makes them symmetric and never 0 or 1.
    return tf.math.ndtri(uniform + 2.0**-53)


def _inverse_laplace(uniform: tf.Tensor) -> tf.Tensor:
    """Returns Laplace values of multiples of 2**-52 in [0, 1)."""
    centred = uniform + 2.0**-53 - 0.5
    return -tf.sign(centred) * tf.math.log(1.0 - 2.0 * tf.abs(centred))


_compiled_inverse_normal = tf.function(_inverse_normal, jit_compile=True, autograph=False)
_compiled_inverse_laplace = tf.function(_inverse_laplace, jit_compile=True, autograph=False)
