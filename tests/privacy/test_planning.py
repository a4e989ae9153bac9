"""Plans of every mechanism against closed forms, matrices written out, and the library alone."""

import dataclasses
import math
from typing import Any

import dp_accounting
import numpy as np
import pytest
from scipy import linalg, stats

from fl_research.data.client_sampling import ClientSampling, build_client_sampling
from fl_research.errors import InputError
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.privacy.accounting_rules.correlated import Rule as CorrelatedRule
from fl_research.privacy.factorization.noise_covariance import tree_covariance
from fl_research.privacy.planning import CORRELATED, Question, answer_to, rule_for
from fl_research.privacy.planning_curves import EPSILONS, contenders, curves_of, steps_of
from fl_research.privacy.prefix_error import prefix_variances

DELTA = 1e-5


def separated(separation: int = 10, max_participations: int | None = None) -> ClientSampling:
    return build_client_sampling(
        "min_separation",
        population=1000,
        clients_per_round=100.0,
        min_separation=separation,
        max_participations=max_participations,
    )


def poisson() -> ClientSampling:
    return build_client_sampling("poisson", population=1000, clients_per_round=20.0)


def question(mechanism: str, **changes: Any) -> Question:
    """50 rounds at noise 4; correlated noise under a separation, the others under Poisson."""
    values: dict[str, Any] = {
        "mechanism": mechanism,
        "sampling": separated() if mechanism in CORRELATED else poisson(),
        "delta": DELTA,
        "rounds": 50,
        "noise_multiplier": 4.0,
        "target_epsilon": None,
    }
    return Question(**values | changes)


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Balle and Wang 2018, theorem 8: the exact delta of a Gaussian with sensitivity / noise mu."""
    upper = stats.norm.cdf(mu / 2 - epsilon / mu)
    return float(upper - math.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu))


def test_prefix_error_of_fresh_noise_is_its_closed_form() -> None:
    expected = 4.0 * math.sqrt(51 / 2) / 20
    assert answer_to(question("gaussian"))["prefix_rmse"] == pytest.approx(expected, rel=1e-12)
    laplace = answer_to(question("laplace"))
    assert laplace["prefix_rmse"] == pytest.approx(expected * math.sqrt(2), rel=1e-12)
    assert laplace["norm_of_clip"] == "L1"
    local = answer_to(question("local_gaussian"))
    assert local["prefix_rmse"] == pytest.approx(expected * math.sqrt(20), rel=1e-12)


def test_adaptive_clip_pays_for_its_count() -> None:
    given = answer_to(question("adaptive_gaussian", parameters={"clipped_count_stddev": 3.0}))
    value_noise = (4.0**-2 - 6.0**-2) ** -0.5
    assert given["prefix_rmse"] == pytest.approx(value_noise * math.sqrt(51 / 2) / 20, rel=1e-12)
    with pytest.raises(InputError, match="clipped_count_stddev=1.5"):
        answer_to(question("adaptive_gaussian", parameters={"clipped_count_stddev": 1.5}))


@pytest.mark.parametrize("mechanism", CORRELATED)
def test_prefix_error_and_epsilon_of_correlated_noise_from_its_matrix(mechanism: str) -> None:
    asked = question(mechanism, sampling=separated(10, 3))
    rule = rule_for(asked)
    assert isinstance(rule, CorrelatedRule)
    prefix_sums = np.tril(np.ones((50, 50)))
    if rule.restart_every is not None:
        covariance = tree_covariance(50, rule.restart_every)
    else:
        column = np.zeros(50)
        if rule.coefficients is not None:
            column[: len(rule.coefficients)] = rule.coefficients
        else:
            assert rule.buffers is not None
            column[0] = 1.0
            column[1:] = sum(w * np.power(decay, np.arange(49)) for w, decay in rule.buffers)
        strategy = linalg.toeplitz(column, np.zeros(50))
        inverse = np.linalg.inv(strategy)
        covariance = inverse @ inverse.T
    variances = np.diag(prefix_sums @ covariance @ prefix_sums.T)
    np.testing.assert_allclose(prefix_variances(rule, 50), variances, rtol=1e-8)
    given = answer_to(asked)
    assert given["prefix_rmse"] == pytest.approx(4 * math.sqrt(variances.mean()) / 100, rel=1e-8)
    squared = given["squared_sensitivity"]
    if rule.restart_every is None:
        image = strategy[:, [0, 10, 20]].sum(axis=1)
        assert squared == pytest.approx(image @ image, rel=1e-9)
    mu = math.sqrt(squared) / 4
    assert given["mu_gdp"] == pytest.approx(mu, rel=1e-9)
    assert given["zcdp_rho"] == pytest.approx(mu**2 / 2, rel=1e-9)
    assert gaussian_delta(given["claim"]["epsilon"], mu) == pytest.approx(DELTA, rel=2e-2)
    assert given["squared_sensitivity_is_exact"] is True


def test_one_participation_in_a_tree_is_in_one_node_a_level() -> None:
    given = answer_to(question("tree_aggregation", rounds=8, sampling=separated(8, 1)))
    assert given["squared_sensitivity"] == 4.0
    restarted = question(
        "tree_aggregation", rounds=8, sampling=separated(8, 1), parameters={"restart_every": 2}
    )
    assert answer_to(restarted)["squared_sensitivity"] == 2.0


@pytest.mark.parametrize("mechanism", CORRELATED)
def test_correlated_noise_counts_the_rounds_it_was_made_for(mechanism: str) -> None:
    with pytest.raises(InputError, match="is made for a number of rounds"):
        question(mechanism, rounds=None, target_epsilon=1.0)
    asked = question(mechanism, target_epsilon=1.0, noise_multiplier=8.0)
    given = answer_to(asked)
    fitting = given["rounds_within_target"]
    assert given["rounds_left"] is None and 0 < fitting <= 50
    rule = rule_for(asked)
    assert isinstance(rule, CorrelatedRule)
    reached = [
        gaussian_delta(1.0, math.sqrt(rule.squared_sensitivity(n, asked.sampling)) / 8.0) <= DELTA
        for n in range(1, 51)
    ]
    assert fitting == sum(reached) and sorted(reached, reverse=True) == reached


@pytest.mark.parametrize("mechanism", CORRELATED)
def test_correlated_noise_refuses_sampling_without_a_separation(mechanism: str) -> None:
    with pytest.raises(InputError, match="does not go with noise that is correlated"):
        answer_to(question(mechanism, sampling=poisson()))


def test_client_dpsgd_claims_the_worst_size() -> None:
    asked = question(
        "client_dpsgd",
        rounds=5,
        client_update=ClientUpdateConfig(batch_size=8, local_epochs=2),
        client_rows=(100, 20),
    )
    given = answer_to(asked)
    costs = []
    for rows in (100, 20):
        accountant = dp_accounting.pld.PLDAccountant()
        step = dp_accounting.PoissonSampledDpEvent(8 / rows, dp_accounting.GaussianDpEvent(4.0))
        accountant.compose(step, math.ceil(rows / 8) * 2 * 5)
        costs.append(accountant.get_epsilon(DELTA))
    assert given["epsilon"]["pld"] == pytest.approx(max(costs), rel=1e-6)
    assert (given["unit"], given["trust"], given["prefix_rmse"]) == ("record", "local", None)


def test_no_privacy_and_unknown_settings_are_refused() -> None:
    with pytest.raises(InputError, match="no guarantee to plan"):
        question("none")
    with pytest.raises(InputError, match="bands=0"):
        rule_for(question("banded_matrix_factorization", parameters={"bands": 0}))


def test_an_unknown_cohort_has_no_error_and_no_comparison() -> None:
    asked = question("gaussian", cohort_known=False)
    assert answer_to(asked)["prefix_rmse"] is None
    with pytest.raises(InputError, match="population is not given"):
        contenders(asked)


@pytest.fixture(scope="module")
def curves() -> tuple[Question, dict[str, Any], dict[str, Any], list[str]]:
    asked = question(
        "gaussian", sampling=build_client_sampling("poisson", population=1000, sampling_rate=0.02)
    )
    answer = answer_to(asked)
    steps: list[str] = []
    return asked, answer, curves_of(asked, answer, step=steps.append), steps


Curves = tuple[Question, dict[str, Any], dict[str, Any], list[str]]


def test_mechanisms_meet_the_same_epsilon(curves: Curves) -> None:
    asked, _, drawn, steps = curves
    assert len(steps) == steps_of(asked)
    lines = {line["label"]: line for line in drawn["error_at_equal_epsilon"]["mechanisms"]}
    rivals = {one.label: one for one in contenders(asked)}
    assert set(lines) == set(rivals) and len(lines) == 7
    assert {label for label, line in lines.items() if line["amplified"]} == {
        "Gaussian, Poisson",
        "banded, 5 bands",
    }
    for label, line in lines.items():
        if line["amplified"]:
            continue
        rival = rivals[label]
        assert (rival.sampling.separation, rival.sampling.expected_cohort_size) == (50, 20.0)
        rule = rule_for(
            dataclasses.replace(asked, mechanism=rival.mechanism, sampling=rival.sampling)
        )
        squared = 1.0  # One participation in 50 rounds, 50 apart.
        if isinstance(rule, CorrelatedRule):
            squared = rule.squared_sensitivity(50, rival.sampling)
        elif rival.mechanism == "local_gaussian":
            squared = 4.0
        for epsilon, noise in zip(EPSILONS, line["noise_multiplier"], strict=True):
            exact = gaussian_delta(epsilon, math.sqrt(squared) / noise)
            assert exact == pytest.approx(DELTA, rel=0.1), (label, epsilon)


def test_local_noise_costs_twice_the_root_of_the_cohort(curves: Curves) -> None:
    lines = {
        line["label"]: line["prefix_rmse"]
        for line in curves[2]["error_at_equal_epsilon"]["mechanisms"]
    }
    for local, central in zip(lines["local Gaussian"], lines["Gaussian, separated"], strict=True):
        assert local / central == pytest.approx(2 * math.sqrt(20), rel=5e-3)


def test_the_curves_of_the_plan_pass_through_it(curves: Curves) -> None:
    _, answer, drawn, _ = curves
    over_rounds = drawn["epsilon_over_rounds"]
    assert (over_rounds["rounds"][0], over_rounds["rounds"][-1]) == (1, 50)
    assert over_rounds["epsilon"] == sorted(over_rounds["epsilon"])
    assert over_rounds["epsilon"][-1] == pytest.approx(answer["claim"]["epsilon"], rel=1e-2)
    noises = drawn["noise_over_epsilon"]["noise_multiplier"]
    asked = question("gaussian", noise_multiplier=noises[EPSILONS.index(2.0)])
    assert answer_to(asked)["claim"]["epsilon"] == pytest.approx(2.0, rel=1e-2)
    assert noises == sorted(noises, reverse=True)
