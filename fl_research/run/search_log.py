"""The log of a hyperparameter search: what was to be tried, what was, and which run was chosen.

`NAME.search.jsonl` beside the runs' folders is a chain of hashes like a run's ledger: "search" says
what is searched and what each point of the grid would cost; "trials" names the run folders and
their points, all of them before the first one trains; "trial_started" is written by a run before
its ledger, and the plan of that ledger carries the entry's hash; "trial_finished" holds what the
trial cost and how good it was; "chosen" ends the search. So no run of a search can be left out:
its folder names an entry, the entries are chained, and nothing is chosen while a planned trial is
not counted. Not caught is who throws a whole search away and begins another under a new name, or
cuts the end of the log off together with the folders that it is about: as with every ledger, only
whoever kept the last hash can tell.

How often a search with a random number of trials has looked must stay secret, or epsilon of the
selection does not hold: its runs have random names, each of its entries holds random bits so that a
hash tells nothing, and the chosen run's folder gets an excerpt instead of the log. The log itself,
the folders of the other runs, and when files were written must then not be published.
"""

import dataclasses
import hashlib
import math
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fl_research.errors import InputError
from fl_research.metric_table import sign
from fl_research.privacy.events import event_from_json, events_agree
from fl_research.privacy.ledger import (
    FIRST_PREVIOUS,
    Entry,
    Ledger,
    LedgerError,
    canonical_json,
    payloads,
    read_ledger,
)
from fl_research.privacy.search_spending import planned_events, the_one, trial_events, trials_of
from fl_research.privacy.selection import RandomTrials
from fl_research.privacy.spending import plan_of, releases_of
from fl_research.run.durable_files import write_atomically
from fl_research.run.record_files import read_metrics
from fl_research.run.run_directory import LEDGER, METRICS

SEARCH = "search.jsonl"
"""What the chosen run's folder holds: a copy of the log, or an excerpt of it."""

COMPLETED, FAILED, LOST = "completed", "failed", "lost"

_PLAN_TOLERANCE = 1e-9
_WITHHELD = "withheld"


def log_path(output_dir: Path, name: str) -> Path:
    """Returns where the log of a search is."""
    return output_dir / f"{name}.search.jsonl"


def begin(
    output_dir: Path, search: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]
) -> tuple[Entry, ...]:
    """Begins a log, or goes on with one of the same search; returns its entries.

    Args:
      output_dir: Folder of all runs.
      search: The "search" entry, see `experiments.search_hyperparameters`.
      trials: Each trial's `run` (name of its folder) and `point` (of the grid). Not used where the
        log is begun.

    Raises:
      InputError: If the log is that of another search.
      LedgerError: If its chain is broken.
    """
    path = log_path(output_dir, search["name"])
    if not path.exists():
        output_dir.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    with Ledger.open(path) as log:
        if not log.entries:
            log.append("search", search)
        for key, value in the_one(log.entries, "search").items():
            if search.get(key) != value and key in search:
                raise InputError(
                    f"{path} was begun with {key}={value}, now it is {search[key]}; give the "
                    "search another --search name"
                )
        if not payloads(log.entries, "trials"):
            log.append("trials", {"trials": list(trials), "random": secrets.token_hex(16)})
        return log.entries


def register(
    name: str, folder: Path, ledger: Sequence[Entry], plan: Mapping[str, Any]
) -> dict[str, Any]:
    """Enters a run into the log of its search, before its ledger begins; returns its plan's part.

    Args:
      name: Of the search.
      folder: The run's.
      ledger: The run's ledger so far; without entries for a new run.
      plan: What the ledger will open with.

    Returns:
      The search's name, the hash of the entry that says that this run was started, its point of
      the grid, and `search_sha256`.

    Raises:
      InputError: If the search does not plan this run, or plans it otherwise.
      LedgerError: If the log lacks a run that has begun.
    """
    path = log_path(folder.parent, name)
    if not path.exists():
        raise InputError(
            f"--search={name}: there is no {path}, which would count this run; begin the search "
            "with experiments.search_hyperparameters"
        )
    with Ledger.open(path) as log:
        point = _planned_point(log.entries, name, folder.name)
        started = _started(log.entries).get(folder.name)
        if ledger:
            _require_entry(plan_of(ledger), started, path, folder)
        if _finished(log.entries).get(folder.name):
            raise InputError(
                f"--search={name}: {folder.name} was counted as it was and cannot go on; choose "
                "from the search, or begin another one"
            )
        if started is None:
            _require_same_cost(name, plan, the_one(log.entries, "search")["points"][point])
            started = log.append(
                "trial_started",
                {"run": folder.name, "point": point, "random": secrets.token_hex(16)},
            )
        elif not ledger:
            raise InputError(
                f"--search={name}: {folder.name} was started before, but its {LEDGER} is gone; "
                "run experiments.search_hyperparameters again, which counts it as lost"
            )
        return {
            "name": name,
            "log_head": started.hash,
            "point": point,
            "search_sha256": search_sha256(the_one(log.entries, "search")),
        }


def finish(output_dir: Path, name: str, run: str, *, status: str) -> Mapping[str, Any]:
    """Enters what a trial cost and how good it was; returns that.

    Args:
      output_dir: Folder of all runs.
      name: Of the search.
      run: The trial's folder.
      status: `COMPLETED`, `FAILED`, or `LOST` for a folder without a ledger. All but the first
        count with all planned rounds, and have no metric.

    Raises:
      InputError: If the trial is not one that was started, or is counted already.
      LedgerError: If the run's ledger is broken or names another entry.
    """
    path = log_path(output_dir, name)
    folder = output_dir / run
    with Ledger.open(path) as log:
        started = _started(log.entries).get(run)
        if started is None or run in _finished(log.entries):
            raise InputError(f"{run} is no open trial of search {name}; run the search again")
        search = the_one(log.entries, "search")
        point = search["points"][started.payload["point"]]
        fact: dict[str, Any] = {"run": run, "status": status, "random": secrets.token_hex(16)}
        if status == LOST:
            fact |= {"ledger_head": None, "events": point["events"], "delta": point["delta"]}
            fact |= {"metric": None, "repeated": False}
        else:
            entries = read_ledger(folder / LEDGER)
            _require_entry(plan_of(entries), started, path, folder)
            rounds = [release.round_number for release in releases_of(entries)]
            fact |= {
                "ledger_head": entries[-1].hash,
                "events": trial_events(entries),
                "delta": plan_of(entries).get("delta"),
                "metric": last_metric(folder, search["metric"]) if status == COMPLETED else None,
                "repeated": len(rounds) > len(set(rounds)),
            }
        return log.append("trial_finished", fact).payload


def choose(output_dir: Path, name: str) -> str | None:
    """Chooses the best trial and puts what shows it into its folder; again where it was chosen.

    Args:
      output_dir: Folder of all runs.
      name: Of the search.

    Returns:
      The chosen run's folder; None where no trial has a metric: then nothing is chosen.

    Raises:
      InputError: If a planned trial is not counted yet, or the chosen folder is gone.
      LedgerError: If the log was cut or changed, or lacks a run.
    """
    entries = check(output_dir, name)
    planned = [trial["run"] for trial in the_one(entries, "trials")["trials"]]
    finished = _finished(entries)
    for run in planned:
        if run not in finished:
            raise InputError(
                f"search {name}: trial {run} is not counted yet; run the search again to go on"
            )
    scored = [finished[run] for run in planned if finished[run]["metric"] is not None]
    if not scored:
        return None
    metric = the_one(entries, "search")["metric"].removeprefix("validation_")
    best = max(scored, key=lambda trial: sign(metric) * trial["metric"])
    folder = output_dir / best["run"]
    if not folder.is_dir():
        raise InputError(f"{folder} is the best trial of search {name}, but gone; restore it")
    with Ledger.open(log_path(output_dir, name)) as log:
        if not payloads(log.entries, "chosen"):
            log.append("chosen", _choice(log.entries, best))
        write_atomically(folder / SEARCH, _shown(log.entries))
    return str(best["run"])


def check(output_dir: Path, name: str) -> Sequence[Entry]:
    """Checks a log against the folders beside it; returns its entries.

    Raises:
      LedgerError: If the chain is broken, a folder's run is not in the log, or a folder's ledger is
        not the one that was counted.
    """
    path = log_path(output_dir, name)
    entries = read_ledger(path)
    started, finished = _started(entries), _finished(entries)
    by_hash = {entry.hash: run for run, entry in started.items()}
    for ledger_path in sorted(output_dir.glob(f"*/{LEDGER}")):
        if f'"name":{canonical_json(name).decode()}' not in _first_line(ledger_path):
            continue
        ledger = read_ledger(ledger_path)
        membership = plan_of(ledger).get("search") or {}
        if membership.get("name") != name:
            continue
        run = by_hash.get(str(membership.get("log_head")))
        if run is None:
            raise LedgerError(
                f"{path} lacks the run in {ledger_path.parent}, which belongs to it; restore the "
                "log from a copy"
            )
        counted = finished.get(run)
        if counted is not None and not is_counted(ledger, counted["ledger_head"]):
            raise LedgerError(
                f"{ledger_path} is not the ledger that {path} counted for {run}; restore it from "
                "a copy"
            )
    return entries


def is_counted(ledger: Sequence[Entry], head: str | None) -> bool:
    """Whether a ledger is the one with this head, and released nothing after it."""
    hashes = [entry.hash for entry in ledger]
    if head not in hashes:
        return False
    return not payloads(ledger[hashes.index(head) + 1 :], "release")


def search_sha256(search: Mapping[str, Any]) -> str:
    """Returns the digest of a "search" entry, by which a run's ledger vouches for what it says."""
    return hashlib.sha256(canonical_json(dict(search))).hexdigest()


def counted_trials(entries: Sequence[Entry]) -> Mapping[str, Mapping[str, Any]]:
    """Returns what each counted trial cost and how good it was, by run."""
    return _finished(entries)


def is_started(entries: Sequence[Entry], run: str) -> bool:
    """Whether the log says that a trial was started."""
    return run in _started(entries)


def last_metric(folder: Path, column: str) -> float | None:
    """Returns the last value of a column of metrics.csv; None where it was never evaluated."""
    if not (folder / METRICS).exists():
        return None
    stated = [row.get(column) for row in read_metrics(folder / METRICS)]
    values = [float(value) for value in stated if value is not None and value != ""]
    return values[-1] if values and math.isfinite(values[-1]) else None


def _planned_point(entries: Sequence[Entry], name: str, run: str) -> int:
    """The point of the grid that the log plans for a run."""
    for trial in the_one(entries, "trials")["trials"]:
        if trial["run"] == run:
            return int(trial["point"])
    raise InputError(
        f"--search={name} plans no run {run}; leave --search out, or run trials with "
        "experiments.search_hyperparameters"
    )


def _started(entries: Sequence[Entry]) -> dict[str, Entry]:
    """The entries of started trials, by run."""
    return {e.payload["run"]: e for e in entries if e.kind == "trial_started"}


def _finished(entries: Sequence[Entry]) -> dict[str, Mapping[str, Any]]:
    """What is known of each counted trial, by run."""
    return {payload["run"]: payload for payload in payloads(entries, "trial_finished")}


def _require_entry(
    plan: Mapping[str, Any], started: Entry | None, path: Path, folder: Path
) -> None:
    """Raises unless a run's plan names the log's entry about it."""
    named = (plan.get("search") or {}).get("log_head")
    if started is None or named != started.hash:
        raise LedgerError(
            f"{path} has no entry {named} for the run in {folder}; restore the log from a copy"
        )


def _require_same_cost(name: str, plan: Mapping[str, Any], point: Mapping[str, Any]) -> None:
    """Raises if a run would cost something else than the search says of its point."""
    if plan["seeds"]["noise"] != "fresh entropy":
        raise InputError(
            f"--search={name}: with --noise_seed all trials get the same noise, and their epsilons "
            "do not add up; leave --noise_seed out"
        )
    now = [event_from_json(event) for event in planned_events(plan)]
    then = [event_from_json(event) for event in point["events"]]
    stated = ("delta", "unit", "neighboring_relation")
    differs = [key for key in stated if point[key] != plan.get(key)]
    alike = len(now) == len(then) and all(
        events_agree(a, b, relative_tolerance=_PLAN_TOLERANCE)
        for a, b in zip(now, then, strict=True)
    )
    if differs or not alike:
        what = ", ".join(differs) or "cost"
        raise InputError(
            f"--search={name}: this run has another {what} than the search planned for it (have "
            "flags or data changed?); begin another search"
        )


def _choice(entries: Sequence[Entry], best: Mapping[str, Any]) -> dict[str, Any]:
    """The "chosen" entry; of a random number of trials it tells nothing about the others.

    But one: a trial that released a round twice costs more than its point says, and then counts.
    """
    costs = [best["events"]]
    costs += [t["events"] for t in _finished(entries).values() if t["repeated"] and t != best]
    entry = _started(entries)[best["run"]]
    return {
        "run": best["run"],
        "entry": entry.hash,
        "point": entry.payload["point"],
        "ledger_head": best["ledger_head"],
        "metric": best["metric"],
        "delta": best["delta"],
        "costs": costs,
    }


def _shown(entries: Sequence[Entry]) -> bytes:
    """What search.jsonl holds: the log, or where trials are secret two entries without times."""
    if isinstance(trials_of(the_one(entries, "search")), RandomTrials):
        excerpt: list[Entry] = []
        for kind in ("search", "chosen"):
            body: dict[str, Any] = {
                "index": len(excerpt),
                "kind": kind,
                "time": _WITHHELD,
                "payload": dict(the_one(entries, kind)),
                "previous": excerpt[-1].hash if excerpt else FIRST_PREVIOUS,
            }
            digest = hashlib.sha256(canonical_json(body)).hexdigest()
            excerpt.append(Entry(**body, hash=digest))
        entries = excerpt
    return b"".join(canonical_json(dataclasses.asdict(entry)) + b"\n" for entry in entries)


def _first_line(path: Path) -> str:
    """The plan's line of a ledger, unread; the chain is checked where it matters."""
    with path.open("rb") as file:
        return file.readline().decode("utf-8", "replace")
