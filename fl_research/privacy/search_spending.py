"""What choosing the best of several runs costs: the one way from a search's log to epsilon.

A grid of which every point was run costs as much as all its trials together, the failed ones with
all the rounds that they were to have. A secret random number of trials, each with settings drawn
from the grid, costs what `selection` says of one trial; one trial is bounded, at each Rényi order,
by the costliest point of the whole grid, drawn or not, because who sees the winner does not know
what was drawn. Where the units of a trial differ in what it costs them, or trials differ, the same
maximum at each order keeps the bound for every unit. Papernot and Steinke 2022, "Hyperparameter
tuning with Rényi differential privacy".
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import dp_accounting
import numpy as np

from fl_research.data.client_sampling import sampling_from_dict
from fl_research.errors import InputError
from fl_research.privacy import pure_dp, renyi
from fl_research.privacy.accountants import DEFAULT_ORDERS, accounted_relation
from fl_research.privacy.accounting_rules.registry import rule_from_dict
from fl_research.privacy.composition import relation_name
from fl_research.privacy.events import event_from_json, event_to_json
from fl_research.privacy.ledger import Entry, LedgerError, canonical_json, payloads
from fl_research.privacy.parts import releases_in
from fl_research.privacy.releases import Release
from fl_research.privacy.selection import (
    FixedTrials,
    RandomTrials,
    selection_divergences,
    selection_epsilon,
)
from fl_research.privacy.spending import plan_of, releases_of, rule_of, sampling_of
from fl_research.privacy.worst_case import worst_case

Events = list[dict[str, Any]]
"""The event of each kind of unit, as `events.event_to_json` writes it."""

_LEAST_TOLERANCE = 1e-4  # What a round emits in float32 may be that much cheaper than its plan.


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSpending:
    """What a search costs as a whole.

    Attributes:
      trials: How many trials it has.
      epsilon: Of choosing the best; infinite without a guarantee.
      costliest_epsilon: Of the costliest trial alone.
      delta: Of both; None where there is no guarantee.
      relation: The neighbouring relation, such as "add_or_remove_one".
    """

    trials: RandomTrials | FixedTrials
    epsilon: float
    costliest_epsilon: float
    delta: float | None
    relation: str


def search_spending(entries: Sequence[Entry]) -> SearchSpending:
    """Returns what the selection costs that a search's log or its excerpt records.

    Args:
      entries: Of search.jsonl, or the whole log of a search that has chosen.

    Raises:
      LedgerError: If the log lacks a trial, or says something impossible.
    """
    try:
        search, chosen = the_one(entries, "search"), the_one(entries, "chosen")
        trials, delta = trials_of(search), chosen["delta"]
        relation = relation_named(search["relation"])
        if isinstance(trials, RandomTrials):
            # Whoever sees the winner does not know which points were drawn.
            costs = [*(point["events"] for point in search["points"]), *chosen["costs"]]
        else:
            costs = _counted(entries, search, delta, relation)
        return spending_of_trials(costs, trials=trials, delta=delta, relation=relation)
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError(
            f"search log: {error!r} is missing or impossible; restore it from a copy"
        ) from error


def spending_of_trials(
    costs: Sequence[Events],
    *,
    trials: RandomTrials | FixedTrials,
    delta: float | None,
    relation: dp_accounting.NeighboringRelation,
) -> SearchSpending:
    """Returns what choosing the best of some trials costs.

    Args:
      costs: The events of every trial of a fixed number; of a random number, of each point of the
        grid.
      trials: How many trials there are.
      delta: In (0, 1), of the whole search; None where no trial has a guarantee.
      relation: The neighbouring relation.

    Raises:
      InputError: If the costs are not those of so many trials, or no accountant applies.
    """
    if isinstance(trials, FixedTrials) and trials.count != len(costs):
        raise InputError(f"count={trials.count} trials have {len(costs)} costs; give one for each")
    read = [[event_from_json(event) for event in trial] for trial in costs]
    each = {canonical_json(trial): events for trial, events in zip(costs, read, strict=True)}
    epsilon = costliest = math.inf
    if delta is not None:
        costliest = max(worst_case(e, delta, relation).claim.epsilon for e in each.values())
        if len(each) == 1:
            # Each kind of unit meets the same event in every trial.
            epsilon = max(
                selection_epsilon(event, delta=delta, relation=relation, trials=trials)
                for event in read[0]
            )
        elif isinstance(trials, FixedTrials) and all(len(events) == 1 for events in read):
            together = dp_accounting.ComposedDpEvent([events[0] for events in read])
            one = FixedTrials(count=1)
            epsilon = selection_epsilon(together, delta=delta, relation=relation, trials=one)
        else:
            epsilon = _bounded(read, list(each.values()), trials, delta, relation)
    return SearchSpending(
        trials=trials,
        epsilon=epsilon,
        costliest_epsilon=costliest,
        delta=delta,
        relation=relation_name(relation),
    )


def trial_events(entries: Sequence[Entry]) -> Events:
    """Returns what one trial counts as: its releases, and the planned rounds that it did not make.

    A trial that ended early counts in full, because why it did may depend on the data.

    Args:
      entries: The run's ledger.

    Raises:
      LedgerError: If the ledger contradicts itself.
    """
    plan, releases = plan_of(entries), releases_of(entries)
    released = {release.round_number for release in releases}
    planned, rounds = _planned_release(plan), range(1, plan["rounds_planned"] + 1)
    missing = [Release(number, planned) for number in rounds if number not in released]
    events = rule_of(entries).events([*releases, *missing], sampling_of(entries))
    return [event_to_json(event) for event in events]


def planned_events(plan: Mapping[str, Any]) -> Events:
    """Returns what all planned rounds of a run cost, from the plan that its ledger opens with.

    Raises:
      InputError: If the plan says something impossible.
    """
    events = rule_from_dict(plan["accounting_rule"]).planned_events(
        _planned_release(plan), plan["rounds_planned"], sampling_from_dict(plan["sampling"])
    )
    return [event_to_json(event) for event in events]


def trials_of(search: Mapping[str, Any]) -> RandomTrials | FixedTrials:
    """Returns how many trials a log's "search" entry plans.

    Raises:
      InputError: If it says something impossible.
    """
    if search["kind"] == "grid":
        return FixedTrials(count=len(search["points"]))
    shape = search["shape"]
    return RandomTrials(mean=search["mean"], shape=math.inf if shape == "infinity" else shape)


def relation_named(name: str) -> dp_accounting.NeighboringRelation:
    """Returns the relation that `composition.relation_name` wrote.

    Raises:
      InputError: If there is none of this name.
    """
    relations = {relation_name(r): r for r in dp_accounting.NeighboringRelation}
    if name not in relations:
        raise InputError(f"relation={name!r} is unknown; take one of {', '.join(relations)}")
    return relations[name]


def the_one(entries: Sequence[Entry], kind: str) -> Mapping[str, Any]:
    """Returns the payload of the only entry of a kind.

    Raises:
      LedgerError: If there is none, or more than one.
    """
    found = payloads(entries, kind)
    if len(found) != 1:
        raise LedgerError(
            f"search log: it has {len(found)} entries of kind {kind!r} where one belongs; restore "
            "it from a copy"
        )
    return found[0]


def _planned_release(plan: Mapping[str, Any]) -> dp_accounting.DpEvent:
    """What each planned round emits."""
    expected = plan.get("expected_release_event")
    return dp_accounting.NonPrivateDpEvent() if expected is None else event_from_json(expected)


def _counted(
    entries: Sequence[Entry],
    search: Mapping[str, Any],
    delta: float | None,
    relation: dp_accounting.NeighboringRelation,
) -> list[Events]:
    """What each trial of a grid cost; none less than was planned for it."""
    finished = {trial["run"]: trial for trial in payloads(entries, "trial_finished")}
    planned = the_one(entries, "trials")["trials"]
    if sorted(trial["point"] for trial in planned) != list(range(len(search["points"]))):
        raise LedgerError("search log: it does not plan each point once; restore it from a copy")
    costs: list[Events] = []
    for trial in planned:
        if trial["run"] not in finished:
            raise LedgerError(
                f"search log: trial {trial['run']} is not in it; restore it from a copy"
            )
        costs.append(finished[trial["run"]]["events"])
        least = _claim(search["points"][trial["point"]]["events"], delta, relation)
        if _claim(costs[-1], delta, relation) < least * (1 - _LEAST_TOLERANCE):
            raise LedgerError(
                f"search log: trial {trial['run']} costs less than was planned for it; restore it "
                "from a copy"
            )
    return costs


def _claim(
    events: Events, delta: float | None, relation: dp_accounting.NeighboringRelation
) -> float:
    """Epsilon of one trial."""
    if delta is None:
        return math.inf
    return worst_case([event_from_json(e) for e in events], delta, relation).claim.epsilon


def _bounded(
    read: Sequence[Sequence[dp_accounting.DpEvent]],
    distinct: Sequence[Sequence[dp_accounting.DpEvent]],
    trials: RandomTrials | FixedTrials,
    delta: float,
    relation: dp_accounting.NeighboringRelation,
) -> float:
    """Epsilon where trials or units differ, by the largest divergence at each order."""
    relation = accounted_relation(relation)
    if isinstance(trials, FixedTrials):
        total = np.sum([_largest(events, relation) for events in read], axis=0)
        return renyi.epsilon_of(total, DEFAULT_ORDERS, delta)
    events = [event for trial in distinct for event in trial]
    one_trial = _largest(events, relation)
    if not np.isfinite(one_trial).any():
        return math.inf
    if trials.mean == 1 and math.isfinite(trials.shape):  # There is always one trial.
        return renyi.epsilon_of(one_trial, DEFAULT_ORDERS, delta)
    together = selection_divergences(one_trial, DEFAULT_ORDERS, trials)
    epsilon = renyi.epsilon_of(together, DEFAULT_ORDERS, delta)
    pure = [pure_dp.basic_epsilon(releases_in(event), relation) for event in events]
    known = [value for value in pure if value is not None]
    if len(known) < len(pure):
        return epsilon
    return min(epsilon, (2 + trials.shape) * max(known))


def _largest(
    events: Sequence[dp_accounting.DpEvent], relation: dp_accounting.NeighboringRelation
) -> np.ndarray:
    """float64[orders]: at each order the largest Rényi divergence of these events."""
    curves = [renyi.divergences(releases_in(event), relation, DEFAULT_ORDERS) for event in events]
    known = [curve for curve in curves if curve is not None]
    if len(known) < len(curves):
        raise InputError("no accountant applies to some trials; search among other mechanisms")
    return np.max(known, axis=0)
