"""All randomness outside TensorFlow: a pure function of (seed, purpose, round).

No module keeps a global generator. Two purposes with the same seed draw independent streams, and
a round can be repeated alone, which is what makes an interrupted run resumable to the bit.
"""

import hashlib

import numpy as np


def _seed_sequence(seed: int, purpose: str, round_number: int) -> np.random.SeedSequence:
    """Mixes seed, purpose and round; the purpose enters by a stable hash of its name."""
    digest = hashlib.sha256(purpose.encode("utf-8")).digest()
    purpose_words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4)]
    return np.random.SeedSequence([seed, round_number, *purpose_words])


def generator(seed: int, purpose: str, round_number: int = 0) -> np.random.Generator:
    """Returns the generator of one purpose in one round.

    Args:
      seed: The run's seed, not negative.
      purpose: What the numbers are for, such as `"client_sampling"`.
      round_number: The round, not negative; 0 for what happens once.
    """
    return np.random.default_rng(_seed_sequence(seed, purpose, round_number))


def key(seed: int, purpose: str, round_number: int = 0) -> np.ndarray:
    """Returns an `int64[2]` key for a stateless generator, from the same three values."""
    words = _seed_sequence(seed, purpose, round_number).generate_state(2, np.uint64)
    return words.view(np.int64)
