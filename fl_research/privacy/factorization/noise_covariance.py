"""How the noise of releases is correlated, from the definition of each strategy.

Written by matrices, not as the noise is drawn round by round: a self-test compares the two.
"""

import numpy as np

from fl_research.privacy.factorization.toeplitz import Coefficients, inverse_coefficients


def toeplitz_covariance(coefficients: Coefficients, rounds: int) -> np.ndarray:
    """Returns the covariance of C^-1 z over rounds for z of variance 1.

    Args:
      coefficients: The first column of the Toeplitz matrix C; zero beyond its end.
      rounds: How many.

    Returns:
      float64[rounds, rounds].
    """
    column = inverse_coefficients(tuple(coefficients)[:rounds], rounds)
    inverse = np.zeros((rounds, rounds))
    for first in range(rounds):
        inverse[first:, first] = column[: rounds - first]
    return inverse @ inverse.T


def tree_covariance(rounds: int, restart_every: int) -> np.ndarray:
    """Returns the covariance of what the noise of a tree's prefix sums changes by.

    The noise of a prefix is the sum of the estimates of its largest complete nodes. The estimate
    from below of a complete node of 2^h rounds has the variance 1 / (2 - 2^-h), and is uncorrelated
    with all but the nodes below it; of two prefixes it is the common nodes, and nodes below
    others, that correlate (Honaker 2015).

    Args:
      rounds: How many.
      restart_every: Rounds of one tree.

    Returns:
      float64[rounds, rounds], for nodes of variance 1.
    """
    nodes: dict[tuple[int, int, int], int] = {}

    def own(tree: int, level: int, place: int) -> int:
        """The number of a node's own noise."""
        return nodes.setdefault((tree, level, place), len(nodes))

    def estimate(tree: int, level: int, place: int) -> dict[int, float]:
        """The weights of all nodes' own noise in the estimate of one node."""
        if level == 0:
            return {own(tree, 0, place): 1.0}
        below = 2.0 / (2.0 - 2.0 ** -(level - 1))  # Variance of the sum of both children.
        weights = {own(tree, level, place): below / (1.0 + below)}
        for child in (2 * place, 2 * place + 1):
            for node, weight in estimate(tree, level - 1, child).items():
                weights[node] = weight / (1.0 + below)
        return weights

    rows = []
    for number in range(rounds):
        tree, position = divmod(number, restart_every)
        row: dict[int, float] = {}
        for sign, length in ((1.0, position + 1), (-1.0, position)):
            for level in range(length.bit_length()):
                if length >> level & 1:
                    place = (length >> (level + 1)) * 2
                    for node, weight in estimate(tree, level, place).items():
                        row[node] = row.get(node, 0.0) + sign * weight
        rows.append(row)
    matrix = np.zeros((rounds, len(nodes)))
    for number, row in enumerate(rows):
        matrix[number, list(row)] = list(row.values())
    return matrix @ matrix.T
