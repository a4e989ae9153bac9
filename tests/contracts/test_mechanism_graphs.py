"""What every mechanism must hold to: it runs as a graph and in a TFF computation."""

from typing import Any

import dp_accounting
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fl_research.privacy.events import events_agree
from tests.contracts.mechanism_cases import (
    UPDATE,
    client,
    every_mechanism,
    in_plain_numbers,
    plan_of,
    release,
    vector,
)

CLIENTS = [client(seed, norm=seed + 0.1) for seed in range(4)]


@every_mechanism
def test_it_runs_as_a_graph(name: str) -> None:
    """Three releases in one `tf.function` equal the eager ones; tolerance 1e-6 relative."""
    query = plan_of(name).query(UPDATE)

    def three_releases() -> Any:
        state, results, emitted = query.initial_global_state(), [], []
        for _ in range(3):
            result, state, event = release(query, state, CLIENTS)
            results.append(result)
            emitted += [
                getattr(part, "noise_multiplier", 0.0) for part in getattr(event, "events", [event])
            ]
        return results, state, emitted

    graph = vector(tf.function(three_releases)())
    np.testing.assert_allclose(graph, vector(three_releases()), rtol=1e-6, atol=1e-6)


@every_mechanism
def test_it_runs_in_a_tff_computation(name: str, tff_runtime: None) -> None:
    """In the worker: same numbers as here (1e-6), same bits when repeated, new noise each time."""
    plan = plan_of(name)
    query = plan.query(UPDATE)
    initialize = tff.tensorflow.computation(query.initial_global_state)
    state_type = initialize.type_signature.result

    @tff.tensorflow.computation(state_type)
    def next_release(state: Any) -> Any:
        result, new_state, event = release(query, state, CLIENTS)
        return result, new_state, event.to_named_tuple(), query.derive_metrics(state)

    assert next_release.type_signature.result[1].is_equivalent_to(state_type)
    first, state, event, metrics = next_release(initialize())
    again, _, _, _ = next_release(initialize())
    second, _, _, _ = next_release(state)
    np.testing.assert_array_equal(vector(first), vector(again))

    here_state = query.initial_global_state()
    here_metrics = query.derive_metrics(here_state)
    for there in (first, second):
        here, here_state, _ = release(query, here_state, CLIENTS)
        np.testing.assert_allclose(vector(there), vector(here), rtol=1e-6, atol=1e-6)
    assert list(metrics) == list(here_metrics)
    restored = in_plain_numbers(dp_accounting.DpEvent.from_named_tuple(event))
    expected = plan.expected_release_event or dp_accounting.NonPrivateDpEvent()
    assert events_agree(restored, expected, relative_tolerance=1e-6)
    if plan.noise_at == "server":
        assert (vector(first) != vector(second)).all()
