"""Measures the noise that a plan's query adds against the noise that the plan declares.

The query of the plan, with a noise key of its own so that nothing of the run's noise is used up or
shown, makes a few releases of nothing: what comes out is noise alone. By the correlation over
releases that the plan declares it is turned back into independent values, in units of the declared
scale. The sum of their squares (for Laplace noise, of their sizes) then follows a chi-square
distribution; the test passes when it lies within the interval that is left with a stated, tiny
probability. Noise of the wrong size fails, and so does noise that is correlated in another way.

All of it is built as a graph, as TFF builds a round: the same code can mean something else there
than it does eagerly, such as `==` between tensors.
"""

import collections
import math
import secrets
from collections.abc import Callable
from typing import Any

import numpy as np

from fl_research.privacy.plan import NoiseKey, PrivacyPlan

_VALUES = 20_000  # A size that is 5 % off then shows.
_RELEASES = 4
_FALSE_ALARM_PROBABILITY = 1e-6  # How often a correct query fails.


def noise_self_test(
    plan: PrivacyPlan, *, noise_key: NoiseKey | None = None
) -> dict[str, Any] | None:
    """Draws noise as the plan does and compares its size with the declared one.

    Args:
      plan: The plan of the run.
      noise_key: A key that is not the run's; None draws one from the operating system.

    Returns:
      `declared_stddev` and `measured_stddev` (of the fresh noise on a sum, or on what `noise_at`
      says, at the initial clip norm), `values`, `passed` and `false_alarm_probability`; None if the
      mechanism draws no noise.
    """
    if plan.noise_at is None:
        return None
    if noise_key is None:
        noise_key = (secrets.randbits(63), secrets.randbits(63))
    draw = {
        "server": _noise_of_server,
        "clients": _noise_of_clients,
        "examples": _noise_of_examples,
    }
    noise_of = draw[plan.noise_at]
    drawn = _run_as_graph(lambda: noise_of(plan, noise_key))
    noise = np.stack([np.concatenate([np.ravel(t) for t in one]) for one in drawn])
    noise = noise.astype(np.float64)
    if plan.noise_at == "server":
        noise *= plan.sampling.expected_cohort_size
    if plan.noise_covariance is not None:
        noise = np.linalg.solve(np.linalg.cholesky(plan.noise_covariance(_RELEASES)), noise)
    declared = float(plan.details["noise_stddev_of_sum"])
    return {
        "declared_stddev": declared,
        "measured_stddev": math.sqrt(float(np.mean(np.square(noise)))),
        "values": noise.size,
        "passed": _is_of_declared_size(noise, declared, is_laplace=_is_laplace(plan)),
        "false_alarm_probability": _FALSE_ALARM_PROBABILITY,
    }


def _template() -> Any:
    """A record of two tensors, as a model has several.

    One that repeated the other's noise would not be noticed by its size, one without noise would.
    """
    import tensorflow as tf

    size = _VALUES // _RELEASES // 2
    update = [tf.TensorSpec([size], tf.float32), tf.TensorSpec([size], tf.float32)]
    return collections.OrderedDict(
        update=update, weight=tf.TensorSpec([], tf.float32), seed=tf.TensorSpec([2], tf.int64)
    )


def _run_as_graph(build: Callable[[], Any]) -> Any:
    """The numbers of a structure of tensors that `build` makes in a graph of its own."""
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        return session.run(build())


def _noise_of_server(plan: PrivacyPlan, noise_key: NoiseKey) -> list[list[Any]]:
    """The noise on the means of a few empty cohorts: the tensors of each release."""
    template = _template()
    query = plan.query_for(noise_key, template["update"])
    state, releases = query.initial_global_state(), []
    for _ in range(_RELEASES):
        mean, state, _ = query.get_noised_result(query.initial_sample_state(template), state)
        releases.append(list(mean))
    return releases


def _noise_of_clients(plan: PrivacyPlan, noise_key: NoiseKey) -> list[list[Any]]:
    """What a few clients send whose updates are zero: the tensors of each."""
    import tensorflow as tf

    template = _template()
    query = plan.query_for(noise_key, template["update"])
    params = query.derive_sample_params(query.initial_global_state())
    sent = []
    for client in range(_RELEASES):
        zero = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), template)
        zero["seed"] = tf.constant([0, client], tf.int64)
        sent.append(list(query.preprocess_record(params, zero)))
    return sent


def _noise_of_examples(plan: PrivacyPlan, noise_key: NoiseKey) -> list[list[Any]]:
    """The noise of a few steps on the gradients of no row: the tensors of each step."""
    import dataclasses

    import tensorflow as tf

    from fl_research.learning import example_privacy

    assert plan.example_privacy is not None, "noise at the examples has its settings"
    privacy = dataclasses.replace(plan.example_privacy, noise_key=noise_key)
    seed = example_privacy.client_seed(noise_key, tf.constant([0, 0], tf.int64))
    gradients = [tf.zeros(spec.shape, tf.float64) for spec in _template()["update"]]
    one = tf.constant(1.0, tf.float64)
    return [
        example_privacy.noised_mean(privacy, seed, tf.constant(step, tf.int64), gradients, one)
        for step in range(_RELEASES)
    ]


def _is_laplace(plan: PrivacyPlan) -> bool:
    """Whether the noise is Laplace noise."""
    return getattr(plan.rule, "noise", None) == "laplace"


def _is_of_declared_size(noise: np.ndarray, declared: float, *, is_laplace: bool) -> bool:
    """Whether the noise can be independent with mean 0 and the declared standard deviation."""
    from scipy import stats

    if declared == 0.0:
        return not noise.any()
    if is_laplace:
        # Twice the size of a Laplace value of scale 1 is a chi-square value of 2 degrees.
        statistic, degrees = 2.0 * np.sum(np.abs(noise)) * math.sqrt(2.0) / declared, 2 * noise.size
    else:
        statistic, degrees = np.sum(np.square(noise / declared)), noise.size
    low = stats.chi2.ppf(_FALSE_ALARM_PROBABILITY / 2, degrees)
    high = stats.chi2.isf(_FALSE_ALARM_PROBABILITY / 2, degrees)
    return bool(low <= statistic <= high)
