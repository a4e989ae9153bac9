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

from fl_research.errors import InputError
from fl_research.privacy.plan import NoiseKey, PrivacyPlan

_LEAST_VALUES = 20_000


def noise_self_test(
    plan: PrivacyPlan,
    *,
    noise_key: NoiseKey | None = None,
    values: int = _LEAST_VALUES,
    false_alarm_probability: float = 1e-6,
) -> dict[str, Any] | None:
    """Draws noise through the plan's query and compares its size with the declared one.

    Args:
      plan: The plan of the run.
      noise_key: A key that is not the run's; None draws one from the operating system.
      values: How many noise values to draw, at least 20,000 (a size that is 5 % off then shows).
      false_alarm_probability: How often a right query would fail, above 0 and below 1.

    Returns:
      `declared_stddev` and `measured_stddev` (of the noise on the sum, at the initial clip norm),
      `values`, `passed` and `false_alarm_probability`; None if the mechanism draws no noise.

    Raises:
      InputError: An argument is out of range.
    """
    if values < _LEAST_VALUES:
        raise InputError(f"values={values!r} is too few; give {_LEAST_VALUES} or more")
    if not 0 < false_alarm_probability < 1:
        raise InputError(
            f"false_alarm_probability={false_alarm_probability!r} is not possible; "
            "give a number between 0 and 1"
        )
    if plan.query_with_key is None:
        return None
    if noise_key is None:
        noise_key = (secrets.randbits(63), secrets.randbits(63))
    noise = _noise_on_sum(plan, noise_key, values)
    declared = float(plan.details["noise_stddev_of_sum"])
    return {
        "declared_stddev": declared,
        "measured_stddev": math.sqrt(float(np.mean(np.square(noise)))),
        "values": values,
        "passed": _is_of_declared_size(noise, declared, false_alarm_probability),
        "false_alarm_probability": false_alarm_probability,
    }


def _noise_on_sum(plan: PrivacyPlan, noise_key: NoiseKey, values: int) -> np.ndarray:
    """Returns the sum (float64[values]) that a release of an empty cohort amounts to."""
    import tensorflow as tf

    assert plan.query_with_key is not None
    query = plan.query_with_key(noise_key)
    # Two tensors, as a model has: one that repeated the other's noise would not be noticed by its
    # size, but one that got none would.
    template = collections.OrderedDict(
        update=[
            tf.TensorSpec([values // 2], tf.float32),
            tf.TensorSpec([values - values // 2], tf.float32),
        ],
        weight=tf.TensorSpec([], tf.float32),
    )
    mean, _, _ = query.get_noised_result(
        query.initial_sample_state(template), query.initial_global_state()
    )
    noise_on_mean = np.concatenate([tensor.numpy() for tensor in mean]).astype(np.float64)
    return noise_on_mean * plan.sampling.expected_cohort_size


def _is_of_declared_size(
    noise: np.ndarray, declared: float, false_alarm_probability: float
) -> bool:
    """Whether the noise can be normal with mean 0 and the declared standard deviation."""
    from scipy import stats

    if declared == 0.0:
        return not noise.any()
    statistic = float(np.sum(np.square(noise / declared)))
    low = stats.chi2.ppf(false_alarm_probability / 2, noise.size)
    high = stats.chi2.isf(false_alarm_probability / 2, noise.size)
    return bool(low <= statistic <= high)
