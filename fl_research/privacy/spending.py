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
from fl_research.privacy.events import event_from_json, event_to_json, events_agree
from fl_research.privacy.ledger import Entry, LedgerError
from fl_research.privacy.releases import Release

EVENT_TOLERANCE = 1e-5
"""How far an emitted float32 event may be from the plan's, relatively."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spending:
    """What the releases in a ledger cost so far.

    Attributes:
      private: Whether there is a guarantee; without one every epsilon here is infinite.
      claim: The epsilon that is stated; infinite without a guarantee.
      epsilon_by_accountant: As `accounting.epsilon_by_accountant`.
      epsilon_without_amplification: Had every unit taken part in each release.
      delta: None only where there is no guarantee.
      relation: The neighbouring relation, such as "add_or_remove_one".
      sensitivity_in_clips: L2 sensitivity of the noised sum in clip norms.
      releases: All releases, repeated ones included.
      repeated: Releases of a round beyond its first.
      failed: Calls of a round that were started and never released.
    """

    private: bool
    claim: accounting.Claim
    epsilon_by_accountant: accounting.EpsilonByAccountant
    epsilon_without_amplification: float
    delta: float | None
    relation: str
    sensitivity_in_clips: float
    releases: int
    repeated: int
    failed: int


def spending_of(entries: Sequence[Entry]) -> Spending:
    """Returns what the releases in a ledger cost.

    Args:
      entries: All entries, from `ledger.read_ledger` or `Ledger.entries`.

    Raises:
      LedgerError: If the plan is missing or says something that can't be, or a release is not the
        one that was planned.
    """
    plan = plan_of(entries)
    sampling = sampling_of(entries)
    relation, sensitivity_in_clips = accounting.relation_for(sampling)
    name = accounting.relation_name(relation)
    if plan.get("neighboring_relation", name) != name:
        raise LedgerError(
            f"ledger plan: neighboring_relation={plan['neighboring_relation']!r} does not go with "
            f"{sampling.name} sampling, which gives {name!r}"
        )
    releases = releases_of(entries)
    event = accounting.compose(releases, sampling)
    planned_noise = plan.get("expected_release_event") is not None
    delta = plan.get("delta")
    if delta is None and (planned_noise or _has_noise(event)):
        raise LedgerError("ledger plan: delta is missing; without it a release has no epsilon")
    if delta is None:
        by_accountant: accounting.EpsilonByAccountant = dict.fromkeys(
            accounting.ACCOUNTANT_DESCRIPTIONS, math.inf
        )
        unsampled = math.inf
    else:
        by_accountant = accounting.epsilon_by_accountant(event, delta, relation)
        unsampled = accounting.epsilon_without_amplification(event, delta, relation)
    claim = accounting.claimed_epsilon(by_accountant)
    rounds = collections.Counter(release.round_number for release in releases)
    return Spending(
        private=math.isfinite(claim.epsilon) and (planned_noise or bool(releases)),
        claim=claim,
        epsilon_by_accountant=by_accountant,
        epsilon_without_amplification=unsampled,
        delta=delta,
        relation=name,
        sensitivity_in_clips=sensitivity_in_clips,
        releases=len(releases),
        repeated=len(releases) - len(rounds),
        failed=len(_calls(entries, "round_started") - _calls(entries, "release")),
    )


def plan_of(entries: Sequence[Entry]) -> Mapping[str, Any]:
    """Returns the plan that the ledger opens with.

    Raises:
      LedgerError: If the first entry is no plan.
    """
    if not entries or entries[0].kind != "plan":
        raise LedgerError("ledger: the first entry is no plan; nothing can be accounted without it")
    return entries[0].payload


def sampling_of(entries: Sequence[Entry]) -> ClientSampling:
    """Returns the sampler that the plan names.

    Raises:
      LedgerError: If the plan or its sampler is missing or can't be.
    """
    sampling = plan_of(entries).get("sampling")
    if not isinstance(sampling, Mapping):
        raise LedgerError(f"ledger plan: sampling={sampling!r} names no sampler")
    try:
        return sampling_from_dict(sampling)
    except InputError as error:
        raise LedgerError(f"ledger plan: {error}") from error


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
        raise LedgerError(f"{where}: {error} is missing") from error
    except InputError as error:
        raise LedgerError(f"{where}: {error}") from error
    if expected is not None and not events_agree(
        event, expected, relative_tolerance=EVENT_TOLERANCE
    ):
        raise LedgerError(
            f"{where}: the round emitted {event_to_json(event)} where the plan expects "
            f"{event_to_json(expected)}"
        )
    return Release(round_number=round_number, event=event)


def _calls(entries: Sequence[Entry], kind: str) -> set[tuple[Any, Any]]:
    """Round and attempt of all entries of one kind."""
    return {
        (entry.payload.get("round"), entry.payload.get("attempt"))
        for entry in entries
        if entry.kind == kind
    }


def _has_noise(event: dp_accounting.DpEvent) -> bool:
    """Whether any release added noise."""
    return any(
        not isinstance(leaf, dp_accounting.NonPrivateDpEvent)
        for leaf, _ in accounting.releases_in(event)
    )
