"""A computation taken apart: what goes to the workers, what stays, what cannot be split."""

from typing import Any

import numpy as np
import pytest

from tests.learning import small_cohorts

pytestmark = pytest.mark.usefixtures("tff_runtime")

NOISE_KEY = (1, 2)  # of `small_cohorts.query`


def _round() -> Any:
    """One round with noise, an adaptive clip and a server optimizer that has a state."""
    query = small_cohorts.query(
        "adaptive_gaussian", population=100, clip_norm=1.0, noise_multiplier=0.5
    )
    return small_cohorts.process(
        small_cohorts.model("mlp"), query, server_optimizer=small_cohorts.optimizer("adam", 0.1)
    )


def _bytes(computation: Any) -> bytes:
    """A computation as it would be sent."""
    return computation.to_building_block().proto.SerializeToString()


def test_a_round_keeps_noise_and_server_state_on_this_side() -> None:
    from fl_research.learning.keyed_values import noise_root
    from fl_research.runtime.split_computation import split

    process = _round()
    parts = split(process.next)
    root = noise_root(NOISE_KEY).tobytes()
    assert root in _bytes(parts.after.computation), "the noise is drawn here"
    assert root not in _bytes(parts.work.computation)
    assert root not in _bytes(parts.before.computation)
    state, cohort = parts.arguments
    assert state not in parts.work.inputs and state in parts.after.inputs
    assert cohort in parts.work.inputs and cohort not in parts.after.inputs + parts.before.inputs
    sent, taken = parts.before.computation.type_signature.result, process.next.type_signature
    weights = taken.parameter["state"].member["global_model_weights"]
    assert sent[0].member["weights"].is_equivalent_to(weights)
    assert len(sent[0].member) == 2 and "sample_params" in dir(sent[0].member)
    assert parts.after.computation.type_signature.result == taken.result


def test_an_evaluation_returns_the_clients_values_as_well() -> None:
    import tensorflow_federated as tff

    from fl_research.learning.evaluation import build_evaluation
    from fl_research.runtime.split_computation import split

    parts = split(build_evaluation(small_cohorts.model("mlp"), small_cohorts.OBJECTIVE))
    assert parts.before is None
    assert parts.work.inputs == parts.arguments
    assert all(
        of_type.placement is tff.CLIENTS for of_type in parts.work.computation.type_signature.result
    )


def test_what_is_not_server_clients_server_is_refused() -> None:
    import tensorflow_federated as tff

    from fl_research.runtime.split_computation import CannotSplitError, split

    add = tff.tensorflow.computation(lambda a, b: a + b, (np.int32, np.int32))
    at_server = tff.FederatedType(np.int32, tff.SERVER)
    at_clients = tff.FederatedType(np.int32, tff.CLIENTS)

    @tff.federated_computation(at_server, at_clients)
    def twice(value: Any, clients: Any) -> Any:
        first = tff.federated_sum(tff.federated_map(add, (tff.federated_broadcast(value), clients)))
        return tff.federated_sum(tff.federated_map(add, (tff.federated_broadcast(first), clients)))

    @tff.federated_computation(at_server, at_clients)
    def only_a_sum(value: Any, clients: Any) -> Any:
        return value, tff.federated_sum(clients)

    for computation in (twice, only_a_sum, add):
        with pytest.raises(CannotSplitError):
            split(computation)
