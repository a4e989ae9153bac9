"""What every mechanism must hold to: how far one client can move what gets noise."""

import collections
from typing import Any

import dp_accounting
import numpy as np
import pytest
import tensorflow as tf

from fl_research.learning.example_privacy import clipped_sum
from tests.contracts.mechanism_cases import (
    EXPECTED_COHORT,
    SAMPLINGS,
    UPDATE,
    client,
    covariance_of,
    every_correlated_case,
    every_private_case,
    make_plan,
    release,
    vector,
    whitened,
)

Relation = dp_accounting.NeighboringRelation
FIXED_SIZE_AT_SERVER = ("fixed_size", "server")


def distance(name: str, moved: np.ndarray) -> float:
    """By the norm that the mechanism's noise is for."""
    return float(np.linalg.norm(moved.astype(np.float64), ord=1 if name == "laplace" else 2))


@every_private_case
def test_one_client_moves_the_sum_by_at_most_the_sensitivity(name: str, sampler: str) -> None:
    """A client of norm 1e6 comes; under replace-one it takes the place of its opposite.

    The noise is on, and the same on both sides. Tolerance 1e-5 relative, for float32. Where every
    record is a client's own affair, it is one record of norm 1e6 in a step of that client.
    """
    plan = make_plan(name, SAMPLINGS[sampler])
    others = [client(seed) for seed in range(6)]
    giant = client(99, norm=1e6)
    if plan.noise_at == "examples":
        moved = _moved_by_a_record(plan.example_privacy.clip_norm, others, giant)
    else:
        query = plan.query(UPDATE)
        opposite = tf.nest.map_structure(np.negative, giant) | {"seed": giant["seed"]}
        replaced = plan.neighboring_relation is Relation.REPLACE_ONE
        state = query.initial_global_state()
        with_giant, _, _ = release(query, state, [*others, giant])
        without, _, _ = release(query, state, [*others, opposite] if replaced else others)
        moved = (vector(with_giant) - vector(without)) * EXPECTED_COHORT
    assert distance(name, moved) <= plan.sensitivity * (1 + 1e-5)
    assert distance(name, moved) >= plan.sensitivity * (1 - 1e-5)  # no larger than it must be


def _moved_by_a_record(clip_norm: float, others: list[Any], giant: Any) -> np.ndarray:
    """What one record moves the clipped sum of a step by."""

    def summed(records: list[Any]) -> np.ndarray:
        updates = [record["update"] for record in records]
        stacked = {key: tf.stack([u[key] for u in updates]) for key in updates[0]}
        return vector(clipped_sum(collections.OrderedDict(stacked), clip_norm))

    return summed([*others, giant]) - summed(others)


@every_correlated_case
def test_over_all_rounds_one_client_moves_the_noised_sums_by_what_is_accounted(
    name: str, sampler: str
) -> None:
    """A giant comes as often, and as early, as the sampler lets it; its whitened moves add up.

    Never to more than is accounted; and, but for the tree, whose estimates show less than its
    nodes, to all of it. Tolerance 1e-5 relative.
    """
    plan = make_plan(name, SAMPLINGS[sampler])
    query, rounds = plan.query(UPDATE), plan.rule.rounds
    giant = client(99, norm=1e6)
    turns = plan.sampling.most_participations(rounds)
    rounds_of_giant = [turn * plan.sampling.separation for turn in range(turns)]

    def sums(comes: bool) -> np.ndarray:
        state, results = query.initial_global_state(), []
        for number in range(rounds):
            cohort = [client(number)] + [giant] * (comes and number in rounds_of_giant)
            result, state, _ = release(query, state, cohort)
            results.append(vector(result).astype(np.float64) * EXPECTED_COHORT)
        return np.stack(results)

    moved = (sums(True) - sums(False)) / plan.details["clip_norm"]
    squared = float(np.sum(whitened(moved, covariance_of(plan, rounds)) ** 2))
    accounted = plan.rule.squared_sensitivity(rounds, plan.sampling)
    assert squared <= accounted * (1 + 1e-5)
    if name != "tree_aggregation":
        assert squared >= accounted * (1 - 1e-5)


@every_private_case
def test_the_declared_sensitivity_follows_the_relation(name: str, sampler: str) -> None:
    """Two clips where a client is replaced, one where it comes, goes or is taken out."""
    plan = make_plan(name, SAMPLINGS[sampler], clip_norm=0.7)
    two = plan.neighboring_relation is Relation.REPLACE_ONE
    assert two == (plan.noise_at == "clients" or (sampler, plan.noise_at) == FIXED_SIZE_AT_SERVER)
    assert plan.sensitivity == pytest.approx(1.4 if two else 0.7)
