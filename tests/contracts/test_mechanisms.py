"""What every mechanism must hold to; each file of `privacy/mechanisms` is put through it by name.

A mechanism is private here if its plan has an `expected_release_event`. Settings are given by name
and only where the mechanism's `Config` has a field of that name.
"""

import collections
import dataclasses
import itertools
import json
from typing import Any

import dp_accounting
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fl_research.data.client_sampling import (
    ClientSampling,
    FixedSizeSampling,
    FullParticipation,
    PoissonSampling,
)
from fl_research.errors import InputError
from fl_research.privacy import accounting
from fl_research.privacy.mechanisms import registry
from fl_research.privacy.noise_self_test import noise_self_test
from fl_research.privacy.plan import PlanSetting, PrivacyPlan
from fl_research.privacy.releases import Release

POISSON = PoissonSampling(population=400, sampling_rate=0.1)
FIXED_SIZE = FixedSizeSampling(population=400, cohort_size=40)
FULL = FullParticipation(population=40)
KEY, OTHER_KEY = (101, -7), (101, -8)
TEMPLATE = collections.OrderedDict(
    update=collections.OrderedDict(
        kernel=tf.TensorSpec([4, 2], tf.float32), bias=tf.TensorSpec([2], tf.float32)
    ),
    weight=tf.TensorSpec([], tf.float32),
)

every_mechanism = pytest.mark.parametrize("name", registry.names())
every_sampling = pytest.mark.parametrize("sampling", [POISSON, FIXED_SIZE, FULL])


def make_plan(
    name: str,
    sampling: ClientSampling = POISSON,
    noise_key: tuple[int, int] = KEY,
    weighting: str = "uniform",
    **wanted: float,
) -> PrivacyPlan:
    mechanism = registry.load(name)
    fields = {field.name for field in dataclasses.fields(mechanism.Config)}
    values = {"clip_norm": 1.5, "noise_multiplier": 0.9, **wanted}
    config = mechanism.Config(**{key: values[key] for key in values if key in fields})
    setting = PlanSetting(sampling=sampling, noise_key=noise_key, weighting=weighting)
    return mechanism.make_plan(config, setting)


def only_private(plan: PrivacyPlan) -> dp_accounting.DpEvent:
    if plan.expected_release_event is None:
        pytest.skip(f"{plan.mechanism} claims no privacy")
    return plan.expected_release_event


def client(seed: int, norm: float = 1.0) -> collections.OrderedDict:
    """A record whose update has the given norm, in a random direction."""
    direction = np.random.default_rng(seed).standard_normal(10)
    update = (direction * norm / np.linalg.norm(direction)).astype(np.float32)
    return collections.OrderedDict(
        update=collections.OrderedDict(kernel=update[:8].reshape(4, 2), bias=update[8:]),
        weight=np.float32(1.0),
    )


def release(
    query: Any, state: Any, clients: list[Any], template: Any = TEMPLATE
) -> tuple[Any, Any, Any]:
    params = query.derive_sample_params(state)
    sample_state = query.initial_sample_state(template)
    for one in clients:
        one = tf.nest.map_structure(tf.constant, one)  # noqa: PLW2901 - into the graph in force
        sample_state = query.accumulate_record(params, sample_state, one)
    return query.get_noised_result(sample_state, state)


def vector(structure: Any) -> np.ndarray:
    return np.concatenate([np.ravel(tensor) for tensor in tf.nest.flatten(structure)])


def leaves(event: Any) -> list[tuple[str, float | None]]:
    """Every simple event in it, as (kind, noise multiplier)."""
    if isinstance(event, dp_accounting.ComposedDpEvent):
        return [leaf for part in event.events for leaf in leaves(part)]
    multiplier = getattr(event, "noise_multiplier", None)
    return [(type(event).__name__, None if multiplier is None else float(multiplier))]


# --- the mean ----------------------------------------------------------------------------------


@every_mechanism
@every_sampling
def test_without_noise_and_with_a_large_clip_it_is_the_plain_mean(
    name: str, sampling: ClientSampling
) -> None:
    """Private ones divide by the expected cohort size, whoever came. Tolerance 1e-6 relative."""
    plan = make_plan(name, sampling, clip_norm=1e4, noise_multiplier=0.0)
    clients = [client(seed, norm=10.0) for seed in range(7)]
    result, _, _ = release(plan.query, plan.query.initial_global_state(), clients)
    divisor = 7 if plan.expected_release_event is None else sampling.expected_cohort_size
    assert sampling.expected_cohort_size == 40
    total = np.sum([vector(one["update"]) for one in clients], axis=0, dtype=np.float64)
    np.testing.assert_allclose(vector(result) * divisor, total, rtol=1e-6, atol=1e-5)
    tf.nest.assert_same_structure(result, TEMPLATE["update"])


@every_mechanism
def test_an_empty_cohort_still_releases(name: str) -> None:
    plan = make_plan(name)
    result, state, event = release(plan.query, plan.query.initial_global_state(), [])
    values = vector(result)
    assert np.isfinite(values).all()
    assert np.isfinite(vector(plan.query.derive_metrics(state)) if state else []).all()
    if plan.expected_release_event is None:
        np.testing.assert_array_equal(values, 0.0)
    else:
        assert (values != 0.0).all()
        assert leaves(event)


@every_mechanism
def test_merging_partial_sums_is_accumulating_them_together(name: str) -> None:
    """As blocks of clients do; float32 sums in another order: tolerance 1e-6."""
    query = make_plan(name).query
    state = query.initial_global_state()
    clients = [client(seed, norm=seed + 0.5) for seed in range(5)]
    params = query.derive_sample_params(state)
    parts = [query.initial_sample_state(TEMPLATE) for _ in range(3)]
    for index, one in enumerate(clients):
        parts[index % 2] = query.accumulate_record(params, parts[index % 2], one)
    merged = query.merge_sample_states(query.merge_sample_states(*parts[:2]), parts[2])
    whole, whole_state, _ = release(query, state, clients)
    result, result_state, _ = query.get_noised_result(merged, state)
    np.testing.assert_allclose(vector(result), vector(whole), atol=1e-6)
    if state:
        np.testing.assert_allclose(vector(result_state), vector(whole_state), rtol=1e-6)


# --- sensitivity -------------------------------------------------------------------------------


@every_mechanism
@every_sampling
def test_one_client_moves_the_sum_by_at_most_the_sensitivity(
    name: str, sampling: ClientSampling
) -> None:
    """A client of norm 1e6 comes, or takes the place of its opposite under replace-one.

    The noise is on, and the same on both sides. Tolerance 1e-5 relative, for float32.
    """
    plan = make_plan(name, sampling)
    only_private(plan)
    replaced = plan.neighboring_relation is dp_accounting.NeighboringRelation.REPLACE_ONE
    others = [client(seed) for seed in range(6)]
    giant = client(99, norm=1e6)
    opposite = tf.nest.map_structure(np.negative, giant)
    state = plan.query.initial_global_state()
    with_giant, _, _ = release(plan.query, state, [*others, giant])
    without, _, _ = release(plan.query, state, [*others, opposite] if replaced else others)
    moved = (vector(with_giant) - vector(without)) * sampling.expected_cohort_size
    distance = float(np.linalg.norm(moved.astype(np.float64)))
    assert distance <= plan.sensitivity * (1 + 1e-5)
    assert distance >= plan.sensitivity * (1 - 1e-5)  # the bound is no larger than it must be


@every_mechanism
def test_clients_that_count_by_examples_are_refused_by_private_means(name: str) -> None:
    only_private(make_plan(name))
    with pytest.raises(InputError, match=r"weighting='examples'.*use weighting='uniform'"):
        make_plan(name, weighting="examples")


@every_mechanism
def test_a_client_weighs_nothing_extra_in_a_uniform_mean(name: str) -> None:
    """What a client writes into its weight changes no bit of a uniform release."""
    plan = make_plan(name)
    heavy = client(1)
    heavy["weight"] = np.float32(1e6)
    state = plan.query.initial_global_state()
    results = [release(plan.query, state, [client(0), one])[0] for one in (client(1), heavy)]
    np.testing.assert_array_equal(vector(results[0]), vector(results[1]))


# --- noise -------------------------------------------------------------------------------------


@every_mechanism
@every_sampling
def test_the_noise_has_the_declared_size(name: str, sampling: ClientSampling) -> None:
    """Chi-square over 20,000 values at a false-alarm probability of 1e-6."""
    plan = make_plan(name, sampling)
    only_private(plan)
    found = noise_self_test(plan, noise_key=(1, 1))
    assert found is not None
    assert found["passed"], found
    metrics = plan.query.derive_metrics(plan.query.initial_global_state())
    declared = plan.details["noise_stddev_of_sum"]
    assert float(metrics["noise_stddev_of_sum"]) == pytest.approx(declared, rel=1e-6)
    assert float(metrics["clip_norm"]) == pytest.approx(plan.details["clip_norm"], rel=1e-6)


@every_mechanism
def test_the_noise_is_independent_over_tensors_releases_and_keys(name: str) -> None:
    """Correlations of all pairs of 10 tensors; each passes its bound with probability 6e-10."""
    size = 20_000
    template = collections.OrderedDict(
        update=[tf.TensorSpec([size], tf.float32), tf.TensorSpec([2, size // 2], tf.float32)],
        weight=tf.TensorSpec([], tf.float32),
    )
    streams = []
    for key, releases in ((KEY, 3), (OTHER_KEY, 2)):
        plan = make_plan(name, noise_key=key)
        only_private(plan)
        state = plan.query.initial_global_state()
        for _ in range(releases):
            result, state, _ = release(plan.query, state, [], template)
            streams += [np.ravel(tensor) for tensor in result]
    correlations = np.corrcoef(np.stack(streams)) - np.eye(10)
    assert np.abs(correlations).max() < 6.2 / np.sqrt(size)


@every_mechanism
def test_a_key_gives_the_same_bits_again_and_another_key_does_not(name: str) -> None:
    clients = [client(seed, norm=seed + 0.1) for seed in range(5)]

    def two_releases(noise_key: tuple[int, int]) -> np.ndarray:
        query = make_plan(name, noise_key=noise_key).query
        first, state, _ = release(query, query.initial_global_state(), clients)
        second, state, _ = release(query, state, clients)
        return np.concatenate([vector(first), vector(second), vector(state) if state else []])

    once, again, other = two_releases(KEY), two_releases(KEY), two_releases(OTHER_KEY)
    np.testing.assert_array_equal(once, again)
    if make_plan(name).expected_release_event is not None:
        assert (once[:20] != other[:20]).all()
        assert (once[:10] != once[10:20]).all()


# --- the event ---------------------------------------------------------------------------------


@every_mechanism
@every_sampling
def test_each_release_emits_the_expected_event(name: str, sampling: ClientSampling) -> None:
    """Within 1e-6 relative, at every live clip norm: the state is float32."""
    plan = make_plan(name, sampling)
    expected = leaves(plan.expected_release_event or dp_accounting.NonPrivateDpEvent())
    state = plan.query.initial_global_state()
    for seed in range(5):
        _, state, event = release(plan.query, state, [client(seed, norm=0.01)])
        emitted = leaves(event)
        assert [kind for kind, _ in emitted] == [kind for kind, _ in expected]
        for (_, multiplier), (_, wanted) in zip(emitted, expected, strict=True):
            assert multiplier == pytest.approx(wanted, rel=1e-6)


@every_mechanism
@pytest.mark.parametrize("sampling", [POISSON, FIXED_SIZE])
def test_epsilon_rises_with_releases_and_falls_with_noise(
    name: str, sampling: ClientSampling
) -> None:
    def epsilon(releases: int, noise_multiplier: float) -> float:
        plan = make_plan(name, sampling, noise_multiplier=noise_multiplier)
        event = only_private(plan)
        spent = accounting.compose([Release(r + 1, event) for r in range(releases)], plan.sampling)
        by_accountant = accounting.epsilon_by_accountant(spent, 1e-5, plan.neighboring_relation)
        found = by_accountant["rdp"]
        assert found is not None and np.isfinite(found)
        return found

    by_releases = [epsilon(releases, 0.9) for releases in (1, 10, 100)]
    by_noise = [epsilon(10, multiplier) for multiplier in (1.8, 0.9, 0.6)]
    for smaller, larger in itertools.chain(
        itertools.pairwise(by_releases), itertools.pairwise(by_noise)
    ):
        assert 0 < smaller < larger * 0.99


@every_mechanism
def test_what_the_mechanism_emits_can_be_accounted(name: str) -> None:
    """Emitted events composed over a run cost the same as the planned ones; none costs infinity."""
    plan = make_plan(name)
    state, releases = plan.query.initial_global_state(), []
    for round_number in range(1, 4):
        _, state, event = release(plan.query, state, [client(round_number)])
        releases.append(Release(round_number=round_number, event=in_plain_numbers(event)))
    by_accountant = accounting.epsilon_by_accountant(
        accounting.compose(releases, plan.sampling), 1e-5, plan.neighboring_relation
    )
    if plan.expected_release_event is None:
        assert by_accountant["rdp"] == float("inf")
        return
    planned = accounting.compose(
        [Release(r, plan.expected_release_event) for r in (1, 2, 3)], plan.sampling
    )
    wanted = accounting.epsilon_by_accountant(planned, 1e-5, plan.neighboring_relation)
    assert by_accountant["rdp"] == pytest.approx(wanted["rdp"], rel=1e-5)


def in_plain_numbers(event: Any) -> dp_accounting.DpEvent:
    """The event with Python numbers in place of tensors."""
    if isinstance(event, dp_accounting.ComposedDpEvent):
        return dp_accounting.ComposedDpEvent([in_plain_numbers(part) for part in event.events])
    if isinstance(event, dp_accounting.GaussianDpEvent):
        return dp_accounting.GaussianDpEvent(float(event.noise_multiplier))
    return event


@every_mechanism
def test_details_are_plain_json_with_what_the_report_needs(name: str) -> None:
    plan = make_plan(name)
    assert plan.mechanism == name
    assert json.loads(json.dumps(plan.details, allow_nan=False)) == plan.details
    assert set(plan.details) >= {
        "clip_norm",
        "noise_multiplier",
        "noise_stddev_of_sum",
        "parameters",
        "references",
    }
    assert all("arXiv" in reference for reference in plan.details["references"])


# --- graphs ------------------------------------------------------------------------------------


@every_mechanism
def test_it_runs_as_a_graph(name: str) -> None:
    """Two releases in one `tf.function` equal the eager ones; tolerance 1e-6 relative."""
    query = make_plan(name).query
    clients = [client(seed, norm=seed + 0.1) for seed in range(4)]

    def two_releases() -> Any:
        first, state, _ = release(query, query.initial_global_state(), clients)
        second, state, event = release(query, state, clients)
        return first, second, state, [multiplier for _, multiplier in emitted(event)]

    def emitted(event: Any) -> list[Any]:
        parts = getattr(event, "events", [event])
        return [(type(part), getattr(part, "noise_multiplier", 0.0)) for part in parts]

    graph = vector(tf.function(two_releases)())
    np.testing.assert_allclose(graph, vector(two_releases()), rtol=1e-6, atol=1e-7)


@every_mechanism
def test_it_runs_in_a_tff_computation(name: str, tff_runtime: None) -> None:
    """In the worker: same numbers as here (1e-6), same bits when repeated, new noise each time."""
    plan = make_plan(name)
    clients = [client(seed, norm=seed + 0.1) for seed in range(4)]
    initialize = tff.tensorflow.computation(plan.query.initial_global_state)
    state_type = initialize.type_signature.result

    @tff.tensorflow.computation(state_type)
    def next_release(state: Any) -> Any:
        result, new_state, event = release(plan.query, state, clients)
        return result, new_state, event.to_named_tuple(), plan.query.derive_metrics(state)

    assert next_release.type_signature.result[1].is_equivalent_to(state_type)
    first, state, event, metrics = next_release(initialize())
    again, _, _, _ = next_release(initialize())
    second, _, _, _ = next_release(state)
    np.testing.assert_array_equal(vector(first), vector(again))

    here_state = plan.query.initial_global_state()
    here_metrics = plan.query.derive_metrics(here_state)
    for there in (first, second):
        here, here_state, _ = release(plan.query, here_state, clients)
        np.testing.assert_allclose(vector(there), vector(here), rtol=1e-6, atol=1e-7)
    assert list(metrics) == list(here_metrics)
    restored = in_plain_numbers(dp_accounting.DpEvent.from_named_tuple(event))
    expected = plan.expected_release_event or dp_accounting.NonPrivateDpEvent()
    assert isinstance(restored, type(expected))
    if plan.expected_release_event is not None:
        assert (vector(first) != vector(second)).all()
