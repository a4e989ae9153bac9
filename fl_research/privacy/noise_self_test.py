"""Measures the noise that a plan's query adds against the noise that the plan declares.

The query of the plan, with a noise key of its own so that nothing of the run's noise is used up or
shown, releases the mean of an empty cohort: what comes out is noise alone. For independent normal
values of the declared standard deviation, the sum of squares follows a chi-square distribution; the
test passes when it lies within the interval that is left with a stated, tiny probability.
"""

import collections
import math
import secrets
from typing import Any

import numpy as np

from fl_research.privacy.plan import NoiseKey, PrivacyPlan

_VALUES = 20_000  # A size that is 5 % off then shows.
_FALSE_ALARM_PROBABILITY = 1e-6  # How often a correct query fails.


def noise_self_test(
    plan: PrivacyPlan, *, noise_key: NoiseKey | None = None
) -> dict[str, Any] | None:
    """Draws noise through the plan's query and compares its size with the declared one.

    Args:
      plan: The plan of the run.
      noise_key: A key that is not the run's; None draws one from the operating system.

    Returns:
      `declared_stddev` and `measured_stddev` (of the noise on the sum, at the initial clip norm),
      `values`, `passed` and `false_alarm_probability`; None if the mechanism draws no noise.
    """
    if plan.query_with_key is None:
        return None
    if noise_key is None:
        noise_key = (secrets.randbits(63), secrets.randbits(63))
    noise = _noise_on_sum(plan, noise_key)
    declared = float(plan.details["noise_stddev_of_sum"])
    return {
        "declared_stddev": declared,
        "measured_stddev": math.sqrt(float(np.mean(np.square(noise)))),
        "values": _VALUES,
        "passed": _is_of_declared_size(noise, declared),
        "false_alarm_probability": _FALSE_ALARM_PROBABILITY,
    }


def _noise_on_sum(plan: PrivacyPlan, noise_key: NoiseKey) -> np.ndarray:
    """Returns the sum (float64[values]) that a release of an empty cohort amounts to."""
    import tensorflow as tf

    assert plan.query_with_key is not None
    query = plan.query_with_key(noise_key)
    # Two tensors, as a model has: one that repeated the other's noise would not be noticed by its
    # size, but one that got none would.
    template = collections.OrderedDict(
        update=[
            tf.TensorSpec([_VALUES // 2], tf.float32),
            tf.TensorSpec([_VALUES - _VALUES // 2], tf.float32),
        ],
        weight=tf.TensorSpec([], tf.float32),
    )
    mean, _, _ = query.get_noised_result(
        query.initial_sample_state(template), query.initial_global_state()
    )
    noise_on_mean = np.concatenate([tensor.numpy() for tensor in mean]).astype(np.float64)
    return noise_on_mean * plan.sampling.expected_cohort_size


def _is_of_declared_size(noise: np.ndarray, declared: float) -> bool:
    """Whether the noise can be normal with mean 0 and the declared standard deviation."""
    from scipy import stats

    if declared == 0.0:
        return not noise.any()
    statistic = float(np.sum(np.square(noise / declared)))
    low = stats.chi2.ppf(_FALSE_ALARM_PROBABILITY / 2, noise.size)
    high = stats.chi2.isf(_FALSE_ALARM_PROBABILITY / 2, noise.size)
    return bool(low <= statistic <= high)
