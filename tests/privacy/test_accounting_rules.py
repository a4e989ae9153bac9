"""Accounting rules against numbers worked out by hand, brute force and dp_accounting's own."""

import itertools
import json
import math
from typing import Any

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

from fl_research.data.client_sampling import (
    ClientSampling,
    FixedSizeSampling,
    FullParticipation,
    MinSeparationSampling,
    PoissonSampling,
)
from fl_research.errors import InputError
from fl_research.learning.client_update_config import ClientUpdateConfig, steps_and_rate
from fl_research.privacy import accounting
from fl_research.privacy.accounting_rules import correlated, examples, independent, local
from fl_research.privacy.accounting_rules.examples import ClientSize
from fl_research.privacy.accounting_rules.registry import names, rule_from_dict
from fl_research.privacy.accounting_rules.rule import AccountingRule
from fl_research.privacy.factorization.banded import optimal_banded_coefficients
from fl_research.privacy.releases import Release
from fl_research.privacy.worst_case import worst_case, worst_rough_epsilon

Gaussian = dp_accounting.GaussianDpEvent
Relation = dp_accounting.NeighboringRelation
DELTA = 1e-6
COEFFICIENTS = (0.9, 0.4, 0.2)
NORM = math.sqrt(0.81 + 0.16 + 0.04)


def separated(
    separation: int, rate: float, limit: int | None = None, population: int = 10_000
) -> MinSeparationSampling:
    return MinSeparationSampling(
        population=population,
        sampling_rate=rate,
        min_separation=separation,
        max_participations=limit,
    )


def once_each(rounds: int, noise: float) -> list[Release]:
    return [Release(number, Gaussian(noise)) for number in range(1, rounds + 1)]


def epsilon(rule: AccountingRule, releases: list[Release], sampling: ClientSampling) -> float:
    relation, _ = rule.relation(sampling)
    return worst_case(rule.events(releases, sampling), DELTA, relation).claim.epsilon


def bound(rule: AccountingRule, releases: list[Release], sampling: ClientSampling) -> float:
    """A quick upper bound on epsilon, for comparisons of costs."""
    relation, _ = rule.relation(sampling)
    return worst_rough_epsilon(rule.events(releases, sampling), DELTA, relation)


def only(events: list[dp_accounting.DpEvent]) -> dp_accounting.DpEvent:
    assert len(events) == 1
    return events[0]


# ------------------------------------------------------------------------------ correlated noise


def test_a_tree_with_one_participation_is_one_gaussian() -> None:
    """Kairouz et al. 2021: 1600 rounds are 11 levels of complete nodes over the first round."""
    rule = correlated.Rule(rounds=1600, restart_every=1600)
    sampling = separated(1600, 1 / 1600)
    event = only(rule.events(once_each(1600, 1.13), sampling))
    assert isinstance(event, Gaussian)
    assert event.noise_multiplier == pytest.approx(1.13 / math.sqrt(11), rel=1e-12)
    assert rule.planned_events(Gaussian(1.13), 1600, sampling) == [event]


def test_the_published_tree_of_a_keyboard() -> None:
    """2000 rounds, 6 participations 313 apart: z = 7 is one Gaussian of 7 / sqrt(79), rho 0.81."""
    rule = correlated.Rule(rounds=2000, restart_every=2000)
    sampling = separated(313, 1 / 1000, limit=6)
    event = only(rule.planned_events(Gaussian(7.0), 2000, sampling))
    assert event.noise_multiplier == pytest.approx(7 / math.sqrt(79), rel=1e-12)
    assert round(accounting.zcdp_rho(event), 2) == 0.81


@pytest.mark.parametrize(
    ("rounds", "separation", "limit"), [(7, 3, None), (12, 2, 3), (6, 5, None), (9, 1, 2)]
)
def test_banded_noise_costs_what_the_worst_participation_does(
    rounds: int, separation: int, limit: int | None
) -> None:
    """Brute force over all participation patterns, with the matrix written out."""
    strategy = sum(c * np.eye(rounds, k=-j) for j, c in enumerate(COEFFICIENTS))
    worst = 0.0
    for chosen in itertools.product((0.0, 1.0), repeat=rounds):
        at = np.flatnonzero(chosen)
        if len(at) <= (limit or rounds) and np.all(np.diff(at) >= separation):
            worst = max(worst, float(np.sum((strategy @ np.array(chosen)) ** 2)))
    rule = correlated.Rule(rounds=rounds, coefficients=COEFFICIENTS)
    # At a turn rate of one nothing is amplified.
    event = only(rule.events(once_each(rounds, 2.0), separated(separation, 1 / separation, limit)))
    assert event.noise_multiplier == pytest.approx(2.0 / math.sqrt(worst), rel=1e-12)


def test_buffered_noise_costs_what_its_coefficients_do() -> None:
    buffers = ((0.3, 0.8), (0.2, 0.1))
    rule = correlated.Rule(rounds=9, buffers=buffers)
    column = [1.0] + [0.3 * 0.8**j + 0.2 * 0.1**j for j in range(8)]
    strategy = sum(c * np.eye(9, k=-j) for j, c in enumerate(column))
    pattern = np.array([1.0, 0, 0, 0, 1, 0, 0, 0, 1])
    expected = float(np.sum((strategy @ pattern) ** 2))
    sampling = separated(4, 0.1)
    event = only(rule.events(once_each(9, 2.0), sampling))
    assert isinstance(event, Gaussian)  # No theory of amplification for it.
    assert event.noise_multiplier == pytest.approx(2.0 / math.sqrt(expected), rel=1e-12)


@pytest.mark.parametrize("rounds", [3, 4, 12, 13])
def test_sampling_by_turns_amplifies_bands_up_to_the_separation(rounds: int) -> None:
    """One sampled Gaussian a turn; epsilon is dp_accounting's own for it, to 1e-3."""
    rule = correlated.Rule(rounds=20, coefficients=COEFFICIENTS)
    sampling = separated(4, 0.05)
    turn = dp_accounting.PoissonSampledDpEvent(0.2, Gaussian(3.0 / NORM))
    expected = dp_accounting.SelfComposedDpEvent(turn, math.ceil(rounds / 4))
    event = only(rule.events(once_each(rounds, 3.0), sampling))
    accountant = PLDAccountant().compose(expected)
    found = epsilon(rule, once_each(rounds, 3.0), sampling)
    assert found == pytest.approx(accountant.get_epsilon(DELTA), rel=1e-3)
    assert event.count == expected.count
    assert event.event.sampling_probability == pytest.approx(0.2)
    assert event.event.event.noise_multiplier == pytest.approx(3.0 / NORM)


@pytest.mark.parametrize(
    ("coefficients", "sampling"),
    [
        ((*COEFFICIENTS, 0.1, 0.05), separated(4, 0.05)),  # more bands than the separation
        (COEFFICIENTS, separated(4, 0.05, limit=2)),  # who has had its turns is known
        (COEFFICIENTS, separated(4, 0.25)),  # everybody comes at its turn
        (COEFFICIENTS, FullParticipation(population=100)),
    ],
)
def test_elsewhere_nothing_is_amplified(coefficients: Any, sampling: ClientSampling) -> None:
    rule = correlated.Rule(rounds=12, coefficients=coefficients)
    assert isinstance(only(rule.events(once_each(12, 3.0), sampling)), Gaussian)


def test_amplification_only_lowers_epsilon() -> None:
    rule = correlated.Rule(rounds=12, coefficients=COEFFICIENTS)
    costs = [epsilon(rule, once_each(12, 3.0), separated(4, r)) for r in (0.01, 0.1, 0.24, 0.25)]
    assert costs == sorted(costs) and costs[0] < 0.5 * costs[-1]


@pytest.mark.parametrize("sampling", [separated(3, 0.1), separated(3, 0.1, limit=2)])
def test_one_band_is_independent_noise(sampling: ClientSampling) -> None:
    """The same epsilon under the same sampler, to 1e-9."""
    one_band = correlated.Rule(rounds=11, coefficients=(1.0,))
    by_composition = epsilon(independent.Rule(), once_each(11, 2.0), sampling)
    assert epsilon(one_band, once_each(11, 2.0), sampling) == pytest.approx(by_composition, 1e-9)


RULES = [
    (correlated.Rule(rounds=12, restart_every=12), separated(3, 0.1)),
    (correlated.Rule(rounds=12, restart_every=4), separated(3, 0.1, limit=2)),
    (correlated.Rule(rounds=12, coefficients=COEFFICIENTS), separated(3, 0.1)),
    (correlated.Rule(rounds=12, coefficients=COEFFICIENTS), separated(3, 0.1, limit=2)),
    (correlated.Rule(rounds=12, buffers=((0.3, 0.8),)), separated(3, 0.1)),
    (independent.Rule(), PoissonSampling(population=100, sampling_rate=0.1)),
    (independent.Rule(), FixedSizeSampling(population=100, cohort_size=10)),
    (independent.Rule(), separated(3, 0.1)),
    (local.Rule(), separated(3, 0.1, limit=2)),
    (local.Rule(), PoissonSampling(population=100, sampling_rate=0.1)),
    (
        examples.Rule(sizes=(ClientSize(rows=9, clients=1, steps=3, sampling_rate=0.3),)),
        separated(3, 0.1),
    ),
]


@pytest.mark.parametrize(("rule", "sampling"), RULES)
def test_a_repeated_round_never_costs_less(rule: AccountingRule, sampling: ClientSampling) -> None:
    """Of twelve rounds one or several again, twice or thrice; all again costs more for sure."""
    releases = once_each(12, 2.0)
    plain = bound(rule, releases, sampling)
    costs = [plain]
    for again in ([5], [5, 5], [5, 5, 6, 9]):
        costs.append(bound(rule, releases + [Release(n, Gaussian(2.0)) for n in again], sampling))
    assert costs == sorted(costs)
    assert bound(rule, releases * 2, sampling) > 1.01 * plain
    assert bound(rule, releases[::-1], sampling) == pytest.approx(plain, rel=1e-12)


@pytest.mark.parametrize("restart_every", [3, 12])
def test_repeated_rounds_of_a_tree_are_at_least_those_of_its_nodes(restart_every: int) -> None:
    """A repeated round releases its nodes again; their number under each pattern is counted."""
    rule = correlated.Rule(rounds=12, restart_every=restart_every)
    again = (4, 4, 7)
    nodes = []
    for start in range(0, 12, restart_every):
        for level in range(restart_every.bit_length()):
            for first in range(0, restart_every - 2**level + 1, 2**level):
                covered = np.zeros(12)
                covered[start + first : start + first + 2**level] = 1
                last = start + first + 2**level
                nodes += [covered] * (1 + again.count(last))
    patterns = [[a, b] for a in range(12) for b in range(a + 5, 12)]
    worst = max(
        sum(float(node[pattern].sum()) ** 2 for node in nodes)
        for pattern in [*patterns, *[[a] for a in range(12)]]
    )
    releases = once_each(12, 2.0) + [Release(number, Gaussian(2.0)) for number in again]
    event = only(rule.events(releases, separated(5, 0.2, limit=2)))
    assert event.noise_multiplier <= 2.0 / math.sqrt(worst) * (1 + 1e-12)


def test_correlated_noise_counts_the_least_noise_of_all_releases() -> None:
    rule = correlated.Rule(rounds=12, restart_every=12)
    releases = [*once_each(11, 2.0), Release(12, Gaussian(1.9))]
    least = rule.events(once_each(12, 1.9), separated(3, 0.1))
    assert rule.events(releases, separated(3, 0.1)) == least
    assert rule.events([], separated(3, 0.1)) == [dp_accounting.NoOpDpEvent()]
    without = [*once_each(11, 2.0), Release(12, dp_accounting.NonPrivateDpEvent())]
    assert rule.events(without, separated(3, 0.1)) == [dp_accounting.NonPrivateDpEvent()]


@pytest.mark.parametrize("rule", [rule for rule, _ in RULES[:5]])
def test_more_rounds_than_the_strategy_was_made_for_are_refused(rule: AccountingRule) -> None:
    with pytest.raises(InputError, match="rounds=13 is more than the 12.*plan for as many"):
        rule.events(once_each(13, 2.0), separated(3, 0.1, limit=2))


@pytest.mark.parametrize(
    "sampling",
    [
        PoissonSampling(population=100, sampling_rate=0.1),
        FixedSizeSampling(population=100, cohort_size=10),
    ],
)
def test_samplers_that_bound_no_participation_are_refused(sampling: ClientSampling) -> None:
    rule = correlated.Rule(rounds=12, coefficients=COEFFICIENTS)
    with pytest.raises(InputError, match=rf"sampling='{sampling.name}'.*use sampling='min_sep"):
        rule.require_sampling(sampling)
    with pytest.raises(InputError, match="correlated over"):
        rule.events(once_each(3, 1.0), sampling)


@pytest.mark.parametrize(
    "strategy", [{}, {"restart_every": 3, "coefficients": (1.0,)}, {"restart_every": None}]
)
def test_exactly_one_strategy_is_needed(strategy: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="exactly one of them"):
        correlated.Rule(rounds=3, **strategy)


def test_optimal_bands_have_columns_of_norm_one() -> None:
    """So that an amplified turn has the noise multiplier that was set."""
    pattern = {"max_participations": 10, "min_separation": 4}
    bands = optimal_banded_coefficients(rounds=40, bands=4, **pattern)
    rule = correlated.Rule(rounds=40, coefficients=bands)
    event = only(rule.events(once_each(40, 1.3), separated(4, 0.01)))
    assert event.event.event.noise_multiplier == pytest.approx(1.3, rel=1e-12)


# ------------------------------------------------------------------- noise at clients, examples


def test_local_noise_is_half_for_each_round_of_a_client() -> None:
    """A client's data is replaced: two clips. Its rounds compose; nobody is hidden by sampling."""
    rule = local.Rule()
    everywhere = PoissonSampling(population=100, sampling_rate=0.01)
    for sampling, rounds in ((everywhere, 12), (separated(5, 0.01), 3), (separated(5, 0.01, 2), 2)):
        assert rule.relation(sampling) == (Relation.REPLACE_ONE, 2.0)
        found = epsilon(rule, once_each(12, 6.0), sampling)
        # As many Gaussians of multiplier 3 are one of 3 / sqrt(rounds), exactly.
        exact = PLDAccountant().compose(Gaussian(3.0 / math.sqrt(rounds))).get_epsilon(DELTA)
        assert found == pytest.approx(exact, rel=2e-3)


def test_local_noise_of_a_repeated_round_counts_for_the_client_that_was_in_it() -> None:
    sampling = separated(5, 0.01)
    releases = [*once_each(5, 6.0), Release(2, Gaussian(6.0))]
    exact = PLDAccountant().compose(Gaussian(3.0 / math.sqrt(2))).get_epsilon(DELTA)
    assert epsilon(local.Rule(), releases, sampling) == pytest.approx(exact, rel=2e-3)


def sizes_of(rows: range, config: ClientUpdateConfig) -> tuple[ClientSize, ...]:
    each = [(number, *steps_and_rate(config, number)) for number in rows]
    return tuple(ClientSize(rows=n, clients=1, steps=s, sampling_rate=q) for n, s, q in each)


def test_examples_of_one_size_are_what_dp_accounting_says() -> None:
    """50 rows, batches of 10, two epochs, 3 turns: 30 steps at rate 0.2; to 1e-3."""
    rule = examples.Rule(sizes=sizes_of(range(50, 51), ClientUpdateConfig(batch_size=10)))
    sampling = separated(4, 0.1, limit=3)
    step = dp_accounting.PoissonSampledDpEvent(0.2, Gaussian(2.0))
    exact = PLDAccountant().compose(step, 15).get_epsilon(DELTA)
    assert epsilon(rule, once_each(20, 2.0), sampling) == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize(
    "config",
    [
        ClientUpdateConfig(batch_size=8),
        ClientUpdateConfig(batch_size=8, local_epochs=3),
        ClientUpdateConfig(batch_size=8, local_epochs=2, local_steps=9),
    ],
)
def test_the_worst_size_is_found(config: ClientUpdateConfig) -> None:
    """Brute force: each size from 1 to 60 rows alone, by dp_accounting's Rényi accountant."""
    sizes = sizes_of(range(1, 61), config)
    sampling = PoissonSampling(population=100, sampling_rate=0.1)

    def cost(event: dp_accounting.DpEvent) -> float:
        return RdpAccountant([2, 3, 4, 6, 8, 12, 16, 24, 32, 64]).compose(event).get_epsilon(DELTA)

    alone = {}
    for size in sizes:
        step: dp_accounting.DpEvent = Gaussian(1.5)
        if size.sampling_rate < 1:
            step = dp_accounting.PoissonSampledDpEvent(size.sampling_rate, step)
        alone[size.rows] = cost(dp_accounting.SelfComposedDpEvent(step, 4 * size.steps))
    together = examples.Rule(sizes=sizes).events(once_each(4, 1.5), sampling)
    assert max(map(cost, together)) == pytest.approx(max(alone.values()), rel=1e-12)
    assert len(together) < len(sizes)
    rule = examples.Rule(sizes=sizes)
    for size in sizes[::20]:
        of_size = rule.event_of_size(size, once_each(4, 1.5), sampling)
        assert cost(of_size) == pytest.approx(alone[size.rows], rel=1e-12)


def test_examples_say_what_they_protect() -> None:
    rule = examples.Rule(sizes=sizes_of(range(5, 6), ClientUpdateConfig()))
    assert (rule.unit, rule.trust) == ("record", "local")
    for _, sampling in RULES:
        assert rule.relation(sampling)[1] == 1.0
    assert rule.events([], separated(3, 0.1)) == [dp_accounting.NoOpDpEvent()]
    with pytest.raises(InputError, match="names no client"):
        examples.Rule(sizes=())
    with pytest.raises(InputError, match="sampling_rate=1.5"):
        ClientSize(rows=3, clients=1, steps=1, sampling_rate=1.5)


# ------------------------------------------------------------------------------ independent noise


@pytest.mark.parametrize(("rounds", "turns"), [(1, 1), (4, 1), (5, 2), (9, 3), (12, 3)])
def test_independent_noise_concerns_a_client_in_the_turns_of_its_group(
    rounds: int, turns: int
) -> None:
    """Groups have different numbers of rounds; the one with most counts."""
    turn = dp_accounting.PoissonSampledDpEvent(0.2, Gaussian(2.0))
    expected = dp_accounting.SelfComposedDpEvent(turn, turns)
    sampling = separated(4, 0.05)
    event = only(independent.Rule().events(once_each(rounds, 2.0), sampling))
    planned = only(independent.Rule().planned_events(Gaussian(2.0), rounds, sampling))
    for found in (event, planned):
        assert (found.count, found.event.sampling_probability) == (turns, pytest.approx(0.2))
        assert found.event.event == expected.event.event


def test_independent_noise_takes_the_group_that_meets_least_of_it() -> None:
    """Group 2 has two noisy rounds and one with little noise; nobody meets more than that."""
    sampling = separated(2, 0.5, limit=2)
    releases = [Release(n, Gaussian(1.0 if n == 4 else 3.0)) for n in range(1, 7)]
    event = only(independent.Rule().events(releases, sampling))
    precision = sum(
        part.count / part.event.noise_multiplier**2 for part in getattr(event, "events", [event])
    )
    assert precision == pytest.approx(1.0 + 1 / 9, rel=1e-5)


# -------------------------------------------------------------------------------------- registry


@pytest.mark.parametrize(("rule", "sampling"), RULES)
def test_rules_come_back_from_json(rule: AccountingRule, sampling: ClientSampling) -> None:
    back = rule_from_dict(json.loads(json.dumps(rule.to_dict(), allow_nan=False)))
    assert back == rule and hash(back) == hash(rule)
    releases = once_each(6, 2.0)
    assert back.events(releases, sampling) == rule.events(releases, sampling)


def test_wrong_rules_are_refused() -> None:
    assert names() == ("correlated", "examples", "independent", "local")
    good = correlated.Rule(rounds=3, restart_every=3).to_dict()
    with pytest.raises(InputError, match="accounting rule"):
        rule_from_dict({"name": "rule"})
    with pytest.raises(InputError, match="it takes.*rounds"):
        rule_from_dict({"name": "correlated"})
    with pytest.raises(InputError, match="takes"):
        rule_from_dict({**good, "surprise": 1})
    with pytest.raises(InputError, match="noise='uniform'"):
        rule_from_dict({"name": "independent", "noise": "uniform"})
