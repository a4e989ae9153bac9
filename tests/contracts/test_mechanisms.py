"""What every mechanism must hold to: the mean, empty cohorts, partial sums, refusals, details."""

import json

import numpy as np
import pytest

from fl_research.errors import InputError
from fl_research.privacy.mechanisms import registry
from tests.contracts.mechanism_cases import (
    EXPECTED_COHORT,
    KEY,
    OTHER_KEY,
    REFUSALS,
    REFUSED,
    SAMPLINGS,
    TEMPLATE,
    UPDATE,
    accumulated,
    client,
    every_case,
    every_mechanism,
    every_one_with_noise_at_the_server,
    every_private_one,
    make_plan,
    plan_of,
    release,
    vector,
)

# Divides by who came: nothing is claimed, or what clients send is private already.
MEAN_OF_WHO_CAME = ("client_dpsgd", "none")


@every_mechanism
def test_some_sampler_goes_with_it(name: str) -> None:
    assert any(not REFUSALS[name, sampler] for sampler in SAMPLINGS)


@pytest.mark.parametrize(("name", "sampler"), REFUSED)
def test_a_sampler_is_refused_with_the_reason_and_the_way_out(name: str, sampler: str) -> None:
    reason = REFUSALS[name, sampler]
    assert f"sampling={SAMPLINGS[sampler].name!r}" in reason
    assert "correlated over rounds" in reason or name in reason
    assert "; use sampling=" in reason and "\n" not in reason
    with pytest.raises(InputError):
        make_plan(name, SAMPLINGS[sampler])


def test_correlated_noise_is_refused_where_nothing_bounds_participation() -> None:
    """The list, so that a refusal that got lost is noticed."""
    correlated = ("banded_matrix_factorization", "buffered_toeplitz", "tree_aggregation")
    assert {(n, s) for n in correlated for s in ("fixed_size", "poisson")} == set(REFUSED)


@every_case
def test_without_noise_and_with_a_large_clip_it_is_the_plain_mean(name: str, sampler: str) -> None:
    """Private sums are divided by the expected cohort size. Tolerance 1e-6 relative."""
    sampling = SAMPLINGS[sampler]
    query = make_plan(name, sampling, clip_norm=1e4, noise_multiplier=0.0).query(UPDATE)
    clients = [client(seed, norm=10.0) for seed in range(7)]
    result, _, _ = release(query, query.initial_global_state(), clients)
    assert sampling.expected_cohort_size == EXPECTED_COHORT
    divisor = 7 if name in MEAN_OF_WHO_CAME else EXPECTED_COHORT
    total = np.sum([vector(one["update"]) for one in clients], axis=0, dtype=np.float64)
    np.testing.assert_allclose(vector(result) * divisor, total, rtol=1e-6, atol=1e-5)
    assert list(result) == list(UPDATE)


@every_mechanism
def test_an_empty_cohort_still_releases(name: str) -> None:
    """With noise, where the server draws it, and an event like any other."""
    plan = plan_of(name)
    query = plan.query(UPDATE)
    result, state, event = release(query, query.initial_global_state(), [])
    values = vector(result)
    assert np.isfinite(values).all()
    metrics = query.derive_metrics(state)
    assert np.isfinite(vector(metrics) if metrics else []).all()
    assert (values != 0.0).all() == (plan.noise_at == "server")
    if plan.noise_at != "server":
        np.testing.assert_array_equal(values, 0.0)
    _, _, other = release(query, query.initial_global_state(), [client(1)])
    assert type(event) is type(other)


@every_mechanism
def test_merging_partial_sums_is_accumulating_them_together(name: str) -> None:
    """As blocks of clients do; float32 sums in another order: tolerance 1e-6."""
    query = plan_of(name).query(UPDATE)
    state = query.initial_global_state()
    clients = [client(seed, norm=seed + 0.5) for seed in range(5)]
    one, other = accumulated(query, state, clients[::2]), accumulated(query, state, clients[1::2])
    empty = query.initial_sample_state(TEMPLATE)
    merged = query.merge_sample_states(query.merge_sample_states(one, other), empty)
    whole, whole_state, _ = release(query, state, clients)
    result, result_state, _ = query.get_noised_result(merged, state)
    np.testing.assert_allclose(vector(result), vector(whole), atol=1e-6)
    if state:
        np.testing.assert_allclose(vector(result_state), vector(whole_state), rtol=1e-5, atol=1e-6)


@every_private_one
def test_clients_that_count_by_examples_are_refused_by_private_means(name: str) -> None:
    with pytest.raises(InputError, match=r"weighting='examples'.*use weighting='uniform'") as found:
        plan_of(name, weighting="examples")
    assert f"mechanism={name!r}" in str(found.value)


@every_mechanism
def test_a_client_weighs_nothing_extra_in_a_uniform_mean(name: str) -> None:
    """What a client writes into its weight changes no bit of a uniform release."""
    query = plan_of(name).query(UPDATE)
    heavy = client(1)
    heavy["weight"] = np.float32(1e6)
    state = query.initial_global_state()
    results = [release(query, state, [client(0), one])[0] for one in (client(1), heavy)]
    np.testing.assert_array_equal(vector(results[0]), vector(results[1]))


@every_one_with_noise_at_the_server
def test_a_key_gives_the_same_bits_again_and_another_key_does_not(name: str) -> None:
    clients = [client(seed, norm=seed + 0.1) for seed in range(5)]

    def two_releases(noise_key: tuple[int, int]) -> np.ndarray:
        query = plan_of(name, noise_key=noise_key).query(UPDATE)
        first, state, _ = release(query, query.initial_global_state(), clients)
        second, state, _ = release(query, state, clients)
        return np.concatenate([vector(first), vector(second), vector(state)])

    once, again, other = two_releases(KEY), two_releases(KEY), two_releases(OTHER_KEY)
    np.testing.assert_array_equal(once, again)
    assert (once[:20] != other[:20]).all()
    assert (once[:10] != once[10:20]).all()


@every_case
def test_details_are_plain_json_with_what_the_report_needs(name: str, sampler: str) -> None:
    plan = make_plan(name, SAMPLINGS[sampler])
    assert plan.mechanism == name
    assert json.loads(json.dumps(plan.details, allow_nan=False)) == plan.details
    needed = {"clip_norm", "noise_multiplier", "noise_stddev_of_sum", "parameters", "references"}
    assert set(plan.details) >= needed
    # A paper with its year.
    assert plan.details["references"]
    assert all(" 20" in reference for reference in plan.details["references"])
    assert "-7" not in repr(plan) and str(KEY) not in repr(plan)


@every_mechanism
def test_it_is_one_of_the_files(name: str) -> None:
    """Its `Config` without a value that it has no default for cannot be made by accident."""
    module = registry.load(name)
    assert module.__name__.endswith(f".{name}")
    if name != "none":
        with pytest.raises(TypeError):
            module.Config()
