"""Private metrics: the split of the budget, the noise, what one client can move, refusals."""

import collections
import math
from collections.abc import Sequence
from typing import Any

import dp_accounting
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from dp_accounting import rdp
from scipy import stats

from fl_research.data.client_sampling import (
    ClientSampling,
    FixedSizeSampling,
    FullParticipation,
    MinSeparationSampling,
    PoissonSampling,
)
from fl_research.errors import InputError
from fl_research.learning import client_loop, stacked_clients
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.learning.learning_process import release_event
from fl_research.learning.local_training import LocalTraining
from fl_research.privacy import accounting
from fl_research.privacy.events import effective_noise_multiplier, events_agree
from fl_research.privacy.keyed_noise import KeyedNoiseState
from fl_research.privacy.mechanisms import registry
from fl_research.privacy.noise_self_test import noise_self_test
from fl_research.privacy.plan import AccountingSetting, PlanSetting, PrivacyPlan
from fl_research.privacy.private_metrics import (
    PrivateMetrics,
    ReleasedMetrics,
    released_metrics,
    with_private_metrics,
)
from fl_research.privacy.private_metrics_query import PrivateMetricsQuery
from fl_research.privacy.spending import EVENT_TOLERANCE
from tests.learning import small_cohorts

SAMPLING = PoissonSampling(population=1000, sampling_rate=0.05)
SAMPLINGS = (
    SAMPLING,
    FixedSizeSampling(population=1000, cohort_size=50),
    FullParticipation(population=1000),
    MinSeparationSampling(population=1000, sampling_rate=0.05, min_separation=4),
)
SPECS = [tf.TensorSpec([3], tf.float32)]
BOUND = 2.0
MECHANISMS = ("gaussian", "adaptive_gaussian")
LOSSES = (0.0, 0.5, BOUND, 1e30, math.inf, -math.inf, -3.0, math.nan)


def bare_plan(mechanism: str, noise_multiplier: float) -> PrivacyPlan:
    module = registry.load(mechanism)
    config = module.Config(clip_norm=0.5, noise_multiplier=noise_multiplier)
    return module.make_plan(config, PlanSetting(sampling=SAMPLING, noise_key=(11, 12)))


def private_plan(mechanism: str = "gaussian", *, total: float = 1.3, **values: Any) -> PrivacyPlan:
    metrics = PrivateMetrics(**values)
    return with_private_metrics(bare_plan(mechanism, metrics.update_multiplier(total)), metrics)


def record(mean_loss: float, update: Sequence[float] = (0.1, -0.2, 0.05)) -> Any:
    return collections.OrderedDict(
        update=[tf.constant(update, tf.float32)],
        weight=tf.constant(1.0),
        seed=tf.constant([1, 2], tf.int64),
        mean_loss=tf.constant(mean_loss, tf.float32),
    )


def release(query: Any, records: Sequence[Any], state: Any = None) -> tuple[Any, Any, Any]:
    state = query.initial_global_state() if state is None else state
    params = query.derive_sample_params(state)
    template = {"update": SPECS}
    sums = query.initial_sample_state(template)
    for one in records:
        sums = query.accumulate_record(params, sums, one)
    return query.get_noised_result(sums, state)


def released(query: Any, losses: Sequence[float]) -> np.ndarray:
    """Sum of the losses, and number of clients, of a first release."""
    _, state, _ = release(query, [record(loss) for loss in losses])
    return np.asarray(state.released, np.float64)


# --- the budget --------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("share", [1e-3, 0.05, 0.5, 0.99])
def test_update_and_metrics_together_cost_the_total(mechanism: str, share: float) -> None:
    """By the sum of precisions, and by dp_accounting's Rényi accountant on the events as they are.

    The accountant knows nothing of the split: it composes one Gaussian after the other.
    """
    plan = private_plan(mechanism, total=0.4, share=share)
    event: Any = plan.expected_release_event
    assert effective_noise_multiplier(event) == pytest.approx(0.4, rel=1e-12)
    assert plan.details["noise_multiplier"] == pytest.approx(0.4, rel=1e-12)
    together, one = rdp.RdpAccountant(), rdp.RdpAccountant()
    together.compose(dp_accounting.SelfComposedDpEvent(event, 7))
    one.compose(dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(0.4), 7))
    assert together.get_epsilon(1e-5) == pytest.approx(one.get_epsilon(1e-5), rel=1e-9)
    of_metrics = event.events[-1].noise_multiplier
    assert of_metrics**-2 == pytest.approx(share * 0.4**-2, rel=1e-12)
    facts = plan.details["private_metrics"]
    assert facts["noise_multiplier"] == of_metrics
    assert facts["update_noise_multiplier"] ** -2 == pytest.approx((1 - share) * 0.4**-2)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_release_emits_the_expected_event_with_the_update_first(mechanism: str) -> None:
    plan = private_plan(mechanism)
    bare = bare_plan(mechanism, plan.details["private_metrics"]["update_noise_multiplier"])
    state = None
    for losses in ([], [0.5, 1.0]):
        _, state, emitted = release(plan.query(SPECS), [record(x) for x in losses], state)
        event = release_event({"release": {"event": emitted.to_named_tuple()}})
        assert events_agree(event, plan.expected_release_event, relative_tolerance=EVENT_TOLERANCE)
        _, _, of_update = release(bare.query(SPECS), [])
        first = of_update if mechanism == "gaussian" else of_update.events[0]
        multiplier = event.events[0].noise_multiplier
        assert multiplier == pytest.approx(float(first.noise_multiplier), rel=1e-7)
    declared = bare.details["noise_stddev_of_sum"]
    assert plan.details["noise_stddev_of_sum"] == pytest.approx(declared, rel=1e-9)
    found = noise_self_test(plan, noise_key=(3, 4))
    assert found is not None and found["passed"]


@pytest.mark.slow
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda sampling: sampling.name)
def test_a_calibrated_run_with_metrics_costs_the_target(sampling: ClientSampling) -> None:
    """Under each relation; the total is calibrated without metrics, epsilon is of both events."""
    rule = registry.load("gaussian").accounting_rule({}, AccountingSetting(sampling=sampling))
    total = accounting.calibrate_noise_multiplier(
        target_epsilon=2.0, delta=1e-5, sampling=sampling, rounds=5, rule=rule
    )
    event = private_plan(total=total).expected_release_event
    assert event is not None
    of_run = rule.planned_events(event, 5, sampling)
    relation, _ = rule.relation(sampling)
    claims = [
        accounting.claimed_epsilon(accounting.epsilon_by_accountant(one, 1e-5, relation)).epsilon
        for one in of_run
    ]
    assert 2.0 * (1 - 5e-3) < max(claims) <= 2.0


# --- the noise ---------------------------------------------------------------------------------


def test_noise_has_the_declared_scale_in_units_of_losses_and_clients() -> None:
    """20,000 releases of nobody: chi-square, correlations; false alarms below 1e-6 in all.

    Each of the two chi-square tests has 2e-7; each of the three correlations exceeds 5.6 standard
    errors with 2e-8.
    """
    plan = private_plan(share=0.2, loss_bound=3.0)
    query, releases = plan.query(SPECS), 20_000
    nothing = query.initial_sample_state({"update": SPECS})

    @tf.function(autograph=False)
    def many() -> Any:
        def one(number: Any, state: Any, kept: Any) -> Any:
            mean, state, _ = query.get_noised_result(nothing, state)
            row = tf.concat([state.released, mean[0][:1]], axis=0)
            return number + 1, state, kept.write(number, row)

        kept = tf.TensorArray(tf.float32, size=releases, element_shape=[3])
        start = (tf.constant(0), query.initial_global_state(), kept)
        return tf.while_loop(lambda number, *_: number < releases, one, start)[2].stack()

    noise = many().numpy().astype(np.float64)
    multiplier = 1.3 / math.sqrt(0.2)
    for column, stddev in enumerate([multiplier * math.sqrt(2) * 3.0, multiplier * math.sqrt(2)]):
        squares = np.sum((noise[:, column] / stddev) ** 2)
        low, high = stats.chi2.ppf(1e-7, releases), stats.chi2.isf(1e-7, releases)
        assert low < squares < high
    correlations = np.corrcoef(noise.T)[np.triu_indices(3, 1)]
    assert np.abs(correlations).max() < 5.6 / math.sqrt(releases)
    assert len(np.unique(noise[:, 0])) > releases * 0.99


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_metrics_change_no_bit_of_the_update(mechanism: str) -> None:
    """Result and state beside the metrics are those of the plan without them, for two releases."""
    plan = private_plan(mechanism)
    bare = bare_plan(mechanism, plan.details["private_metrics"]["update_noise_multiplier"])
    state: Any = None
    bare_state: Any = None
    for losses in ([0.3, math.nan, 1e9], []):
        records = [
            record(loss, [loss_number, 0.0, -1.0]) for loss_number, loss in enumerate(losses)
        ]
        mean, state, _ = release(plan.query(SPECS), records, state)
        bare_mean, bare_state, _ = release(bare.query(SPECS), records, bare_state)
        small_cohorts.assert_states_equal(mean, bare_mean)
        small_cohorts.assert_states_equal(state.inner, bare_state)
        assert isinstance(state.inner, KeyedNoiseState)
    assert int(state.release_index) == 2


def test_the_key_and_the_release_fix_the_noise() -> None:
    query = private_plan().query(SPECS)
    _, first, _ = release(query, [])
    _, second, _ = release(query, [], first)
    _, again, _ = release(query, [])
    np.testing.assert_array_equal(first.released, again.released)
    assert (np.asarray(first.released) != np.asarray(second.released)).all()
    other = private_plan().query_for((11, 13), SPECS)
    assert (released(other, []) != np.asarray(first.released)).all()


# --- what one client can move -------------------------------------------------------------------


@pytest.mark.parametrize("bound", [BOUND, 1e-30, 1e30])
@pytest.mark.parametrize("loss", LOSSES)
def test_one_client_moves_the_noised_vector_by_at_most_one(loss: float, bound: float) -> None:
    """Beside nobody and beside others, with the same noise; the vector in units of its noise.

    Tolerance 1e-5: the sums are of float32.
    """
    query = private_plan(loss_bound=bound).query(SPECS)
    params = query.derive_sample_params(query.initial_global_state())
    vector = np.asarray(query.preprocess_record(params, record(loss)).metrics, np.float64)
    assert np.linalg.norm(vector) <= 1 + 1e-7
    for others in ([], [0.3, 1.9, 0.7]):
        moved = released(query, [*others, loss]) - released(query, others)
        scaled = moved / np.array([bound, 1.0]) / math.sqrt(2)
        assert np.linalg.norm(scaled) <= 1 + 1e-5
        np.testing.assert_allclose(scaled, vector, atol=1e-5)


def test_the_sensitivity_is_used_up_and_replacing_moves_no_more() -> None:
    """A client with a loss of the bound is the worst; no two clients differ by more than it."""
    query = private_plan().query(SPECS)
    params = query.derive_sample_params(query.initial_global_state())
    vectors = [np.asarray(query.preprocess_record(params, record(x)).metrics) for x in LOSSES]
    norms = [float(np.linalg.norm(vector)) for vector in vectors]
    assert norms[LOSSES.index(BOUND)] == max(norms) == pytest.approx(1.0, abs=1e-6)
    assert max(float(np.linalg.norm(a - b)) for a in vectors for b in vectors) <= 1 + 1e-6


def test_losses_are_clipped_and_a_client_without_a_number_is_left_out() -> None:
    plan = private_plan()
    quiet = PrivateMetricsQuery(
        bare_plan("gaussian", 1.0).query(SPECS),
        loss_bound=BOUND,
        noise_multiplier=0.0,
        noise_key=(11, 12),
    )
    np.testing.assert_allclose(released(quiet, LOSSES), [2 * 3 + 0.5, 7], rtol=1e-6)
    np.testing.assert_array_equal(released(quiet, []), [0, 0])
    _, state, _ = release(quiet, [record(0.5), record(1.0)])
    found = released_metrics(plan, state)
    assert found is not None and found.mean_loss == pytest.approx(0.75, rel=1e-6)
    wrapped = KeyedNoiseState(inner=state, release_index=0, streams=())
    assert released_metrics(plan, wrapped) == found
    assert released_metrics(bare_plan("gaussian", 1.0), state) is None
    assert ReleasedMetrics(loss_sum=-3.0, clients=-8.0).mean_loss == -3.0
    with pytest.raises(KeyError, match="mean_loss"):
        release(quiet, [{"update": [tf.zeros([3])]}])


def _block_sums(update: Any, chosen: Sequence[int], data: Any, **settings: Any) -> tuple[Any, Any]:
    """The metrics that a block hands to the query, and its exact ones."""
    model = small_cohorts.model("logistic_regression")
    training = LocalTraining(
        model=model,
        optimizer=small_cohorts.optimizer("sgd", 0.3),
        config=ClientUpdateConfig(batch_size=4, local_epochs=2),
    )
    weights = tff.learning.models.ModelWeights(*model.initial_weights)
    weights = tf.nest.map_structure(tf.convert_to_tensor, weights)
    query = private_plan(loss_bound=0.7).query(weights.trainable)
    params = query.derive_sample_params(query.initial_global_state())
    block = small_cohorts.blocks(data, num_blocks=1, chosen=chosen)[0]
    block = tf.nest.map_structure(tf.convert_to_tensor, block)
    done = update(training, query, weights, params, block, **settings)
    return np.asarray(done["accumulated"].metrics, np.float64), done["metrics"]


def test_blocks_hand_in_the_mean_loss_of_each_client_that_counts() -> None:
    """In a loop and stacked; against the exact metrics of each client trained alone.

    Two local epochs; one client has no rows, one a NaN feature.
    """
    data, bad = small_cohorts.clients([5, 0, 9, 3, 1, 6]), 3
    data.features["inputs"][data.row_splits[bad] + 1, 2] = np.nan
    everybody = range(data.num_clients)
    expected = np.zeros(2)
    for client in everybody:
        exact = _block_sums(client_loop.block_update, [client], data)[1]
        if int(exact["examples"]):
            mean = float(exact["loss_sum"]) / int(exact["examples"])
            expected += [min(mean / 0.7, 1.0), 1.0]
    assert expected[1] == data.num_clients - 2 > expected[0] > 1.5
    in_loop, _ = _block_sums(client_loop.block_update, everybody, data)
    stacked, _ = _block_sums(stacked_clients.block_update, everybody, data, clients_at_once=3)
    np.testing.assert_allclose(in_loop, expected / math.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(stacked, expected / math.sqrt(2), rtol=1e-5)


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"share": 0.0}, "private_metrics_share=0.0"),
        ({"share": 1.0}, "private_metrics_share=1.0"),
        ({"share": math.nan}, "private_metrics_share=nan"),
        ({"share": True}, "private_metrics_share=True"),
        ({"loss_bound": 0.0}, "private_metrics_loss_bound=0.0"),
        ({"loss_bound": math.inf}, "private_metrics_loss_bound=inf"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        PrivateMetrics(**values)


def test_plans_without_gaussian_noise_to_share_are_refused() -> None:
    laplace = registry.load("laplace")
    setting = PlanSetting(sampling=SAMPLING, noise_key=(1, 2))
    plan = laplace.make_plan(laplace.Config(clip_norm=1.0, noise_multiplier=1.0), setting)
    with pytest.raises(InputError, match="mechanism=laplace.*use gaussian or adaptive_gaussian"):
        with_private_metrics(plan, PrivateMetrics())
    none = registry.load("none")
    with pytest.raises(InputError, match="mechanism=none, which has no noise"):
        with_private_metrics(none.make_plan(none.Config(), setting), PrivateMetrics())
    with pytest.raises(InputError, match="noise_multiplier=0 does not go with private_metrics"):
        with_private_metrics(bare_plan("gaussian", 0.0), PrivateMetrics())
    with pytest.raises(InputError, match="noise_multiplier=0 does not go with private_metrics"):
        PrivateMetrics().update_multiplier(0.0)
