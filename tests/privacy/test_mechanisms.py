"""What is particular to each mechanism: its settings, its arithmetic, its agreement with TFP."""

import collections
import math
import subprocess
import sys
from typing import Any

import dp_accounting
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_privacy as tfp
from scipy import stats

from fl_research.data.client_sampling import (
    ClientSampling,
    FixedSizeSampling,
    PoissonSampling,
)
from fl_research.errors import InputError
from fl_research.privacy import accounting
from fl_research.privacy.composition import sampled_event
from fl_research.privacy.mechanisms import adaptive_gaussian, gaussian, none, registry
from fl_research.privacy.noise_self_test import noise_self_test
from fl_research.privacy.noise_split import split_noise
from fl_research.privacy.plan import PlanSetting, PrivacyPlan

POISSON = PoissonSampling(population=1000, sampling_rate=0.05)  # 50 clients expected
SPECS = [tf.TensorSpec([1], tf.float32)]  # The noise of these mechanisms keeps no state.


def setting(sampling: ClientSampling = POISSON, weighting: str = "uniform") -> PlanSetting:
    return PlanSetting(sampling=sampling, noise_key=(11, 12), weighting=weighting)


def record(update: list[Any], weight: float = 1.0) -> collections.OrderedDict:
    tensors = [tf.constant(tensor, tf.float32) for tensor in update]
    return collections.OrderedDict(update=tensors, weight=tf.constant(weight))


def accumulate(query: Any, state: Any, records: list[Any], template: Any) -> Any:
    params = query.derive_sample_params(state)
    sample_state = query.initial_sample_state(template)
    for one in records:
        sample_state = query.accumulate_record(params, sample_state, one)
    return sample_state


def release(query: Any, state: Any, records: list[Any], template: Any) -> tuple[Any, Any, Any]:
    return query.get_noised_result(accumulate(query, state, records, template), state)


def cohort_of_norms(norms: np.ndarray, seed: int = 0) -> list[Any]:
    """Records in random directions, of two tensors, with the given norms."""
    directions = np.random.default_rng(seed).standard_normal((len(norms), 8))
    updates = directions * (norms / np.linalg.norm(directions, axis=1))[:, None]
    return [record([row[:6].reshape(3, 2), row[6:]]) for row in updates]


# --- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "wrong", "named"),
    [
        (gaussian, {"clip_norm": 0.0}, "clip_norm=0.0"),
        (gaussian, {"clip_norm": -1.0}, "clip_norm=-1.0"),
        (gaussian, {"clip_norm": math.nan}, "clip_norm=nan"),
        (gaussian, {"clip_norm": math.inf}, "clip_norm=inf"),
        (gaussian, {"clip_norm": "1"}, "clip_norm='1'"),
        (gaussian, {"noise_multiplier": -0.1}, "noise_multiplier=-0.1"),
        (gaussian, {"noise_multiplier": math.nan}, "noise_multiplier=nan"),
        (adaptive_gaussian, {"clip_norm": 0}, "clip_norm=0"),
        (adaptive_gaussian, {"noise_multiplier": math.inf}, "noise_multiplier=inf"),
        (adaptive_gaussian, {"target_quantile": 1.1}, "target_quantile=1.1"),
        (adaptive_gaussian, {"target_quantile": -0.1}, "target_quantile=-0.1"),
        (adaptive_gaussian, {"clip_learning_rate": -0.2}, "clip_learning_rate=-0.2"),
        (adaptive_gaussian, {"clipped_count_stddev": -1.0}, "clipped_count_stddev=-1.0"),
        (adaptive_gaussian, {"clipped_count_stddev": 0.0}, "more than 0.5"),
        (adaptive_gaussian, {"clipped_count_stddev": 0.5}, "more than 0.5"),
        (
            adaptive_gaussian,
            {"noise_multiplier": 0.0, "clipped_count_stddev": 1.0},
            "does not go with noise_multiplier=0",
        ),
    ],
)
def test_a_config_that_exists_is_valid(kind: Any, wrong: dict[str, Any], named: str) -> None:
    good = {"clip_norm": 1.0, "noise_multiplier": 1.0}
    kind.Config(**good)
    with pytest.raises(InputError, match=named) as raised:
        kind.Config(**{**good, **wrong})
    assert "\n" not in str(raised.value)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(InputError, match="weighting='squares'.*uniform, examples"):
        setting(weighting="squares")
    with pytest.raises(
        InputError, match="mechanism='gausian'.*adaptive_gaussian, .*gaussian, .*none"
    ):
        registry.load("gausian")
    config = gaussian.Config(clip_norm=1.0, noise_multiplier=1.0)
    with pytest.raises(InputError, match="weighting='examples' does not go with .*'gaussian'"):
        gaussian.make_plan(config, setting(weighting="examples"))


def test_names_and_configs_come_without_tensorflow() -> None:
    """A program's `--help` lists mechanisms and their settings; it has two seconds."""
    code = (
        "import sys\n"
        "from fl_research.privacy.mechanisms import registry\n"
        "assert {'none', 'gaussian', 'adaptive_gaussian'} <= set(registry.names())\n"
        "for name in registry.names(): registry.load(name).Config\n"
        "print([m for m in ('tensorflow', 'tensorflow_privacy', 'scipy') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


# --- none --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weighting", "expected"), [("uniform", [3.0, -1.0]), ("examples", [4.0, -2.5])]
)
def test_none_is_the_mean_by_clients_or_by_examples(weighting: str, expected: list[float]) -> None:
    plan = none.make_plan(none.Config(), setting(weighting=weighting))
    records = [record([[1.0, 2.0]], weight=1.0), record([[5.0, -4.0]], weight=3.0)]
    state = plan.query(SPECS).initial_global_state()
    mean, _, event = release(plan.query(SPECS), state, records, records[0])
    np.testing.assert_allclose(mean[0], expected, rtol=1e-6)
    assert event == dp_accounting.NonPrivateDpEvent()
    assert noise_self_test(plan) is None


# --- gaussian and adaptive_gaussian against tensorflow_privacy ----------------------------------


def plain_gaussian(clip_norm: float, cohort: float) -> Any:
    inner = tfp.GaussianSumQuery(l2_norm_clip=clip_norm, stddev=0.0)
    return tfp.NormalizedQuery(inner, denominator=cohort)


def plain_adaptive(clip_norm: float, cohort: float) -> Any:
    inner = tfp.QuantileAdaptiveClipSumQuery(
        initial_l2_norm_clip=clip_norm,
        noise_multiplier=0.0,
        target_unclipped_quantile=0.5,
        learning_rate=0.2,
        clipped_count_stddev=0.0,
        expected_num_records=cohort,
        geometric_update=True,
    )
    return tfp.NormalizedQuery(inner, denominator=cohort)


@pytest.mark.parametrize(
    ("kind", "plain"), [(gaussian, plain_gaussian), (adaptive_gaussian, plain_adaptive)]
)
def test_without_noise_equals_tensorflow_privacy_to_the_bit(kind: Any, plain: Any) -> None:
    config = kind.Config(clip_norm=1.3, noise_multiplier=0.0)
    query = kind.make_plan(config, setting()).query(SPECS)
    other = plain(1.3, POISSON.expected_cohort_size)
    state, other_state = query.initial_global_state(), other.initial_global_state()
    for round_number in range(4):
        norms = np.random.default_rng(round_number).uniform(0.2, 4.0, size=50)
        records = cohort_of_norms(norms, seed=round_number)
        updates = [one["update"] for one in records]
        result, state, _ = release(query, state, records, records[0])
        expected, other_state, _ = release(other, other_state, updates, updates[0])
        for tensor, wanted in zip(result, expected, strict=True):
            np.testing.assert_array_equal(tensor, wanted)
        for leaf, wanted in zip(
            tf.nest.flatten(state.inner), tf.nest.flatten(other_state), strict=True
        ):
            np.testing.assert_array_equal(leaf, wanted)


@pytest.mark.parametrize("kind", [gaussian, adaptive_gaussian])
@pytest.mark.parametrize("size", [1e14, 4.4e18, 1e21, 1e25, 8e37])
def test_a_finite_update_whose_norm_overflows_is_clipped_like_any_other(
    kind: Any, size: float
) -> None:
    """TFP alone turns the model to NaN here: the float32 norm of 1e25 is infinite.

    So is that of 2.2e19, of whose square half is still a float32.
    """
    query = kind.make_plan(kind.Config(clip_norm=2.0, noise_multiplier=0.0), setting()).query(SPECS)
    huge = record([[[3 * size, 0.0], [0.0, 0.0], [0.0, 0.0]], [-4 * size, 0.0]])
    result, _, _ = release(query, query.initial_global_state(), [huge], huge)
    total = [tensor.numpy() * POISSON.expected_cohort_size for tensor in result]
    np.testing.assert_allclose(total[0][0], [1.2, 0.0], rtol=1e-5)
    np.testing.assert_allclose(total[1], [-1.6, 0.0], rtol=1e-5)


# --- adaptive_gaussian -------------------------------------------------------------------------


@pytest.mark.parametrize("stddev", [None, 1.0])
@pytest.mark.parametrize("total", [0.3, 1.1, 1.9])
def test_update_and_count_together_cost_the_total(total: float, stddev: float | None) -> None:
    config = adaptive_gaussian.Config(
        clip_norm=1.0, noise_multiplier=total, clipped_count_stddev=stddev
    )
    split = split_noise(
        config.noise_multiplier, config.clipped_count_stddev, POISSON.expected_cohort_size
    )
    assert split.clipped_count_stddev == (2.5 if stddev is None else stddev)
    assert split.count_noise_multiplier == 2 * split.clipped_count_stddev
    both = split.value_noise_multiplier**-2 + split.count_noise_multiplier**-2
    assert both**-0.5 == pytest.approx(total, rel=1e-12)
    # And the accountant agrees that the two cost what the total costs, sampled or not.
    plan = adaptive_gaussian.make_plan(config, setting())
    assert plan.expected_release_event is not None
    epsilons = []
    for event in (plan.expected_release_event, dp_accounting.GaussianDpEvent(total)):
        sampled = sampled_event(event, POISSON)
        by_accountant = accounting.epsilon_by_accountant(sampled, 1e-5, plan.neighboring_relation)
        epsilons.append((by_accountant["rdp"], by_accountant["pld"]))
    assert epsilons[0] == pytest.approx(epsilons[1], rel=1e-6)


def test_too_few_clients_for_the_count_says_what_is_possible() -> None:
    config = adaptive_gaussian.Config(clip_norm=1.0, noise_multiplier=5.0)
    with pytest.raises(InputError) as raised:
        adaptive_gaussian.make_plan(config, setting())
    assert "below 5, more than 50 clients a round, or a clipped_count_stddev above 2.5" in str(
        raised.value
    )
    more = PoissonSampling(population=1000, sampling_rate=0.051)
    adaptive_gaussian.make_plan(config, setting(more))


def adaptive_plan(**values: Any) -> PrivacyPlan:
    config = adaptive_gaussian.Config(**{"clip_norm": 1.0, "noise_multiplier": 1.0, **values})
    return adaptive_gaussian.make_plan(config, setting())


def test_the_count_gets_its_declared_noise() -> None:
    """Read back from the steps of the clip norm over 2,000 empty cohorts.

    Chi-square at a false-alarm probability of 1e-6; mean and correlation with the update's noise
    at 6e-10 each. The clip norm's float32 steps blur a count by 2e-5 of its standard deviation.
    """
    rounds = 2000
    plan = adaptive_plan()
    query = plan.query(SPECS)

    @tf.function
    def run() -> tuple[Any, Any]:
        state = query.initial_global_state()
        clip_norms = tf.TensorArray(tf.float32, rounds)
        updates = tf.TensorArray(tf.float32, rounds)
        for index in tf.range(rounds):
            clip_norms = clip_norms.write(index, query.derive_metrics(state)["clip_norm"])
            empty = query.initial_sample_state(record([[0.0]]))
            result, state, _ = query.get_noised_result(empty, state)
            updates = updates.write(index, result[0][0])
        return clip_norms.stack(), updates.stack()

    clip_norms, updates = (tensor.numpy().astype(np.float64) for tensor in run())
    assert np.abs(np.diff(np.log(clip_norms))).max() < 0.2 * 0.5  # never cut off at 0 or 1
    counts = -np.diff(np.log(clip_norms)) / 0.2 * POISSON.expected_cohort_size
    standard = counts / plan.details["parameters"]["clipped_count_stddev"]
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], standard.size)
    assert low < np.sum(standard**2) < high
    assert abs(standard.mean()) < 6.2 / math.sqrt(standard.size)
    value = (updates / clip_norms)[:-1]
    assert abs(np.corrcoef(standard, value)[0, 1]) < 6.2 / math.sqrt(standard.size)


@pytest.mark.parametrize(("quantile", "start"), [(0.5, 0.01), (0.5, 50.0), (0.8, 1.0)])
def test_without_noise_the_clip_norm_goes_to_the_quantile(quantile: float, start: float) -> None:
    plan = adaptive_plan(
        noise_multiplier=0.0, clip_norm=start, target_quantile=quantile, clip_learning_rate=0.2
    )
    norms = np.exp(np.random.default_rng(3).normal(size=50)).astype(np.float32)
    records = tf.constant(norms[:, None])
    query = plan.query(SPECS)

    @tf.function
    def run() -> Any:
        state = query.initial_global_state()
        for _ in tf.range(150):
            params = query.derive_sample_params(state)
            sample_state = query.initial_sample_state(record([[0.0]]))
            for row in records:
                one = collections.OrderedDict(update=[row], weight=tf.constant(1.0))
                sample_state = query.accumulate_record(params, sample_state, one)
            _, state, _ = query.get_noised_result(sample_state, state)
        return query.derive_metrics(state)["clip_norm"]

    # Between the order statistics beside the quantile, plus one last step (2 %) either way.
    ordered = np.sort(norms)
    rank = int(quantile * norms.size)
    assert ordered[rank - 2] * 0.98 < float(run()) < ordered[rank + 1] * 1.02


@pytest.mark.parametrize(("norm", "added"), [(0.5, 0.5), (1e6, -0.5)])
def test_one_client_moves_the_count_by_half(norm: float, added: float) -> None:
    query = adaptive_plan().query(SPECS)
    (one,) = cohort_of_norms(np.array([norm]))
    sample_state = accumulate(query, query.initial_global_state(), [one], one)
    assert float(sample_state.quantile_estimator_state) == added


# --- sensitivity and the noise's self test -----------------------------------------------------


@pytest.mark.parametrize("kind", [gaussian, adaptive_gaussian])
def test_replacing_a_client_has_twice_the_sensitivity(kind: Any) -> None:
    config = kind.Config(clip_norm=1.5, noise_multiplier=1.0)
    fixed = FixedSizeSampling(population=1000, cohort_size=50)
    one = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    replace = dp_accounting.NeighboringRelation.REPLACE_ONE
    for sampling, relation, sensitivity in ((POISSON, one, 1.5), (fixed, replace, 3.0)):
        plan = kind.make_plan(config, setting(sampling))
        assert (plan.neighboring_relation, plan.sensitivity) == (relation, sensitivity)


@pytest.mark.parametrize("factor", [1.0, 0.95, 1.05])
def test_the_self_test_notices_five_percent(factor: float) -> None:
    """At 20,000 values a size that is 5 % off passes with a probability below 1e-6, the declared
    one fails with 1e-6; the key is fixed, so the outcome is, too.
    """
    config = gaussian.Config(clip_norm=0.7, noise_multiplier=1.2)
    plan = gaussian.make_plan(config, setting())
    plan.details["noise_stddev_of_sum"] *= factor
    found = noise_self_test(plan, noise_key=(5, 6))
    assert found is not None
    assert found["declared_stddev"] == pytest.approx(0.84 * factor)
    assert found["measured_stddev"] == pytest.approx(0.84, rel=0.03)
    assert (found["values"], found["false_alarm_probability"]) == (20_000, 1e-6)
    assert found["passed"] is (factor == 1.0)


def test_the_self_test_draws_a_key_of_its_own() -> None:
    plan = gaussian.make_plan(gaussian.Config(clip_norm=1.0, noise_multiplier=1.0), setting())
    first, second = noise_self_test(plan), noise_self_test(plan)
    assert first is not None and second is not None
    assert first["measured_stddev"] != second["measured_stddev"]
