"""Answers about a run that has not happened: what it would cost, need or leave.

Noise and rounds give epsilon; rounds and a target give the noise; noise and a target give the
rounds that fit, and with rounds too what is left after them. Noise that is correlated over rounds
is made for a number of rounds, so that this number must be given; with a target, what is counted
then is how many of these rounds fit.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import dp_accounting

from fl_research.data.client_sampling import ClientSampling
from fl_research.errors import InputError
from fl_research.learning.client_update_config import ClientUpdateConfig
from fl_research.privacy import accounting
from fl_research.privacy.accountants import check_delta
from fl_research.privacy.accounting_rules.correlated import Rule as CorrelatedRule
from fl_research.privacy.accounting_rules.rule import AccountingRule
from fl_research.privacy.calibration import max_releases
from fl_research.privacy.factorization import tree
from fl_research.privacy.mechanisms import registry as mechanisms
from fl_research.privacy.plan import AccountingSetting
from fl_research.privacy.prefix_error import prefix_error
from fl_research.privacy.worst_case import worst_case
from fl_research.run.record_files import plain_json

MOST_ROUNDS = 1_000_000
"""Rounds that fit are counted up to here."""

CORRELATED = ("tree_aggregation", "banded_matrix_factorization", "buffered_toeplitz")
"""Mechanisms whose noise is made for a number of rounds."""

_SOME_NOISE = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """Settings of a run, of which one may be asked for.

    Attributes:
      sampling: The sampler of all cohorts.
      delta: In (0, 1).
      rounds: Releases, at least 1; None asks how many fit.
      noise_multiplier: At least 0; None asks for the noise.
      target_epsilon: The epsilon not to pass, above 0; None: there is no target.
      mechanism: The name of a private mechanism.
      parameters: Its settings beside clip and noise, by the names that its `Config` has.
      client_update: How a client trains, for "client_dpsgd".
      client_rows: The numbers of rows that a client can have, for "client_dpsgd".
      cohort_known: Whether the sampler's population is the run's, and not a stand-in; without it
        the error of the model is not known.

    Raises:
      InputError: If a value is out of range, or too little is given.
    """

    sampling: ClientSampling
    delta: float
    rounds: int | None
    noise_multiplier: float | None
    target_epsilon: float | None
    mechanism: str = "gaussian"
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    client_update: ClientUpdateConfig | None = None
    client_rows: Sequence[int] = ()
    cohort_known: bool = True

    def __post_init__(self) -> None:
        check_delta(self.delta)
        if self.mechanism == "none":
            raise InputError("mechanism='none' gives no guarantee to plan; choose another")
        noise = self.noise_multiplier
        if noise is None and self.target_epsilon is None:
            raise InputError("nothing is asked; give noise_multiplier or target_epsilon, or both")
        if noise is not None and not (math.isfinite(noise) and noise >= 0):
            raise InputError(f"noise_multiplier={noise} is no amount of noise; give 0 or more")
        if self.rounds is None and self.mechanism in CORRELATED:
            raise InputError(
                f"rounds is not given, and the noise of mechanism={self.mechanism!r} is made for a "
                "number of rounds, so that no one number of rounds fits; give rounds and "
                "noise_multiplier or target_epsilon, and compare"
            )
        if self.rounds is None and (noise is None or self.target_epsilon is None):
            raise InputError("rounds is not given; give it, 1 or more")
        if self.rounds is not None and self.rounds < 1:
            raise InputError(f"rounds={self.rounds} releases nothing; give 1 or more")


def rule_for(question: Question) -> AccountingRule:
    """Returns how the releases of the question's mechanism add up.

    Raises:
      InputError: If the mechanism is unknown, a parameter is out of range, or the mechanism's
        theory does not allow the sampler.
    """
    module = mechanisms.load(question.mechanism)
    # Checks the parameters; how releases add up does not depend on clip and noise.
    config = module.Config(clip_norm=1.0, noise_multiplier=_SOME_NOISE, **question.parameters)
    setting = AccountingSetting(
        sampling=question.sampling,
        rounds=question.rounds or 1,
        client_update=question.client_update,
        clients_by_rows=dict.fromkeys(question.client_rows, 1),
    )
    rule: AccountingRule = module.accounting_rule(dataclasses.asdict(config), setting)
    rule.require_sampling(question.sampling)
    return rule


def answer_to(question: Question) -> dict[str, Any]:
    """Returns the answer as plain JSON.

    Null stands for an infinite epsilon and for what does not apply. Where rounds were asked for,
    epsilon is that of all rounds that fit.

    Raises:
      InputError: If no noise meets the target, with what is possible; or as `rule_for`.
    """
    rule = rule_for(question)
    sampling, delta = question.sampling, question.delta
    noise, fitting = _noise_and_fitting_rounds(question, rule)
    rounds = fitting if question.rounds is None else question.rounds
    assert rounds is not None, "checked when it was made"
    relation, sensitivity_in_clips = rule.relation(sampling)
    events = rule.planned_events(rule.release_event(noise), rounds, sampling)
    worst = worst_case(events, delta, relation)
    limited = isinstance(rule, CorrelatedRule)  # No strategy, no rounds after the last.
    left = None if fitting is None or limited else max(0, fitting - (question.rounds or 0))
    return plain_json(
        {
            "mechanism": question.mechanism,
            "parameters": dict(question.parameters),
            "trust": rule.trust,
            "unit": rule.unit,
            "epsilon": worst.epsilon_by_accountant,
            "noise_multiplier": noise,
            "norm_of_clip": "L1" if question.mechanism == "laplace" else "L2",
            "neighboring_relation": accounting.relation_name(relation),
            "sensitivity_in_clips": sensitivity_in_clips,
            **_strategy_sensitivity(rule, rounds, sampling),
            "epsilon_without_amplification": max(
                accounting.epsilon_without_amplification(event, delta, relation) for event in events
            ),
            **_exact_measures(events),
            **_prefix_error(question, rule, noise, rounds),
            "claim": dataclasses.asdict(worst.claim),
            "delta": delta,
            "target_epsilon": question.target_epsilon,
            "sampling": sampling.name,
            "rounds": rounds,
            "rounds_within_target": fitting,
            "rounds_left": left,
        }
    )


def _noise_and_fitting_rounds(question: Question, rule: AccountingRule) -> tuple[float, int | None]:
    """The noise, given or found, and the rounds that fit where noise and target are given."""
    noise, target = question.noise_multiplier, question.target_epsilon
    if noise is None:
        assert target is not None and question.rounds is not None, "checked when it was made"
        noise = accounting.calibrate_noise_multiplier(
            target_epsilon=target,
            delta=question.delta,
            sampling=question.sampling,
            rounds=question.rounds,
            rule=rule,
        )
        return noise, None
    if target is None:
        return noise, None
    limit = rule.rounds if isinstance(rule, CorrelatedRule) else MOST_ROUNDS
    fitting = max_releases(
        noise_multiplier=noise,
        target_epsilon=target,
        delta=question.delta,
        sampling=question.sampling,
        limit=limit,
        rule=rule,
    )
    return noise, fitting


def _strategy_sensitivity(
    rule: AccountingRule, rounds: int, sampling: ClientSampling
) -> dict[str, Any]:
    """The squared sensitivity of correlated noise, and whether it is attained."""
    squared, exact = None, None
    if isinstance(rule, CorrelatedRule):
        squared, exact = rule.squared_sensitivity(rounds, sampling), True
        if rule.restart_every is not None:
            exact = tree.squared_tree_sensitivity(
                rounds=rounds,
                restart_every=rule.restart_every,
                max_participations=max(1, sampling.most_participations(rounds)),
                min_separation=sampling.separation,
            ).exact
    return {"squared_sensitivity": squared, "squared_sensitivity_is_exact": exact}


def _exact_measures(events: Sequence[dp_accounting.DpEvent]) -> dict[str, float | None]:
    """Rho without amplification, and mu where all is Gaussian: of the unit with the largest."""
    mus = [accounting.mu_gdp(event) for event in events]
    exact = [mu for mu in mus if mu is not None]
    return {
        "zcdp_rho": max(accounting.zcdp_rho(event) for event in events),
        "mu_gdp": max(exact) if len(exact) == len(mus) else None,
    }


def _prefix_error(
    question: Question, rule: AccountingRule, noise: float, rounds: int
) -> dict[str, float | None]:
    """The error of the noise on the model's prefix sums; None where it has no meaning."""
    error = None
    if question.cohort_known and rounds:
        error = prefix_error(
            question.mechanism,
            rule,
            noise_multiplier=noise,
            rounds=rounds,
            expected_cohort_size=question.sampling.expected_cohort_size,
            parameters=question.parameters,
        )
    return {"prefix_rmse": error}
