"""Mixes the bits of words, one to one: the finalizer of SplitMix64 (Steele, Lea, Flood 2014)."""

import numpy as np


def mixed(words: np.ndarray) -> np.ndarray:
    """Spreads every bit of `uint64` words over all of the word."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
