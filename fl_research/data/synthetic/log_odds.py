"""Probabilities from log-odds, and the constant that gives them a mean."""

import numpy as np


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    """Turns log-odds into probabilities; float64 does not overflow at the sizes met here."""
    return 1 / (1 + np.exp(-log_odds))


def solve_intercept(log_odds: np.ndarray, mean_probability: float) -> float:
    """Returns the constant, found by bisection, that gives records this mean probability.

    Args:
      log_odds: float64 [records], without the constant.
      mean_probability: In (0, 1).
    """
    low, high = -50.0, 50.0
    for _ in range(100):
        middle = (low + high) / 2
        if sigmoid(log_odds + middle).mean() < mean_probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2
