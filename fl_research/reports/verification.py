"""Checks a run's folder without TensorFlow: the ledger, the records, and the report made from them.

ε is recomputed from the ledger alone, the report is built again from the records, and both are
compared with what the folder holds. Each check is a name, what was found, and the mismatches.
"""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fl_research.errors import InputError
from fl_research.privacy.ledger import Entry, LedgerError, read_ledger
from fl_research.privacy.spending import spending_of
from fl_research.reports import ledger_checks, markdown, run_records, run_report, wording
from fl_research.reports.ledger_checks import Mismatch

RECORDS = ("flags.txt", run_records.RUN, run_records.METRICS, run_records.EVALUATION)
REPORTS = (run_report.REPORT_JSON, run_report.REPORT_MARKDOWN)

# ε comes out of Fourier transforms, whose last digits depend on the processor; all other numbers
# are copied or come from plain arithmetic and must be equal.
ACCOUNTING_TOLERANCE = 1e-6
_ACCOUNTED = ("privacy", "accounting")
_MOST_LINES = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One check and its outcome.

    Attributes:
        name: What was checked.
        finding: What was found, in a few words.
        mismatches: Empty where all is well.
    """

    name: str
    finding: str
    mismatches: tuple[Mismatch, ...] = ()


def verify(folder: Path) -> list[Check]:
    """Checks a run's folder.

    Args:
        folder: The run's folder.

    Returns:
        The checks that could be made, in order. A broken chain ends them: nothing else can be
        trusted then.

    Raises:
        InputError: The folder or one of its files is missing.
    """
    folder = Path(folder)
    _require_files(folder)
    try:
        entries = read_ledger(folder / run_records.LEDGER)
    except LedgerError as error:
        return [_failed("ledger chain", "an unbroken chain of hashes", str(error))]
    if not entries:
        return [_failed("ledger chain", "a plan and releases", "no entry")]
    chain = f"{len(entries)} entries, last hash {entries[-1].hash[:16]}…"
    checks = [Check(name="ledger chain", finding=chain)]
    for name, finding, mismatches in _checks(folder, entries):
        checks.append(_run(name, finding, mismatches))
    return checks


def _checks(
    folder: Path, entries: Sequence[Entry]
) -> Iterator[tuple[str, Callable[[], str], Callable[[], Iterator[Mismatch]]]]:
    """The checks after the chain's: name, what to say where all is well, mismatches."""
    kinds = [entry.kind for entry in entries]
    releases = kinds.count("release")
    yield (
        "plan",
        lambda: f"{entries[0].payload['mechanism']}, {entries[0].payload['sampling']['name']}",
        lambda: ledger_checks.plan_mismatches(entries),
    )
    yield (
        "rounds",
        lambda: f"{releases} releases, each announced, no round missing",
        lambda: ledger_checks.order_mismatches(entries),
    )
    yield (
        "cohorts",
        lambda: ledger_checks.cohort_finding(entries, folder),
        lambda: ledger_checks.cohort_mismatches(entries, folder),
    )
    yield (
        "noise",
        lambda: "every release's event as planned",
        lambda: ledger_checks.noise_mismatches(entries),
    )
    yield (
        "records",
        lambda: f"sha256 of {', '.join(RECORDS)}",
        lambda: _digest_mismatches(folder, entries),
    )
    yield "metrics.csv", lambda: "rounds of the ledger", lambda: _row_mismatches(folder, entries)
    yield "epsilon", lambda: _spent(entries), lambda: _epsilon_mismatches(folder, entries)
    yield "report.json", lambda: "as built again", lambda: _report_mismatches(folder)
    yield "report.md", lambda: "as rendered again", lambda: _markdown_mismatches(folder)


def _run(
    name: str, finding: Callable[[], str], mismatches: Callable[[], Iterator[Mismatch]]
) -> Check:
    """Makes one check; a record that can't be read is a mismatch, not the end."""
    try:
        found = tuple(mismatches())
        return Check(name=name, finding="mismatch" if found else finding(), mismatches=found)
    except InputError as error:
        return _failed(name, "readable records", str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return _failed(name, "records of the agreed form", f"{type(error).__name__}: {error}")


def _failed(name: str, expected: str, found: str) -> Check:
    """A check with one mismatch."""
    where = run_records.LEDGER if name == "ledger chain" else name
    mismatch = Mismatch(where=where, expected=expected, found=found)
    return Check(name=name, finding="mismatch", mismatches=(mismatch,))


def _require_files(folder: Path) -> None:
    """Raises InputError unless folder and files are there."""
    if not folder.is_dir():
        raise InputError(f"--run={folder} is not a folder; give the folder of a run")
    for name in (run_records.LEDGER, *RECORDS, *REPORTS):
        if not (folder / name).is_file():
            raise InputError(
                f"--run={folder}: {name} is missing; give the folder of a finished run with all "
                "its files"
            )


def _digest_mismatches(folder: Path, entries: Sequence[Entry]) -> Iterator[Mismatch]:
    """Compares each file's bytes with the sha256 that the ledger's last entry holds."""
    completed = [entry.payload for entry in entries if entry.kind == "completed"]
    digests = completed[-1] if completed else {}
    for name in RECORDS:
        if name not in digests:
            yield Mismatch(where=f"{run_records.LEDGER} completed", expected=name, found="none")
    for name in digests:
        if name == "status":
            continue
        path = folder / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        if found != digests[name]:
            yield Mismatch(where=f"{name} sha256", expected=digests[name], found=found)


def _row_mismatches(folder: Path, entries: Sequence[Entry]) -> Iterator[Mismatch]:
    """Compares the rounds of metrics.csv with the last release of each round."""
    last = {entry.payload["round"]: entry for entry in entries if entry.kind == "release"}
    rows = {int(str(row["round"])): row for row in run_records.read(folder).metrics}
    for number in sorted(set(rows) ^ set(last)):
        stands = "a row" if number in rows else "no row"
        expected = "a row" if number in last else "no row"
        yield Mismatch(where=f"metrics.csv round {number}", expected=expected, found=stands)
    for number in sorted(set(rows) & set(last)):
        for name in ("attempt", "cohort_size"):
            expected, found = last[number].payload[name], rows[number][name]
            if expected != found:
                where = f"metrics.csv round {number} {name}"
                yield Mismatch(where=where, expected=str(expected), found=str(found))


def _spent(entries: Sequence[Entry]) -> str:
    """ε recomputed, in words."""
    spent = spending_of(entries)
    if not spent.private:
        return "no noise, no ε"
    return (
        f"ε = {wording.rounded_up(spent.claim.epsilon, 6)} recomputed from the ledger "
        f"({wording.accountant(str(spent.claim.accountant))})"
    )


def _epsilon_mismatches(folder: Path, entries: Sequence[Entry]) -> Iterator[Mismatch]:
    """Compares ε, the releases and the last hash of report.json with the ledger alone."""
    spent, report = spending_of(entries), run_records.read_json(folder / run_report.REPORT_JSON)
    for path, expected in (
        ("privacy.epsilon", spent.claim.epsilon if spent.private else None),
        ("privacy.releases", spent.releases),
        ("evidence.ledger.head", entries[-1].hash),
    ):
        found = run_records.Record(file=run_report.REPORT_JSON, values=report).stated(path)
        if not _equal(expected, found, ACCOUNTING_TOLERANCE):
            yield Mismatch(where=f"report.json {path}", expected=str(expected), found=str(found))


def _report_mismatches(folder: Path) -> Iterator[Mismatch]:
    """Builds report.json again and compares it value by value, and its form."""
    text = (folder / run_report.REPORT_JSON).read_text(encoding="utf-8")
    rebuilt = run_report.build(folder)
    if text == run_report.to_json(rebuilt):
        return
    stored = run_records.read_json(folder / run_report.REPORT_JSON)
    found = list(itertools.islice(_differences(rebuilt, stored, ""), _MOST_LINES))
    yield from found
    if not found and text != run_report.to_json(stored):
        yield Mismatch(where="report.json", expected="the program's layout", found="another")


def _markdown_mismatches(folder: Path) -> Iterator[Mismatch]:
    """Renders report.md again from report.json, which another check compares."""
    stored = run_records.read_json(folder / run_report.REPORT_JSON)
    expected = markdown.render(stored).split("\n")
    found = (folder / run_report.REPORT_MARKDOWN).read_bytes().decode("utf-8").split("\n")
    for number, (one, other) in enumerate(itertools.zip_longest(expected, found), start=1):
        if one != other:
            yield _mismatch(f"report.md line {number}", one, other)
            return


def _differences(expected: Any, found: Any, path: str) -> Iterator[Mismatch]:
    """Yields the leaves at which two JSON values differ."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for name in [*expected, *(name for name in found if name not in expected)]:
            inner = f"{path}.{name}" if path else str(name)
            if name not in found or name not in expected:
                yield _mismatch(f"report.json {inner}", expected.get(name), found.get(name))
            else:
                yield from _differences(expected[name], found[name], inner)
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, pair in enumerate(zip(expected, found, strict=True)):
            yield from _differences(*pair, f"{path}[{index}]")
    else:
        tolerance = ACCOUNTING_TOLERANCE if path.partition(".")[0] in _ACCOUNTED else 0.0
        if not _equal(expected, found, tolerance):
            yield _mismatch(f"report.json {path}", expected, found)


def _equal(expected: Any, found: Any, tolerance: float) -> bool:
    """Whether two JSON leaves are the same; floats up to a relative tolerance."""
    if isinstance(expected, float) and type(found) in (int, float):
        return math.isclose(expected, found, rel_tol=tolerance)
    return type(expected) is type(found) and expected == found


def _mismatch(where: str, expected: Any, found: Any) -> Mismatch:
    """A mismatch of two JSON values; of long ones, the part around the first difference."""
    texts = [
        "nothing" if value is None else json.dumps(value, ensure_ascii=False)
        for value in (expected, found)
    ]
    shorter = min(map(len, texts))
    same = next((i for i in range(shorter) if texts[0][i] != texts[1][i]), shorter)
    start = same - 30 if same > 40 else 0
    shown = [
        ("…" if start else "") + text[start : start + 80] + ("…" if start + 80 < len(text) else "")
        for text in texts
    ]
    return Mismatch(where=where, expected=shown[0], found=shown[1])
