"""Every mechanism with every sampler that it allows, and what the contract asks of each.

A mechanism is found by its file name. Settings are given by name and only where the mechanism's
`Config` has a field of that name. Which samplers go with it is found by trying.
"""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import dp_accounting
import numpy as np
import pytest
import tensorflow as tf

from fl_research.data.client_sampling import (
    ClientSampling,
    FixedSizeSampling,
    FullParticipation,
    MinSeparationSampling,
    PoissonSampling,
)
from fl_research.errors import InputError
from fl_research.learning import example_privacy
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.privacy.mechanisms import registry
from fl_research.privacy.plan import PlanSetting, PrivacyPlan

ROUNDS = 8
KEY, OTHER_KEY = (101, -7), (101, -8)
Specs = list[tf.TensorSpec]

# All expect cohorts of 40 clients.
POISSON = PoissonSampling(population=400, sampling_rate=0.1)
SAMPLINGS: dict[str, ClientSampling] = {
    "poisson": POISSON,
    "fixed_size": FixedSizeSampling(population=400, cohort_size=40),
    "full": FullParticipation(population=40),
    "min_separation": MinSeparationSampling(population=400, sampling_rate=0.1, min_separation=4),
    "limited": MinSeparationSampling(
        population=400, sampling_rate=0.1, min_separation=3, max_participations=2
    ),
}
EXPECTED_COHORT = 40
CLIENT_UPDATE = ClientUpdateConfig(batch_size=8)
CLIENTS_BY_ROWS = {0: 4, 5: 10, 40: 3}


def template(update: Any) -> collections.OrderedDict:
    """Tensor specs of a client's record, whose update has the given ones."""
    return collections.OrderedDict(
        update=update, weight=tf.TensorSpec([], tf.float32), seed=tf.TensorSpec([2], tf.int64)
    )


UPDATE = collections.OrderedDict(
    kernel=tf.TensorSpec([4, 2], tf.float32), bias=tf.TensorSpec([2], tf.float32)
)
TEMPLATE = template(UPDATE)


def make_plan(
    name: str,
    sampling: ClientSampling = POISSON,
    *,
    noise_key: tuple[int, int] = KEY,
    weighting: str = "uniform",
    rounds: int = ROUNDS,
    **wanted: Any,
) -> PrivacyPlan:
    """The plan of a mechanism; settings that it does not have are left out."""
    mechanism = registry.load(name)
    fields = {field.name for field in dataclasses.fields(mechanism.Config)}
    values = {"clip_norm": 1.5, "noise_multiplier": 0.9, **wanted}
    config = mechanism.Config(**{key: values[key] for key in values if key in fields})
    setting = PlanSetting(
        sampling=sampling,
        rounds=rounds,
        client_update=CLIENT_UPDATE,
        clients_by_rows=CLIENTS_BY_ROWS,
        noise_key=noise_key,
        weighting=weighting,
    )
    return mechanism.make_plan(config, setting)


def refusal(name: str, sampling: ClientSampling) -> str:
    """Why the mechanism refuses the sampler; empty if it does not."""
    try:
        make_plan(name, sampling)
    except InputError as error:
        return str(error)
    return ""


REFUSALS = {
    (name, key): refusal(name, sampling)
    for name in registry.names()
    for key, sampling in SAMPLINGS.items()
}
ALLOWED = [case for case, reason in REFUSALS.items() if not reason]
REFUSED = [case for case, reason in REFUSALS.items() if reason]


def sampling_of(name: str) -> ClientSampling:
    """One sampler that the mechanism allows; that of the tests which need only one."""
    return SAMPLINGS[[key for allowed, key in ALLOWED if allowed == name][-1]]


def is_private(name: str) -> bool:
    """Whether the mechanism claims privacy."""
    return make_plan(name, sampling_of(name)).expected_release_event is not None


PRIVATE = [name for name in registry.names() if is_private(name)]
AT_SERVER = [name for name in PRIVATE if make_plan(name, sampling_of(name)).noise_at == "server"]

every_mechanism = pytest.mark.parametrize("name", registry.names())
every_private_one = pytest.mark.parametrize("name", PRIVATE)
every_one_with_noise_at_the_server = pytest.mark.parametrize("name", AT_SERVER)
every_case = pytest.mark.parametrize(("name", "sampler"), ALLOWED)
every_private_case = pytest.mark.parametrize(
    ("name", "sampler"), [case for case in ALLOWED if case[0] in PRIVATE]
)
every_correlated_case = pytest.mark.parametrize(
    ("name", "sampler"),
    [(name, key) for name, key in ALLOWED if make_plan(name, SAMPLINGS[key]).noise_covariance],
)


def plan_of(name: str, **wanted: Any) -> PrivacyPlan:
    """The plan under a sampler that the mechanism allows."""
    return make_plan(name, sampling_of(name), **wanted)


def client(seed: int, norm: float = 1.0) -> collections.OrderedDict:
    """A record whose update has the given norm, in a random direction."""
    direction = np.random.default_rng(seed).standard_normal(10)
    update = (direction * norm / np.linalg.norm(direction)).astype(np.float32)
    return collections.OrderedDict(
        update=collections.OrderedDict(kernel=update[:8].reshape(4, 2), bias=update[8:]),
        weight=np.float32(1.0),
        seed=np.array([0, seed], np.int64),
    )


def accumulated(query: Any, state: Any, clients: Sequence[Any], specs: Any = TEMPLATE) -> Any:
    """The sample state of these clients."""
    params = query.derive_sample_params(state)
    sample_state = query.initial_sample_state(specs)
    for one in clients:
        one = tf.nest.map_structure(tf.constant, one)  # noqa: PLW2901 - into the graph in force
        sample_state = query.accumulate_record(params, sample_state, one)
    return sample_state


def release(
    query: Any, state: Any, clients: Sequence[Any], specs: Any = TEMPLATE
) -> tuple[Any, Any, Any]:
    """One release of these clients: result, state, event."""
    return query.get_noised_result(accumulated(query, state, clients, specs), state)


def vector(structure: Any) -> np.ndarray:
    """All numbers of a structure."""
    return np.concatenate([np.ravel(tensor) for tensor in tf.nest.flatten(structure)])


def in_plain_numbers(event: Any) -> dp_accounting.DpEvent:
    """The event with Python numbers in place of tensors."""
    if isinstance(event, dp_accounting.ComposedDpEvent):
        return dp_accounting.ComposedDpEvent([in_plain_numbers(part) for part in event.events])
    multiplier = getattr(event, "noise_multiplier", None)
    return event if multiplier is None else type(event)(float(multiplier))


# --------------------------------------------------------------------------------------- noise


def two_tensors(size: int) -> Specs:
    """Specs of an update of two tensors with so many numbers in all, an even number."""
    return [tf.TensorSpec([size // 2], tf.float32), tf.TensorSpec([2, size // 4], tf.float32)]


def server_noise(query: Any, state: Any, releases: int, specs: Specs) -> tuple[np.ndarray, Any]:
    """Noise on the sums of empty cohorts in declared standard deviations, and the state after.

    Returns:
      float64[releases, values], each at the clip norm of its release.
    """
    rows = []
    for _ in range(releases):
        stddev = float(query.derive_metrics(state)["noise_stddev_of_sum"])
        mean, state, _ = release(query, state, [], template(specs))
        rows.append(vector(mean).astype(np.float64) * EXPECTED_COHORT / stddev)
    return np.stack(rows), state


def noise_of_releases(
    plan: PrivacyPlan, noise_key: tuple[int, int], releases: int, size: int
) -> np.ndarray:
    """Noise of a few releases, in declared standard deviations: float64[releases, size].

    Noise of clients is that of one client in as many rounds; noise at examples is that of as many
    steps of one client.
    """
    specs = two_tensors(size)
    declared = plan.details["noise_stddev_of_sum"]
    query = plan.query_for(noise_key, specs)
    if plan.noise_at == "server":
        return server_noise(query, query.initial_global_state(), releases, specs)[0]
    zeros = [tf.zeros(spec.shape) for spec in specs]
    if plan.noise_at == "clients":
        params = query.derive_sample_params(query.initial_global_state())
        record = collections.OrderedDict(update=zeros, weight=tf.constant(1.0))
        sent = [
            query.preprocess_record(params, {**record, "seed": tf.constant([r, 5], tf.int64)})
            for r in range(releases)
        ]
        return np.stack([vector(one) for one in sent]).astype(np.float64) / declared
    privacy = dataclasses.replace(plan.example_privacy, noise_key=noise_key)
    seed = example_privacy.client_seed(noise_key, tf.constant([3, 5], tf.int64))
    zeros = [tf.cast(zero, tf.float64) for zero in zeros]
    one = tf.constant(1.0, tf.float64)
    steps = [
        example_privacy.noised_mean(privacy, seed, tf.constant(step, tf.int64), zeros, one)
        for step in range(releases)
    ]
    return np.stack([vector(step) for step in steps]) / declared


def covariance_of(plan: PrivacyPlan, releases: int) -> np.ndarray:
    """The declared covariance over releases; the identity where none is declared."""
    return np.eye(releases) if plan.noise_covariance is None else plan.noise_covariance(releases)


def whitened(noise: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Noise [releases, values] made independent over releases, if it has this covariance."""
    return np.linalg.solve(np.linalg.cholesky(covariance), noise)


def excess_covariance(noise: np.ndarray, covariance: np.ndarray, kurtosis: float = 3.0) -> float:
    """How far the noise's covariance is from a given one, in standard errors, at most over entries.

    Args:
      noise: float64[releases, values].
      covariance: float64[releases, releases].
      kurtosis: Of a single value: 3 for Gaussian noise, 6 for Laplace noise.
    """
    independent = whitened(noise, covariance)
    releases, values = independent.shape
    found = independent @ independent.T / values - np.eye(releases)
    errors = np.full((releases, releases), 1.0) + (kurtosis - 2.0) * np.eye(releases)
    return float(np.max(np.abs(found) / np.sqrt(errors / values)))
