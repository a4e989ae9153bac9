"""What a ledger of an honest run looks like inside: plan, order of rounds, cohorts, noise.

The chain of hashes says that nobody changed an entry; these checks say that the entries tell one
story: the relation follows from the sampler, every release was announced, no round is missing, the
cohorts have the sizes that the sampler draws, and the noise is the one that was planned. What
`spending` checks before it accounts is not checked again here: it raises LedgerError.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dp_accounting

from fl_research.privacy.ledger import Entry
from fl_research.privacy.spending import (
    EVENT_TOLERANCE,
    plan_of,
    relation_of,
    releases_of,
    sampling_of,
)
from fl_research.run import cohort_seed
from fl_research.run.run_directory import LEDGER

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
    """Yields what is wrong with the plan: its place, its sensitivity.

    Raises:
      LedgerError: If its relation does not go with its sampler.
    """
    plans = [entry.index for entry in entries if entry.kind == "plan"]
    if plans != [0]:
        yield _mismatch("plan", "one plan, as entry 0", f"plans as entries {plans}")
        return
    plan = plan_of(entries)
    _, sensitivity_in_clips = relation_of(entries)
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
    sampling = sampling_of(entries)
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
    seed = _seed_of_cohorts(plan_of(entries)["seeds"], folder)
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
    if _seed_of_cohorts(plan_of(entries)["seeds"], folder) is None:
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
    """Yields releases whose noise is not the noise multiplier of their event times the clip.

    Raises:
      LedgerError: If a release's event is not the planned one.
    """
    entries_of_releases = [entry for entry in entries if entry.kind == "release"]
    for entry, release in zip(entries_of_releases, releases_of(entries), strict=True):
        clip, stddev = entry.payload["clip_norm"], entry.payload["noise_stddev_of_sum"]
        multiplier = _update_multiplier(release.event)
        if multiplier is None or clip is None or stddev is None:
            continue
        if not math.isclose(stddev, multiplier * clip, rel_tol=EVENT_TOLERANCE):
            where = f"entry {entry.index} (release).noise_stddev_of_sum"
            yield _mismatch(where, multiplier * clip, stddev)


def _call_mismatches(
    where: str, announced: Mapping[str, Any], released: Mapping[str, Any]
) -> Iterator[Mismatch]:
    """Compares a release with the call that announced it."""
    for name in ("expected_cohort_size", "cohort_size"):
        if announced[name] != released[name]:
            yield _mismatch(f"{where}.{name}", announced[name], released[name])


def _update_multiplier(event: dp_accounting.DpEvent) -> float | None:
    """Noise on the update over the clip norm, of the event or of the first of several."""
    if isinstance(event, dp_accounting.ComposedDpEvent) and event.events:
        event = event.events[0]
    if isinstance(event, dp_accounting.LaplaceDpEvent):
        # Its multiplier is that of the scale, and the standard deviation is what is recorded.
        return math.sqrt(2.0) * event.noise_multiplier
    return event.noise_multiplier if isinstance(event, dp_accounting.GaussianDpEvent) else None


def _mismatch(where: str, expected: Any, found: Any) -> Mismatch:
    """A mismatch in the ledger."""
    return Mismatch(where=f"{LEDGER} {where}", expected=str(expected), found=str(found))
