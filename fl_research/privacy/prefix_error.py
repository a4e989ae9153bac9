"""The error that noise leaves in the model: its root mean square on the prefix sums of the rounds.

With a server that adds up the rounds' means, the model after round t has the noise of the sum of
the first t. The error is the square root of the mean, over the rounds, of the variance of one
number of that noise, in clip norms for each expected member of a cohort. So mechanisms with fresh
and with correlated noise can be compared.

Choquette-Choo, Ganesh, McKenna, McMahan, Rush, Thakurta, Xu 2023, (Amplified) Banded Matrix
Factorization: A unified approach to private training.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fl_research.privacy.accounting_rules.correlated import Rule as CorrelatedRule
from fl_research.privacy.accounting_rules.rule import AccountingRule
from fl_research.privacy.factorization import toeplitz, tree
from fl_research.privacy.factorization.buffered import BufferedStrategy
from fl_research.privacy.noise_split import split_noise


def prefix_error(
    mechanism: str,
    rule: AccountingRule,
    *,
    noise_multiplier: float,
    rounds: int,
    expected_cohort_size: float,
    parameters: Mapping[str, Any],
) -> float | None:
    """Returns the root mean squared error in clip norms for each expected member of a cohort.

    Args:
      mechanism: The name of the mechanism. The clip norm of "laplace" is one of L1.
      rule: Its accounting rule, for at least so many rounds.
      noise_multiplier: Of one release, at least 0.
      rounds: At least 1.
      expected_cohort_size: Above 0.
      parameters: The mechanism's settings beside clip and noise.

    Returns:
      None for "client_dpsgd", whose noise goes through the clients' training and is in no clip
      norms of an update.

    Raises:
      InputError: An adaptive clip leaves no noise for the updates.
    """
    if mechanism == "client_dpsgd":
        return None
    deviation = noise_multiplier
    if mechanism == "laplace":
        deviation *= math.sqrt(2)  # Noise of scale b has the variance 2 b^2.
    elif mechanism == "local_gaussian":
        deviation *= math.sqrt(expected_cohort_size)  # Every member adds noise.
    elif mechanism == "adaptive_gaussian" or parameters.get("target_quantile") is not None:
        stddev = parameters.get("clipped_count_stddev")
        deviation = split_noise(
            noise_multiplier, stddev, expected_cohort_size
        ).value_noise_multiplier
    variance = float(np.mean(prefix_variances(rule, rounds)))
    return math.sqrt(variance) * deviation / expected_cohort_size


def prefix_variances(rule: AccountingRule, rounds: int) -> np.ndarray:
    """Returns the variance of the noise on each prefix sum, for fresh noise of variance 1.

    Args:
      rule: The mechanism's accounting rule.
      rounds: At least 1, and no more than a correlated rule was made for.

    Returns:
      float64[rounds].
    """
    if not isinstance(rule, CorrelatedRule):
        return np.arange(1.0, rounds + 1)
    if rule.restart_every is not None:
        return tree.prefix_errors(rounds=rounds, restart_every=rule.restart_every, efficient=True)
    if rule.coefficients is not None:
        return toeplitz.prefix_errors(rule.coefficients, rounds)
    assert rule.buffers is not None, "one of the three strategies is set"
    weights, decays = zip(*rule.buffers, strict=True)
    strategy = BufferedStrategy(output_weights=weights, decays=decays)
    return toeplitz.prefix_errors(strategy.coefficients(rounds), rounds)
