"""Neighbouring cohorts through the whole aggregation, with the same randomness on both sides.

A real model is trained on each client of a block, the query clips and sums, and releases with
noise. All randomness follows from keys, so that two cohorts which differ in one client can be run
with the very same noise and orders of rows; what is left of the difference of their outputs is what
that client does. It may be no more than the sensitivity, whatever the client's data are, and nobody
else's contribution may change. Each release is made from the same state on both sides, as the
theory of adaptive composition has it: given all outputs before.
"""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fl_research.privacy.plan import PrivacyPlan
from tests.contracts.mechanism_cases import (
    ALLOWED,
    AT_SERVER,
    SAMPLINGS,
    covariance_of,
    make_plan,
    vector,
    whitened,
)
from tests.contracts.neighbouring_cohorts import (
    CLIP,
    OTHERS,
    RATE,
    STRANGE,
    Aggregation,
    Member,
    block,
    neighbours,
    rows,
)
from tests.learning.small_cohorts import NUM_INPUTS

# Each relation, and each way to train; a loop is slower to trace.
EXECUTIONS = {"poisson": "stacked", "fixed_size": "loop", "min_separation": "stacked"}


def cases() -> list[Any]:
    """One sampler of each mechanism, and the others where time does not matter."""
    found = []
    for name, sampler in ALLOWED:
        if sampler in EXECUTIONS and (name in AT_SERVER or name == "local_gaussian"):
            quick = sampler == "poisson" or name == "tree_aggregation"
            found.append(pytest.param(name, sampler, marks=[] if quick else [pytest.mark.slow]))
    return found


@pytest.mark.parametrize(("name", "sampler"), cases())
def test_one_client_does_no_more_than_the_sensitivity(name: str, sampler: str) -> None:
    """Every strange client, beside every cohort; tolerance 1e-5 of the clip norm, for float32."""
    plan = make_plan(name, SAMPLINGS[sampler], clip_norm=CLIP)
    run = Aggregation(plan, execution=EXECUTIONS[sampler], batch_size=4, local_epochs=2)
    for kind, data in STRANGE.items():
        if kind == "no_rows" and plan.noise_at == "clients":
            continue  # Who has no rows at all sends nothing, which is not protected.
        pair = neighbours(plan.neighboring_relation, data)
        for others in OTHERS.values():
            _check_neighbours(plan, run, others, pair)


def _check_neighbours(
    plan: PrivacyPlan, run: Aggregation, others: list[Member], pair: tuple[list[Member], ...]
) -> None:
    """Six rounds; the client comes in the first and the fifth, which its separation allows."""
    state, moved = run.query.initial_global_state(), []
    for number in range(1, 7):
        clip = float(run.query.derive_metrics(state)["clip_norm"])
        if number not in (1, 5):
            if plan.noise_covariance is not None:  # Others only where rounds hang together.
                moved.append(np.zeros_like(moved[0]))
                _, state = run.sums(state, [], number)
            continue
        (with_one, after), (without, other_after) = (
            run.sums(state, [*others, *members], number) for members in pair
        )
        assert np.isfinite(with_one).all() and np.isfinite(without).all()
        moved.append((with_one - without) / clip)
        _check_state(plan, after, other_after)
        if others:
            # The client does the same with nobody else there: nobody else's part has changed.
            alone, other_alone = (run.sums(state, members, number)[0] for members in pair)
            tolerance = 1e-5 * (clip + np.abs(with_one).max())
            np.testing.assert_allclose(with_one - without, alone - other_alone, atol=tolerance)
        state = after
    order = 1 if plan.mechanism == "laplace" else 2
    of_releases = [np.linalg.norm(values, ord=order) for values in moved]
    assert max(of_releases) <= plan.sensitivity / CLIP + 1e-4
    if plan.noise_covariance is not None:
        squared = np.sum(whitened(np.stack(moved), covariance_of(plan, 6)) ** 2)
        assert squared <= plan.rule.squared_sensitivity(6, plan.sampling) * (1 + 1e-4)


def _check_state(plan: PrivacyPlan, after: Any, after_neighbour: Any) -> None:
    """Nothing but a noised count may reach the state; it moves by 1/2 a clip norm's worth."""
    names = ("inner", "release_index", "streams")
    if not all(hasattr(after, name) for name in names):
        return
    for name in names[1:]:
        for one, other in zip(
            tf.nest.flatten(getattr(after, name)),
            tf.nest.flatten(getattr(after_neighbour, name)),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)
    inner, neighbour = vector(after.inner), vector(after_neighbour.inner)
    if plan.mechanism != "adaptive_gaussian":
        np.testing.assert_array_equal(inner, neighbour)
        return
    most = 0.2 * 0.5 * (plan.sensitivity / CLIP) / plan.sampling.expected_cohort_size
    changed = inner[inner != neighbour], neighbour[inner != neighbour]
    assert np.all(np.abs(np.log(changed[0] / changed[1])) <= most * (1 + 1e-4))


@pytest.mark.parametrize("sampler", ["poisson", "fixed_size", "min_separation"])
def test_one_record_does_no_more_than_the_sensitivity_at_its_clients_step(sampler: str) -> None:
    """DP-SGD at clients: a record against one that is no record, and against its opposite.

    One step on all rows, so that the rate is one; the client's update times rows over the learning
    rate is its noised sum. A record whose gradient is NaN counts as zero. Tolerance 1e-5.
    """
    plan = make_plan("client_dpsgd", SAMPLINGS[sampler], clip_norm=CLIP)
    run = Aggregation(plan, batch_size=32, local_steps=1)
    nothing = np.full([1, NUM_INPUTS], np.nan, np.float32)
    kept = rows(5, 1)
    scale = (len(kept) + 1) / RATE / CLIP

    def noised_sum(record: np.ndarray, others: list[Member]) -> np.ndarray:
        state = run.query.initial_global_state()
        mine = (9, np.concatenate([kept, record]))
        params = run.query.derive_sample_params(state)
        update_sum, weight = run.total(params, block([*others, mine], 1))
        assert weight == len(others) + 1
        return vector(update_sum).astype(np.float64) * scale

    for data in STRANGE.values():
        for record in (data[:1], -data[:1]):
            if not len(record):
                continue
            for others in (OTHERS["nobody"], OTHERS["three"]):
                moved = noised_sum(record, others) - noised_sum(nothing, others)
                assert np.isfinite(moved).all()
                assert np.linalg.norm(moved) <= 1 + 1e-4
                alone = noised_sum(record, []) - noised_sum(nothing, [])
                np.testing.assert_allclose(moved, alone, atol=2e-4)
    huge = STRANGE["one_huge_row"]
    assert np.linalg.norm(noised_sum(huge, []) - noised_sum(nothing, [])) > 1 - 1e-4


def test_the_strange_clients_are_what_they_are_said_to_be() -> None:
    """A giant is clipped to the norm, and one that is not finite, or has no rows, is nothing."""
    plan = make_plan("gaussian", SAMPLINGS["poisson"], clip_norm=CLIP, noise_multiplier=0.0)
    run = Aggregation(plan)
    state = run.query.initial_global_state()
    norms = {
        kind: np.linalg.norm(run.sums(state, [(9, data)], 1)[0]) / CLIP
        for kind, data in STRANGE.items()
    }
    for kind in ("ordinary", "one_row", "huge", "one_huge_row"):
        assert norms[kind] == pytest.approx(1.0, rel=1e-5), kind
    for kind in ("no_rows", "infinite", "nan"):
        assert norms[kind] == 0.0, kind
