"""What a ledger of an honest run looks like inside: plan, order of rounds, cohorts, noise.

The chain of hashes says that nobody changed an entry; these checks say that the entries tell one
story: the relation follows from the sampler, every release was announced, no round is missing, the
cohorts have the sizes that the sampler draws, and the noise is the one that was planned.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dp_accounting

from fl_research.data.client_sampling import sampling_from_dict
from fl_research.privacy import accounting, events
from fl_research.privacy.ledger import Entry
from fl_research.run import cohort_seed

LEDGER = "ledger.jsonl"

# What the round's computation emits is float32.
_NOISE_TOLERANCE = 1e-5
_COHORTS_DRAWN_AGAIN = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mismatch:
    """One thing that is not as it should be.

    Attributes:
        where: File and field.
        expected: What the other records say.
        found: What stands there.
    """

    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        """One line for the terminal."""
        return f"{self.where}: expected {self.expected}, found {self.found}"


def plan_mismatches(entries: Sequence[Entry]) -> Iterator[Mismatch]:
    """Yields what is wrong with the plan: its place, its relation, its sensitivity."""
    plans = [entry.index for entry in entries if entry.kind == "plan"]
    if plans != [0]:
        yield _mismatch("plan", "one plan, as entry 0", f"plans as entries {plans}")
        return
    plan = entries[0].payload
    relation, sensitivity_in_clips = accounting.relation_for(sampling_from_dict(plan["sampling"]))
    name = accounting.relation_name(relation)
    if plan["neighboring_relation"] != name:
        yield _mismatch("plan.neighboring_relation", name, plan["neighboring_relation"])
    clip = plan["details"].get("clip_norm")
    expected = None if clip is None else sensitivity_in_clips * clip
    if plan["sensitivity"] != expected:
        yield _mismatch("plan.sensitivity", expected, plan["sensitivity"])


def order_mismatches(entries: Sequence[Entry]) -> Iterator[Mismatch]:
    """Yields rounds that are missing, releases that were not announced, and a missing end."""
    announced: Mapping[str, Any] | None = None
    attempts: dict[int, int] = {}
    highest = 0
    for entry in entries:
        if entry.kind not in ("round_started", "release"):
            continue
        number, attempt = entry.payload["round"], entry.payload["attempt"]
        where = f"entry {entry.index} ({entry.kind})"
        if entry.kind == "release":
            if announced is None or (announced["round"], announced["attempt"]) != (number, attempt):
                yield _mismatch(
                    where, f"round {number} attempt {attempt} announced just before", "it is not"
                )
            else:
                yield from _call_mismatches(where, announced, entry.payload)
                highest = max(highest, number)
            announced = None
            continue
        announced = entry.payload
        attempts[number] = attempts.get(number, 0) + 1
        if not 1 <= number <= highest + 1:
            yield _mismatch(where, f"round {highest + 1} or an earlier one", f"round {number}")
        if attempt != attempts[number]:
            yield _mismatch(where, f"attempt {attempts[number]}", f"attempt {attempt}")
    if entries[-1].kind != "completed":
        yield _mismatch("last entry", "completed", entries[-1].kind)


def cohort_mismatches(entries: Sequence[Entry], folder: Path) -> Iterator[Mismatch]:
    """Yields calls whose cohort has another size than the sampler draws from the run's seed.

    Draws at most 200 cohorts again, evenly over the run; none where their seed is secret and was
    taken out of the folder.
    """
    plan = entries[0].payload
    sampling = sampling_from_dict(plan["sampling"])
    calls = [entry for entry in entries if entry.kind == "round_started"]
    step = max(1, math.ceil(len(calls) / _COHORTS_DRAWN_AGAIN))
    for entry in calls:
        payload, where = entry.payload, f"entry {entry.index} ({entry.kind})"
        if payload["sampler"] != sampling.name:
            yield _mismatch(f"{where}.sampler", sampling.name, payload["sampler"])
        if payload["expected_cohort_size"] != sampling.expected_cohort_size:
            yield _mismatch(
                f"{where}.expected_cohort_size",
                sampling.expected_cohort_size,
                payload["expected_cohort_size"],
            )
    seed = _seed_of_cohorts(plan["seeds"], folder)
    if isinstance(seed, Mismatch):
        yield seed
    if not isinstance(seed, int):
        return
    for entry in calls[::step]:
        size = len(sampling.cohort(seed, entry.payload["round"]))
        if entry.payload["cohort_size"] != size:
            yield _mismatch(
                f"entry {entry.index} ({entry.kind}).cohort_size",
                size,
                entry.payload["cohort_size"],
            )


def cohort_finding(entries: Sequence[Entry], folder: Path) -> str:
    """Says what could be checked of the cohorts."""
    if _seed_of_cohorts(entries[0].payload["seeds"], folder) is None:
        return f"sizes not drawn again: {cohort_seed.FILE_NAME} is not in the folder"
    return "sizes as drawn again from the run's seed"


def _seed_of_cohorts(seeds: Mapping[str, Any], folder: Path) -> int | Mismatch | None:
    """The seed that the cohorts were drawn from; None where it is secret and not here."""
    if seeds["cohorts"] == "from --seed":
        return int(seeds["seed"])
    seed = cohort_seed.read_secret_seed(folder)
    if seed is None or cohort_seed.sha256(seed) == seeds["cohort_seed_sha256"]:
        return seed
    return _mismatch(
        cohort_seed.FILE_NAME, f"sha256 {seeds['cohort_seed_sha256']}", cohort_seed.sha256(seed)
    )


def noise_mismatches(entries: Sequence[Entry]) -> Iterator[Mismatch]:
    """Yields releases whose event is not the planned one, or not the noise over the clip."""
    plan = entries[0].payload
    expected = plan.get("expected_release_event")
    planned = None if expected is None else events.event_from_json(expected)
    for entry in entries:
        if entry.kind != "release":
            continue
        where = f"entry {entry.index} (release)"
        event = events.event_from_json(entry.payload["event"])
        if planned is not None and not events.events_agree(
            event, planned, relative_tolerance=_NOISE_TOLERANCE
        ):
            yield _mismatch(f"{where}.event", _short(planned), _short(event))
        clip, stddev = entry.payload["clip_norm"], entry.payload["noise_stddev_of_sum"]
        multiplier = _update_multiplier(event)
        if multiplier is None or clip is None or stddev is None:
            continue
        if not math.isclose(stddev, multiplier * clip, rel_tol=_NOISE_TOLERANCE):
            yield _mismatch(f"{where}.noise_stddev_of_sum", multiplier * clip, stddev)


def _call_mismatches(
    where: str, announced: Mapping[str, Any], released: Mapping[str, Any]
) -> Iterator[Mismatch]:
    """Compares a release with the call that announced it."""
    for name in ("expected_cohort_size", "cohort_size"):
        if announced[name] != released[name]:
            yield _mismatch(f"{where}.{name}", announced[name], released[name])


def _update_multiplier(event: dp_accounting.DpEvent) -> float | None:
    """The noise multiplier of the update: of the event, or of the first of several."""
    if isinstance(event, dp_accounting.ComposedDpEvent) and event.events:
        event = event.events[0]
    return event.noise_multiplier if isinstance(event, dp_accounting.GaussianDpEvent) else None


def _short(event: dp_accounting.DpEvent) -> str:
    """An event in a few words."""
    return str(events.event_to_json(event))


def _mismatch(where: str, expected: Any, found: Any) -> Mismatch:
    """A mismatch in the ledger."""
    return Mismatch(where=f"{LEDGER} {where}", expected=str(expected), found=str(found))
