"""What a ledger's releases cost: the one way from recorded releases to epsilon.

The training loop, the report and its verification all come here. Each release counts with the
event that it emitted; a repeated round counts again; a round that was started and never released
does not count. The plan gives the sampler and delta; its expected event is checked against every
emitted one and is never used in place of it.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import dp_accounting

from fl_research.data.client_sampling import ClientSampling, sampling_from_dict
from fl_research.errors import InputError
from fl_research.privacy import accounting
from fl_research.privacy.accountants import ACCOUNTANT_DESCRIPTIONS, Claim, EpsilonByAccountant
from fl_research.privacy.accounting_rules.registry import rule_from_dict
from fl_research.privacy.accounting_rules.rule import AccountingRule
from fl_research.privacy.events import event_from_json, event_to_json, events_agree
from fl_research.privacy.ledger import Entry, LedgerError, payloads
from fl_research.privacy.parts import releases_in
from fl_research.privacy.releases import Release
from fl_research.privacy.worst_case import WorstCase, worst_case, worst_rough_epsilon

EVENT_TOLERANCE = 1e-5
"""How far what a round emits in float32 may be from what was planned, relatively."""

_RESTORE = "; restore the ledger from a copy"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spending:
    """What the releases in a ledger cost so far.

    Attributes:
      private: Whether there is a guarantee; without one every epsilon here is infinite.
      claim: The epsilon that is stated; infinite without a guarantee.
      epsilon_by_accountant: As `accountants.epsilon_by_accountant`.
      epsilon_without_amplification: Had every unit taken part in each release; the largest.
      zcdp_rho: Rho of zero-concentrated DP, likewise without amplification.
      delta: None only where there is no guarantee.
      relation: The neighbouring relation, such as "add_or_remove_one".
      sensitivity_in_clips: L2 sensitivity of the noised sum in clip norms.
      event: All releases together, for the unit that they concern most at this delta.
      events: The same for each kind of unit that may be concerned most by another measure.
      unit: What the guarantee is for: a "client", or one "record" of a client.
      amplified: Whether sampling lowers epsilon.
      releases: All releases, repeated ones included.
      repeated: Releases of a round beyond its first.
      failed: Calls of a round that were started and never released.
    """

    private: bool
    claim: Claim
    epsilon_by_accountant: EpsilonByAccountant
    epsilon_without_amplification: float
    zcdp_rho: float
    delta: float | None
    relation: str
    sensitivity_in_clips: float
    event: dp_accounting.DpEvent
    events: tuple[dp_accounting.DpEvent, ...]
    unit: str
    amplified: bool
    releases: int
    repeated: int
    failed: int


def spending_of(entries: Sequence[Entry]) -> Spending:
    """Returns what the releases in a ledger cost.

    Args:
      entries: All entries, from `ledger.read_ledger` or `Ledger.entries`.

    Raises:
      LedgerError: If the plan is missing or says something impossible, or a release is not the one
        that was planned.
    """
    releases = releases_of(entries)
    events, delta, relation = _accountable(entries, releases)
    _, sensitivity_in_clips = relation_of(entries)
    planned_noise = plan_of(entries).get("expected_release_event") is not None
    worst = _worst(events, delta, relation)
    event, claim = worst.event, worst.claim
    unsampled = math.inf
    if delta is not None:
        unsampled = max(
            accounting.epsilon_without_amplification(e, delta, relation) for e in events
        )
    rounds = collections.Counter(release.round_number for release in releases)
    return Spending(
        private=math.isfinite(claim.epsilon) and (planned_noise or bool(releases)),
        claim=claim,
        epsilon_by_accountant=worst.epsilon_by_accountant,
        epsilon_without_amplification=unsampled,
        zcdp_rho=max(accounting.zcdp_rho(e) for e in events),
        delta=delta,
        relation=accounting.relation_name(relation),
        sensitivity_in_clips=sensitivity_in_clips,
        event=event,
        events=tuple(events),
        unit=rule_of(entries).unit,
        amplified=any(_is_amplified(e) for e in events),
        releases=len(releases),
        repeated=len(releases) - len(rounds),
        failed=len(_calls(entries, "round_started") - _calls(entries, "release")),
    )


def claim_of(entries: Sequence[Entry]) -> Claim:
    """Returns the claim of `spending_of` alone, for a fraction of its cost.

    Raises:
      LedgerError: As `spending_of`.
    """
    return _worst(*_accountable(entries, releases_of(entries))).claim


def epsilon_bound_of(entries: Sequence[Entry]) -> float:
    """Returns a bound on the claimed epsilon in milliseconds: for a look while a run lasts.

    Not below the claim, and seldom more than 0.1 % above it; see `accountants.rough_epsilon`.

    Raises:
      LedgerError: As `spending_of`.
    """
    events, delta, relation = _accountable(entries, releases_of(entries))
    return math.inf if delta is None else worst_rough_epsilon(events, delta, relation)


def _accountable(
    entries: Sequence[Entry], releases: Sequence[Release]
) -> tuple[list[dp_accounting.DpEvent], float | None, dp_accounting.NeighboringRelation]:
    """The events of all that counts, delta (None: no release has noise) and the relation."""
    plan = plan_of(entries)
    relation, _ = relation_of(entries)
    counting = [*releases, *_still_possible(plan, releases)]
    try:
        events = rule_of(entries).events(counting, sampling_of(entries))
    except InputError as error:
        raise LedgerError(f"ledger: {error}") from error
    delta = plan.get("delta")
    planned_noise = plan.get("expected_release_event") is not None
    if delta is None and (planned_noise or any(map(_has_noise, events))):
        raise LedgerError(
            f"ledger plan: delta is missing, without which a release has no epsilon{_RESTORE}"
        )
    return events, delta, relation


def _worst(
    events: Sequence[dp_accounting.DpEvent],
    delta: float | None,
    relation: dp_accounting.NeighboringRelation,
) -> WorstCase:
    """The claim by the worst of the events; infinite without a delta."""
    if delta is not None:
        return worst_case(events, delta, relation)
    infinite: EpsilonByAccountant = dict.fromkeys(ACCOUNTANT_DESCRIPTIONS, math.inf)
    return WorstCase(
        event=events[0],
        epsilon_by_accountant=infinite,
        claim=accounting.claimed_epsilon(infinite),
    )


def _still_possible(plan: Mapping[str, Any], releases: Sequence[Release]) -> list[Release]:
    """The planned rounds without a release that count all the same.

    Where a run may finish early, its last round depends on the models that it released. An epsilon
    of the rounds up to there would be no guarantee; that of all planned rounds is (Rogers et al.
    2016, "Privacy odometers and filters").
    """
    expected = plan.get("expected_release_event")
    if not plan.get("early_finish") or expected is None:
        return []
    released = {release.round_number for release in releases}
    event = event_from_json(expected)
    rounds = range(1, plan["rounds_planned"] + 1)
    return [Release(number, event) for number in rounds if number not in released]


def plan_of(entries: Sequence[Entry]) -> Mapping[str, Any]:
    """Returns the plan that the ledger opens with.

    Raises:
      LedgerError: If the first entry is no plan.
    """
    if not entries or entries[0].kind != "plan":
        raise LedgerError(
            f"ledger: the first entry is no plan, without which nothing can be accounted{_RESTORE}"
        )
    return entries[0].payload


def sampling_of(entries: Sequence[Entry]) -> ClientSampling:
    """Returns the sampler that the plan names.

    Raises:
      LedgerError: If the plan or its sampler is missing or impossible.
    """
    sampling = plan_of(entries).get("sampling")
    if not isinstance(sampling, Mapping):
        raise LedgerError(f"ledger plan: sampling={sampling!r} names no sampler{_RESTORE}")
    try:
        return sampling_from_dict(sampling)
    except InputError as error:
        raise LedgerError(f"ledger plan: {error}") from error


def rule_of(entries: Sequence[Entry]) -> AccountingRule:
    """Returns the rule by which the releases add up.

    Raises:
      LedgerError: If the plan's rule is missing or impossible.
    """
    rule = plan_of(entries).get("accounting_rule")
    if not isinstance(rule, Mapping):
        raise LedgerError(f"ledger plan: accounting_rule={rule!r} names no rule{_RESTORE}")
    try:
        return rule_from_dict(rule)
    except (InputError, TypeError, ValueError, KeyError) as error:
        raise LedgerError(f"ledger plan: accounting_rule: {error}") from error


def relation_of(
    entries: Sequence[Entry],
) -> tuple[dp_accounting.NeighboringRelation, float]:
    """Returns the neighbouring relation and the sum's L2 sensitivity in clip norms.

    Raises:
      LedgerError: If the plan names another relation than the one that follows from its sampler.
    """
    sampling = sampling_of(entries)
    relation, sensitivity_in_clips = rule_of(entries).relation(sampling)
    name = accounting.relation_name(relation)
    stated = plan_of(entries).get("neighboring_relation", name)
    if stated != name:
        raise LedgerError(
            f"ledger plan: neighboring_relation={stated!r} does not go with {sampling.name} "
            f"sampling and the accounting rule, which give {name!r}{_RESTORE}"
        )
    return relation, sensitivity_in_clips


def releases_of(entries: Sequence[Entry]) -> list[Release]:
    """Returns all releases in order, each checked against the plan's expected event.

    Raises:
      LedgerError: If a release lacks its round or event, has an unreadable event, or one that
        differs from the plan's by more than `EVENT_TOLERANCE`; names the entry.
    """
    expected_json = plan_of(entries).get("expected_release_event")
    try:
        expected = None if expected_json is None else event_from_json(expected_json)
    except InputError as error:
        raise LedgerError(f"ledger plan: expected_release_event: {error}") from error
    return [_release(entry, expected) for entry in entries if entry.kind == "release"]


def _release(entry: Entry, expected: dp_accounting.DpEvent | None) -> Release:
    """One release of the ledger."""
    where = f"ledger entry {entry.index} (release)"
    try:
        event = event_from_json(entry.payload["event"])
        round_number = entry.payload["round"]
    except KeyError as error:
        raise LedgerError(f"{where}: {error} is missing{_RESTORE}") from error
    except InputError as error:
        raise LedgerError(f"{where}: {error}") from error
    if expected is not None and not events_agree(
        event, expected, relative_tolerance=EVENT_TOLERANCE
    ):
        raise LedgerError(
            f"{where}: the round emitted {event_to_json(event)} where the plan expects "
            f"{event_to_json(expected)}; do not rely on this run"
        )
    return Release(round_number=round_number, event=event)


def _calls(entries: Sequence[Entry], kind: str) -> set[tuple[Any, Any]]:
    """Round and attempt of all entries of one kind."""
    return {(call.get("round"), call.get("attempt")) for call in payloads(entries, kind)}


def _is_amplified(event: dp_accounting.DpEvent) -> bool:
    """Whether any release is one of a sampled cohort."""
    return any(hasattr(leaf, "event") for leaf, _ in releases_in(event))


def _has_noise(event: dp_accounting.DpEvent) -> bool:
    """Whether any release added noise."""
    return any(
        not isinstance(leaf, dp_accounting.NonPrivateDpEvent) for leaf, _ in releases_in(event)
    )
