"""Tree aggregation whose clip moves at restarts: its arithmetic, its noise, its refusals."""

import collections
import math
from typing import Any

import dp_accounting
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from fl_research.data.client_sampling import MinSeparationSampling
from fl_research.errors import InputError
from fl_research.privacy.events import effective_noise_multiplier
from fl_research.privacy.mechanisms import tree_aggregation
from fl_research.privacy.noise_self_test import noise_self_test
from fl_research.privacy.plan import PlanSetting, PrivacyPlan

SAMPLING = MinSeparationSampling(population=40, sampling_rate=0.25, min_separation=4)  # 10 clients
SPECS = [tf.TensorSpec([3], tf.float32)]


def plan(noise_multiplier: float = 0.0, **config: Any) -> PrivacyPlan:
    settings: dict[str, Any] = {"restart_every": 3, "target_quantile": 0.5} | config
    return tree_aggregation.make_plan(
        tree_aggregation.Config(clip_norm=2.0, noise_multiplier=noise_multiplier, **settings),
        PlanSetting(sampling=SAMPLING, rounds=9, noise_key=(3, 4)),
    )


def record(norm: float) -> collections.OrderedDict:
    return collections.OrderedDict(
        update=[tf.constant([norm, 0.0, 0.0])], weight=tf.constant(1.0), seed=tf.zeros(2, tf.int64)
    )


def clips(query: Any, norms: list[float], rounds: int) -> list[float]:
    """The clip norm of each round, and after the last, when the same clients always come."""
    state = query.initial_global_state()
    found = []
    for _ in range(rounds):
        params = query.derive_sample_params(state)
        found.append(float(query.derive_metrics(state)["clip_norm"]))
        sums = query.initial_sample_state(record(0.0))
        for norm in norms:
            sums = query.accumulate_record(params, sums, record(norm))
        result, state, _ = query.get_noised_result(sums, state)
        clipped = sum(min(norm, found[-1]) for norm in norms)
        np.testing.assert_allclose(result[0][0], clipped / 10, rtol=1e-5)
    return [*found, float(query.derive_metrics(state)["clip_norm"])]


def test_the_clip_moves_at_restarts_alone_and_towards_the_quantile() -> None:
    """All ten within the clip: b = 1, and the clip falls by the factor exp(-0.5) a tree."""
    found = clips(plan().query(SPECS), [0.5] * 10, rounds=7)
    expected = [2.0] * 3 + [2.0 * math.exp(-0.5)] * 3 + [2.0 * math.exp(-1.0)] * 2
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_whoever_did_not_come_counts_as_half() -> None:
    """The count is divided by the expected cohort: of 10 expected, 4 came and were clipped."""
    found = clips(plan().query(SPECS), [9.0] * 4, rounds=4)
    assert found[3] == pytest.approx(2.0 * math.exp(-(0.5 - 4 * 0.5 / 10 - 0.5)), rel=1e-6)


def test_update_and_count_together_cost_the_noise_multiplier() -> None:
    made = plan(noise_multiplier=0.4)
    assert isinstance(made.expected_release_event, dp_accounting.ComposedDpEvent)
    assert effective_noise_multiplier(made.expected_release_event) == pytest.approx(0.4)
    state = made.query(SPECS).initial_global_state()
    query = made.query(SPECS)
    _, _, event = query.get_noised_result(query.initial_sample_state(record(0.0)), state)
    emitted = [float(part.noise_multiplier) for part in event.events]
    wanted = [part.noise_multiplier for part in made.expected_release_event.events]
    assert emitted == pytest.approx(wanted, rel=1e-6)
    test = noise_self_test(made, noise_key=(9, 9))
    assert test is not None and test["passed"]


def test_the_noise_of_the_count_is_that_of_a_tree() -> None:
    """The sum of a tree's noised counts moves the clip: one node of two rounds, and a leaf.

    Over 400 keys the logarithm of the clip's factor has the standard deviation of the prefix's
    noise / (expected cohort x rounds): chi-square at a false-alarm probability of 1e-6.
    """
    made = plan(noise_multiplier=0.4, clipped_count_stddev=0.5)
    factors = []
    for key in range(400):
        query = made.query_for((key, 1), SPECS)
        state = query.initial_global_state()
        for _ in range(3):
            sums = query.initial_sample_state(record(0.0))
            _, state, _ = query.get_noised_result(sums, state)
        factors.append(float(query.derive_metrics(state)["clip_norm"]) / 2.0)
    # Nobody came: the fraction is 1/2 + noise / 30; the tree's prefix of three rounds is a node of
    # two rounds, whose estimate has variance 2/3, and a leaf.
    stddev = 0.5 * math.sqrt(2 / 3 + 1) / 30
    statistic = float(np.sum((np.log(factors) / stddev) ** 2))
    assert stats.chi2.ppf(5e-7, 400) < statistic < stats.chi2.isf(5e-7, 400)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"restart_every": None}, "target_quantile=0.5 needs restart_every"),
        ({"target_quantile": 1.5}, "target_quantile=1.5 is not possible"),
        ({"clip_learning_rate": -1.0}, "clip_learning_rate=-1.0"),
        ({"restart_every": 0}, "restart_every=0"),
    ],
)
def test_wrong_settings_are_named(config: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        plan(**config)
