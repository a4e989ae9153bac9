"""The curves of a plan: epsilon over rounds, noise over epsilon, mechanisms at equal epsilon.

A curve takes the rough bound of the accounting, which is not below the claim and seldom more than
a percent above it: enough for a look. All mechanisms are compared at the same rounds, expected
cohort and delta, by the error of `prefix_error`. Those that need a separation get that of the
question, or the largest that leaves every group a full cohort: then each client takes part in each
turn of its group, and sampling amplifies nothing. A banded strategy is shown at a tenth of that
separation too, where it does.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import optimize

from fl_research.data.client_sampling import (
    ClientSampling,
    MinSeparationSampling,
    build_client_sampling,
)
from fl_research.errors import InputError
from fl_research.privacy.accounting_rules.rule import AccountingRule
from fl_research.privacy.calibration import HIGHEST_NOISE_MULTIPLIER, LOWEST_NOISE_MULTIPLIER
from fl_research.privacy.composition import relation_name
from fl_research.privacy.parts import releases_in
from fl_research.privacy.planning import Question, rule_for
from fl_research.privacy.prefix_error import prefix_error
from fl_research.privacy.worst_case import worst_rough_epsilon

EPSILONS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
_POINTS_OVER_ROUNDS = 24
_FEWER_TURNS = 10
_TINY = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contender:
    """One mechanism of the comparison.

    Attributes:
      label: What the plot calls it.
      mechanism: Its name.
      sampling: Its sampler.
      parameters: Its settings beside clip and noise.
    """

    label: str
    mechanism: str
    sampling: ClientSampling
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def contenders(question: Question) -> list[Contender]:
    """Returns the mechanisms that are compared, at the question's population and cohort.

    Raises:
      InputError: The population is not known.
    """
    if not question.cohort_known:
        raise InputError("population is not given, which the errors in the plot need; give it")
    population = question.sampling.population
    rate = question.sampling.expected_cohort_size / population
    apart = question.sampling
    if not isinstance(apart, MinSeparationSampling):
        apart = _separated(population, rate, max(1, math.floor(1 / rate + 1e-9)))
    poisson = build_client_sampling("poisson", population=population, sampling_rate=rate)
    given = {question.mechanism: dict(question.parameters)}
    banded = "banded_matrix_factorization"
    bands = given.get(banded, {}).get("bands") or apart.separation
    found = [
        Contender(label="local Gaussian", mechanism="local_gaussian", sampling=apart),
        Contender(label="tree aggregation", mechanism="tree_aggregation", sampling=apart),
        Contender(label="Gaussian, separated", mechanism="gaussian", sampling=apart),
        Contender(label="buffered Toeplitz", mechanism="buffered_toeplitz", sampling=apart),
        Contender(label=f"banded, {bands} bands", mechanism=banded, sampling=apart),
        Contender(label="Gaussian, Poisson", mechanism="gaussian", sampling=poisson),
    ]
    fewer = apart.separation // _FEWER_TURNS
    if fewer >= 2 and apart is not question.sampling and bands != fewer:
        sampling = _separated(population, rate, fewer)
        label = f"banded, {fewer} bands"
        found.append(
            Contender(label=label, mechanism=banded, sampling=sampling, parameters={"bands": fewer})
        )
    return [
        dataclasses.replace(one, parameters={**given.get(one.mechanism, {}), **one.parameters})
        for one in found
    ]


def steps_of(question: Question) -> int:
    """Returns how often `curves_of` calls `step`."""
    return 2 + len(contenders(question))


def curves_of(
    question: Question, answer: Mapping[str, Any], *, step: Callable[[str], None]
) -> dict[str, Any]:
    """Returns the curves as plain JSON; an epsilon that no noise reaches has null.

    Args:
      question: What was asked.
      answer: What `planning.answer_to` gave.
      step: Is called before each piece of work, with its name.

    Raises:
      InputError: The population is not known, or no round fits.
    """
    if not answer["rounds"]:
        raise InputError(
            f"rounds=0 fit into target_epsilon={question.target_epsilon}, and nothing can be "
            "drawn; give more noise"
        )
    asked = dataclasses.replace(question, rounds=answer["rounds"])
    rivals = contenders(asked)
    rule = rule_for(asked)
    step("epsilon over rounds")
    over_rounds = _epsilon_over_rounds(asked, rule, answer["noise_multiplier"])
    step("noise over epsilon")
    noise = _noise_over_epsilon(asked, rule)
    compared = []
    for rival in rivals:
        step(rival.label)
        compared.append(_comparison(asked, rival))
    return {
        "epsilon_over_rounds": over_rounds,
        "noise_over_epsilon": {"epsilon": list(EPSILONS), "noise_multiplier": noise},
        "error_at_equal_epsilon": {"epsilon": list(EPSILONS), "mechanisms": compared},
    }


def _separated(population: int, rate: float, separation: int) -> ClientSampling:
    """A sampler with a minimum separation."""
    return build_client_sampling(
        "min_separation", population=population, sampling_rate=rate, min_separation=separation
    )


def _epsilon_over_rounds(
    question: Question, rule: AccountingRule, noise: float
) -> dict[str, list[Any]]:
    """Epsilon after so many rounds, closer at the start, where epsilon rises fastest."""
    last = question.rounds
    assert last is not None, "set by the caller"
    shares = np.linspace(0, 1, _POINTS_OVER_ROUNDS) ** 2
    rounds = sorted(set((1 + shares * (last - 1)).round().astype(int).tolist()))
    epsilons = [_rough(question, rule, noise, count) for count in rounds]
    return {"rounds": rounds, "epsilon": [e if math.isfinite(e) else None for e in epsilons]}


def _rough(question: Question, rule: AccountingRule, noise: float, rounds: int) -> float:
    """A bound on epsilon, quickly."""
    events = rule.planned_events(rule.release_event(noise), rounds, question.sampling)
    relation, _ = rule.relation(question.sampling)
    return worst_rough_epsilon(events, question.delta, relation)


def _noise_over_epsilon(question: Question, rule: AccountingRule) -> list[float | None]:
    """The noise of each of `EPSILONS`, solved on logarithmic scales."""
    assert question.rounds is not None, "set by the caller"
    rounds = question.rounds
    low, high = math.log(LOWEST_NOISE_MULTIPLIER), math.log(HIGHEST_NOISE_MULTIPLIER)

    def log_epsilon(log_noise: float) -> float:
        return math.log(max(_rough(question, rule, math.exp(log_noise), rounds), _TINY))

    found: list[float | None] = []
    for epsilon in EPSILONS:
        wanted = math.log(epsilon)
        if log_epsilon(high) > wanted or log_epsilon(low) < wanted:
            found.append(None)
            continue
        root = optimize.brentq(_gap(log_epsilon, wanted), low, high, xtol=1e-3)
        found.append(math.exp(root))
        high = min(high, root + 1e-2)  # A larger epsilon needs less noise.
    return found


def _gap(value: Callable[[float], float], wanted: float) -> Callable[[float], float]:
    """How far a value is above what is wanted; finite where it is infinite."""
    return lambda x: min(value(x) - wanted, 1e3)


def _comparison(question: Question, rival: Contender) -> dict[str, Any]:
    """Noise and error of one mechanism at each of `EPSILONS`."""
    asked = dataclasses.replace(
        question,
        mechanism=rival.mechanism,
        sampling=rival.sampling,
        parameters=rival.parameters,
    )
    rule = rule_for(asked)
    assert asked.rounds is not None, "set by the caller"
    noises = _noise_over_epsilon(asked, rule)
    return {
        "label": rival.label,
        "mechanism": rival.mechanism,
        "sampling": rival.sampling.to_dict(),
        "neighboring_relation": relation_name(rule.relation(rival.sampling)[0]),
        "trust": rule.trust,
        "amplified": _is_amplified(asked, rule),
        "noise_multiplier": noises,
        "prefix_rmse": [_error(asked, rule, noise) for noise in noises],
    }


def _error(question: Question, rule: AccountingRule, noise: float | None) -> float | None:
    """The error with this noise."""
    if noise is None:
        return None
    assert question.rounds is not None, "set by the caller"
    return prefix_error(
        question.mechanism,
        rule,
        noise_multiplier=noise,
        rounds=question.rounds,
        expected_cohort_size=question.sampling.expected_cohort_size,
        parameters=question.parameters,
    )


def _is_amplified(question: Question, rule: AccountingRule) -> bool:
    """Whether sampling lowers epsilon."""
    assert question.rounds is not None, "set by the caller"
    events: Sequence[Any] = rule.planned_events(
        rule.release_event(1.0), question.rounds, question.sampling
    )
    return any(hasattr(leaf, "event") for event in events for leaf, _ in releases_in(event))
