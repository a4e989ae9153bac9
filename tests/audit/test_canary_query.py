"""The canary query: what it adds, when, and that nothing else changes."""

import collections
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fl_research.audit.canary_query import (
    CanaryQuery,
    canary_directions,
    canary_record,
    dimension_of,
)
from fl_research.audit.run_audit import Canaries
from fl_research.data.client_sampling import FullParticipation
from fl_research.privacy.mechanisms import registry
from fl_research.privacy.plan import PlanSetting, PrivacyPlan

KEY = (3, -4)
SPECS = [tf.TensorSpec([3, 2], tf.float32), tf.TensorSpec([4], tf.float32)]
TABLE = np.array([[True, False, True], [False, False, False], [True, True, True]])
CONFIGS: dict[str, dict[str, float]] = {
    "gaussian": {"clip_norm": 0.7, "noise_multiplier": 1.0},
    "adaptive_gaussian": {"clip_norm": 0.7, "noise_multiplier": 1.0},
    "laplace": {"clip_norm": 0.7, "noise_multiplier": 1.0},
    "local_gaussian": {"clip_norm": 0.7, "noise_multiplier": 1.0},
    "tree_aggregation": {"clip_norm": 0.7, "noise_multiplier": 1.0},
    "none": {},
}


def _plan(mechanism: str, **changed: float) -> PrivacyPlan:
    """A plan for three rounds of forty clients."""
    module = registry.load(mechanism)
    setting = PlanSetting(sampling=FullParticipation(population=40), rounds=3, noise_key=(1, 2))
    return module.make_plan(module.Config(**(CONFIGS[mechanism] | changed)), setting)


def _template() -> collections.OrderedDict:
    """Specs of a record."""
    return collections.OrderedDict(
        update=SPECS, weight=tf.TensorSpec([], tf.float32), seed=tf.TensorSpec([2], tf.int64)
    )


def _canaries(*, clipped: bool) -> Canaries:
    """Three canaries over three rounds; nobody comes in the second."""
    return Canaries(key=KEY, participations=TABLE, clipped=clipped)


def _as_graph(query: Any, state: Any) -> tuple[Any, Any]:
    """Result and next state of an empty cohort, computed as a graph as TFF does."""

    @tf.function(autograph=False)
    def release(state: Any) -> Any:
        """One release."""
        return query.get_noised_result(query.initial_sample_state(_template()), state)[:2]

    return release(state)


@pytest.mark.parametrize("mechanism", CONFIGS)
def test_canaries_are_records_like_any_other(mechanism: str) -> None:
    """Three releases equal those of the inner query with the same records added by hand."""
    plan = _plan(mechanism)
    inner = plan.query(SPECS)
    canaries = _canaries(clipped=mechanism != "none")
    query = CanaryQuery(inner, canaries=canaries, update_specs=SPECS)
    state, by_hand = query.initial_global_state(), inner.initial_global_state()
    for release in range(3):
        params = inner.derive_sample_params(by_hand)
        sums = tf.nest.map_structure(tf.convert_to_tensor, inner.initial_sample_state(_template()))
        for index in np.flatnonzero(TABLE[release]):
            record = canary_record(canaries, SPECS, release, int(index))
            sums = inner.accumulate_preprocessed_record(
                sums, inner.preprocess_record(params, record)
            )
        expected, by_hand, _ = inner.get_noised_result(sums, by_hand)
        found, state = _as_graph(query, state)
        for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        for one, other in zip(tf.nest.flatten(state.inner), tf.nest.flatten(by_hand), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert int(state.release_index) == 3


def test_event_and_metrics_are_the_inner_querys() -> None:
    """Canaries change nothing of what is said of the noise."""
    inner = _plan("adaptive_gaussian").query(SPECS)
    query = CanaryQuery(inner, canaries=_canaries(clipped=True), update_specs=SPECS)
    empty = query.initial_sample_state(_template())
    _, _, event = query.get_noised_result(empty, query.initial_global_state())
    _, _, expected = inner.get_noised_result(empty, inner.initial_global_state())
    one, other = (tf.nest.flatten(e.to_named_tuple()) for e in (event, expected))
    assert [np.asarray(x).item() for x in one] == [np.asarray(x).item() for x in other]
    found = query.derive_metrics(query.initial_global_state())
    declared = inner.derive_metrics(inner.initial_global_state())
    assert {k: float(v) for k, v in found.items()} == {k: float(v) for k, v in declared.items()}


@pytest.mark.parametrize("mechanism", ["gaussian", "adaptive_gaussian"])
def test_each_canary_has_exactly_the_clip_norm(mechanism: str) -> None:
    """Also where the clip is as large as 1e6; the direction stays."""
    inner = _plan(mechanism, clip_norm=1e6).query(SPECS)
    params = inner.derive_sample_params(inner.initial_global_state())
    direction = next(canary_directions(KEY, 2, dimension_of(SPECS)))[1]
    record = canary_record(_canaries(clipped=True), SPECS, 0, 1)
    clipped = tf.nest.flatten(inner.preprocess_record(params, record))[:2]
    flat = np.concatenate([np.ravel(t) for t in clipped]).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(flat), 1e6, rtol=1e-5)
    np.testing.assert_allclose(flat / 1e6, direction, rtol=1e-5, atol=1e-6)


def test_directions_are_functions_of_key_and_index() -> None:
    """Any chunking gives the same unit vectors; another key and another index give others."""
    at_once = np.concatenate(list(canary_directions(KEY, 7, 50)))
    in_parts = np.concatenate(list(canary_directions(KEY, 7, 50, rows_per_chunk=2)))
    np.testing.assert_array_equal(at_once, in_parts)
    np.testing.assert_allclose(np.linalg.norm(at_once, axis=1), 1.0, rtol=1e-5)
    other_key = np.concatenate(list(canary_directions((3, -5), 7, 50)))
    assert not np.isclose(at_once, other_key).any(axis=1).all()
    assert np.abs(at_once @ at_once.T - np.eye(7)).max() < 0.8


def test_directions_are_uniform_on_the_sphere() -> None:
    """Cosines with a fixed vector have the law sqrt(Beta(1/2, (d - 1)/2)) with a sign.

    Kolmogorov-Smirnov over 4,000 directions in 5 dimensions, with a fixed key; false alarm 1e-6.
    """
    from scipy import stats

    directions = np.concatenate(list(canary_directions(KEY, 4000, 5, rows_per_chunk=1000)))
    for vector in (np.array([1.0, 0, 0, 0, 0]), np.array([1.0, 1, -1, 1, -1]) / np.sqrt(5)):
        # (1 + cosine) / 2 follows Beta((d - 1)/2, (d - 1)/2).
        test = stats.kstest((1 + directions @ vector) / 2, stats.beta(2, 2).cdf)
        assert test.pvalue > 1e-6


def test_the_key_is_not_shown() -> None:
    """Neither by the canaries' text nor in the query's state."""
    canaries = _canaries(clipped=True)
    assert "key" not in repr(canaries)
    query = CanaryQuery(_plan("gaussian").query(SPECS), canaries=canaries, update_specs=SPECS)
    state = [np.asarray(leaf) for leaf in tf.nest.flatten(query.initial_global_state())]
    assert not any(np.isin(leaf, KEY).any() for leaf in state)
