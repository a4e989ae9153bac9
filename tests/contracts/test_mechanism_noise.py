"""What every mechanism must hold to: size and correlation of its noise, also after a resume."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from fl_research.privacy.noise_self_test import noise_self_test
from fl_research.run.server_state import flatten_state, unflatten_state
from tests.contracts.mechanism_cases import (
    KEY,
    OTHER_KEY,
    ROUNDS,
    SAMPLINGS,
    UPDATE,
    client,
    covariance_of,
    every_one_with_noise_at_the_server,
    every_private_case,
    every_private_one,
    excess_covariance,
    make_plan,
    noise_of_releases,
    plan_of,
    release,
    server_noise,
    two_tensors,
    vector,
    whitened,
)

VALUES = 20_000
# Of the 36 entries of 8 releases each passes with a probability of 6e-10 or less.
BOUND = 6.2
KURTOSIS = {"laplace": 6.0}


def distribution(name: str) -> stats.rv_continuous:
    """Of one value with standard deviation 1."""
    return stats.laplace(scale=0.5**0.5) if name == "laplace" else stats.norm()


@every_private_case
def test_the_noise_has_the_declared_size(name: str, sampler: str) -> None:
    """Chi-square over 20,000 values at a false-alarm probability of 1e-6."""
    plan = make_plan(name, SAMPLINGS[sampler])
    found = noise_self_test(plan, noise_key=(1, 1))
    assert found is not None
    assert found["passed"], found
    query = plan.query(UPDATE)
    metrics = query.derive_metrics(query.initial_global_state())
    declared = plan.details["noise_stddev_of_sum"]
    assert float(metrics["noise_stddev_of_sum"]) == pytest.approx(declared, rel=1e-6)
    assert float(metrics["clip_norm"]) == pytest.approx(plan.details["clip_norm"], rel=1e-6)


@every_private_one
def test_the_noise_has_the_declared_covariance_and_distribution(name: str) -> None:
    """All entries of the covariance of 8 releases of 20,000 values; false alarms below 1e-6.

    36 entries at 6.2 standard errors each (2e-8 together), and a Kolmogorov-Smirnov test of the
    whitened values at 1e-7.
    """
    plan = plan_of(name)
    noise = noise_of_releases(plan, (3, 4), ROUNDS, VALUES)
    covariance = covariance_of(plan, ROUNDS)
    assert excess_covariance(noise, covariance, KURTOSIS.get(name, 3.0)) < BOUND
    values = whitened(noise, covariance).ravel()
    assert stats.kstest(values, distribution(name).cdf).pvalue > 1e-7
    if plan.noise_covariance is not None:  # The check can tell the difference.
        assert excess_covariance(noise, np.eye(ROUNDS)) > 2 * BOUND


@every_private_one
def test_the_noise_is_independent_over_tensors_and_keys(name: str) -> None:
    """Correlations of two tensors of 10,000 values and of two keys; false alarms below 1e-7."""
    plan = plan_of(name)
    one, other = (noise_of_releases(plan, key, 3, VALUES) for key in (KEY, OTHER_KEY))
    tensors = np.concatenate(np.split(one, 2, axis=1) + np.split(other, 2, axis=1))
    correlations = np.corrcoef(whitened_in_parts(tensors, covariance_of(plan, 3)))
    assert np.abs(correlations - np.eye(12)).max() < BOUND / np.sqrt(VALUES / 2)


def whitened_in_parts(noise: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Each three rows on their own."""
    return np.concatenate([whitened(part, covariance) for part in np.split(noise, 4)])


def restored(query: Any, arrays: list[np.ndarray]) -> Any:
    """The state that was written, for a query of a process that has just begun."""
    state = unflatten_state(query.initial_global_state(), arrays)
    return tf.nest.map_structure(tf.constant, state)


@every_one_with_noise_at_the_server
def test_a_resumed_run_continues_the_same_noise(name: str) -> None:
    """Six releases in one go, and three, a checkpoint and three: the same bits."""
    clients = [client(seed, norm=seed + 0.1) for seed in range(3)]
    plan = plan_of(name)

    def go_on(state: Any, releases: int) -> tuple[list[np.ndarray], Any]:
        query, results = plan_of(name).query(UPDATE), []
        for _ in range(releases):
            result, state, _ = release(query, state, clients)
            results.append(vector(result))
        return results, state

    initial = plan.query(UPDATE).initial_global_state()
    in_one_go, _ = go_on(initial, 6)
    first, state = go_on(initial, 3)
    written = [np.copy(array) for array in flatten_state(state)]
    second, _ = go_on(restored(plan_of(name).query(UPDATE), written), 3)
    np.testing.assert_array_equal(in_one_go, [*first, *second])


@every_one_with_noise_at_the_server
def test_after_a_resume_with_another_key_the_correlation_still_holds(name: str) -> None:
    """Three releases with one key, five with another; whitened, they are independent noise.

    A resumed run that has lost its secret key draws another. Covariance entries as above (2e-8),
    chi-square of the sum of squares at 1e-7 (Gaussian noise), Kolmogorov-Smirnov at 1e-7.
    """
    plan, specs = plan_of(name), two_tensors(VALUES)
    query = plan.query_for(KEY, specs)
    before, state = server_noise(query, query.initial_global_state(), 3, specs)
    other = plan.query_for(OTHER_KEY, specs)
    state = restored(other, flatten_state(state))
    after, _ = server_noise(other, state, ROUNDS - 3, specs)
    noise = np.concatenate([before, after])
    covariance = covariance_of(plan, ROUNDS)
    assert excess_covariance(noise, covariance, KURTOSIS.get(name, 3.0)) < BOUND
    values = whitened(noise, covariance).ravel()
    assert stats.kstest(values, distribution(name).cdf).pvalue > 1e-7
    if name != "laplace":
        low, high = stats.chi2.ppf([5e-8, 1 - 5e-8], values.size)
        assert low < np.sum(values**2) < high
