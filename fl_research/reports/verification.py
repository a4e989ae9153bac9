"""Checks a run's folder without TensorFlow: the ledger, the records, and the report made from them.

ε is recomputed from the ledger alone, the report is built again from the records, and both are
compared with what the folder holds. Each check is a name, what was found, and the mismatches.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fl_research.errors import InputError
from fl_research.privacy.ledger import Entry, LedgerError, payloads, read_ledger
from fl_research.privacy.rounding import rounded_up
from fl_research.privacy.spending import Spending, plan_of, spending_of
from fl_research.reports import (
    html,
    ledger_checks,
    markdown,
    run_records,
    run_report,
    selection,
    wording,
)
from fl_research.reports.ledger_checks import Mismatch
from fl_research.reports.run_records import RunRecords
from fl_research.run.record_files import read_json
from fl_research.run.run_directory import (
    EVALUATION,
    FLAGS,
    LEDGER,
    METRICS,
    REPORT_HTML,
    REPORT_JSON,
    REPORT_MARKDOWN,
    RUN,
)

RECORDS = (FLAGS, RUN, EVALUATION)
REPORTS = (REPORT_JSON, REPORT_MARKDOWN, REPORT_HTML)

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
    _require_files(folder, LEDGER, *RECORDS, *REPORTS)
    try:
        entries = read_ledger(folder / LEDGER)
    except LedgerError as error:
        return [_failed("ledger chain", "an unbroken chain of hashes", str(error))]
    if not entries:
        return [_failed("ledger chain", "a plan and releases", "no entry")]
    run = _Run(folder, entries)
    _require_files(folder, *run.records_vouched_for)
    chain = f"{wording.count(len(entries), 'entry', 'entries')}, last hash {entries[-1].hash[:16]}…"
    return [
        Check(name="ledger chain", finding=chain),
        *(_check(name, finding, mismatches) for name, finding, mismatches in _checks(run)),
    ]


class _Run:
    """A run's folder as the checks see it; each part is read or computed once, when asked for."""

    def __init__(self, folder: Path, entries: Sequence[Entry]) -> None:
        self.folder, self.entries = folder, entries

    @functools.cached_property
    def records_vouched_for(self) -> tuple[str, ...]:
        """Files whose digest the ledger holds; the first release makes metrics.csv."""
        released = payloads(self.entries, "release")
        return (*RECORDS, METRICS) if released else RECORDS

    @functools.cached_property
    def spent(self) -> Spending:
        """What the releases cost, from the ledger alone."""
        return spending_of(self.entries)

    @functools.cached_property
    def records(self) -> RunRecords:
        """What a report is made from."""
        return run_records.read(self.folder)

    @functools.cached_property
    def report(self) -> dict[str, Any]:
        """report.json as it stands in the folder."""
        return read_json(self.folder / REPORT_JSON)


def _checks(run: _Run) -> Iterator[tuple[str, Callable[[], str], Callable[[], Iterator[Mismatch]]]]:
    """The checks after the chain's: name, what to say where all is well, mismatches."""
    entries = run.entries
    releases = len(payloads(entries, "release"))
    yield (
        "plan",
        lambda: f"{plan_of(entries)['mechanism']}, {plan_of(entries)['sampling']['name']}",
        lambda: ledger_checks.plan_mismatches(entries),
    )
    yield (
        "rounds",
        lambda: f"{wording.count(releases, 'release')}, each announced, no round missing",
        lambda: ledger_checks.order_mismatches(entries),
    )
    yield (
        "cohorts",
        lambda: ledger_checks.cohort_finding(entries, run.folder),
        lambda: ledger_checks.cohort_mismatches(entries, run.folder),
    )
    yield (
        "noise",
        lambda: "every release's event as planned",
        lambda: ledger_checks.noise_mismatches(entries),
    )
    yield (
        "records",
        lambda: f"sha256 of {', '.join(run.records_vouched_for)}",
        lambda: _digest_mismatches(run),
    )
    yield "metrics.csv", lambda: "rounds of the ledger", lambda: _row_mismatches(run)
    yield "epsilon", lambda: _spent(run.spent), lambda: _epsilon_mismatches(run)
    yield "report.json", lambda: "as built again", lambda: _report_mismatches(run)
    yield (
        "report.md",
        lambda: "as rendered again",
        lambda: _line_mismatches(run, REPORT_MARKDOWN, markdown.render(run.report)),
    )
    yield (
        "report.html",
        lambda: "as rendered again, plots included",
        lambda: _line_mismatches(run, REPORT_HTML, html.render(run.report, run.folder)),
    )


def _check(
    name: str, finding: Callable[[], str], mismatches: Callable[[], Iterator[Mismatch]]
) -> Check:
    """Makes one check; a record that cannot be read is a mismatch, not the end."""
    try:
        found = tuple(mismatches())
        return Check(name=name, finding="mismatch" if found else finding(), mismatches=found)
    except LedgerError as error:
        return _failed(name, "entries that agree with each other", str(error))
    except InputError as error:
        return _failed(name, "readable records", str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return _failed(name, "records of the agreed form", f"{type(error).__name__}: {error}")


def _failed(name: str, expected: str, found: str) -> Check:
    """A check with one mismatch."""
    where = LEDGER if name == "ledger chain" else name
    mismatch = Mismatch(where=where, expected=expected, found=found)
    return Check(name=name, finding="mismatch", mismatches=(mismatch,))


def _require_files(folder: Path, *names: str) -> None:
    """Raises InputError unless folder and files are there."""
    if not folder.is_dir():
        raise InputError(f"--run={folder} is not a folder; give the folder of a run")
    for name in names:
        if not (folder / name).is_file():
            raise InputError(
                f"--run={folder}: {name} is missing; give the folder of a finished run with all "
                "its files"
            )


def _digest_mismatches(run: _Run) -> Iterator[Mismatch]:
    """Compares each file's bytes with the sha256 that the ledger's last entry holds."""
    completed = payloads(run.entries, "completed")
    digests = completed[-1] if completed else {}
    for name in run.records_vouched_for:
        if name not in digests:
            yield Mismatch(where=f"{LEDGER} completed", expected=name, found="none")
    for name in digests:
        if name == "status":
            continue
        path = run.folder / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        if found != digests[name]:
            yield Mismatch(where=f"{name} sha256", expected=digests[name], found=found)


def _row_mismatches(run: _Run) -> Iterator[Mismatch]:
    """Compares the rounds of metrics.csv with the last release of each round."""
    last = {payload["round"]: payload for payload in payloads(run.entries, "release")}
    rows = {int(str(row["round"])): row for row in run.records.metrics}
    for number in sorted(set(rows) ^ set(last)):
        stands = "a row" if number in rows else "no row"
        expected = "a row" if number in last else "no row"
        yield Mismatch(where=f"metrics.csv round {number}", expected=expected, found=stands)
    for number in sorted(set(rows) & set(last)):
        for name in ("attempt", "cohort_size"):
            expected, found = last[number][name], rows[number][name]
            if expected != found:
                where = f"metrics.csv round {number} {name}"
                yield Mismatch(where=where, expected=str(expected), found=str(found))


def _spent(spent: Spending) -> str:
    """ε recomputed, in words."""
    if not spent.private:
        return "no noise, no ε"
    return (
        f"ε = {rounded_up(spent.claim.epsilon, 6)} recomputed from the ledger "
        f"({wording.accountant(str(spent.claim.accountant))})"
    )


def _epsilon_mismatches(run: _Run) -> Iterator[Mismatch]:
    """Compares ε, the releases and the last hash of report.json with the ledger alone."""
    spent, report = run.spent, run_records.Record(file=REPORT_JSON, values=run.report)
    for path, expected in (
        ("privacy.epsilon", spent.claim.epsilon if spent.private else None),
        ("privacy.releases", spent.releases),
        ("evidence.ledger.head", run.entries[-1].hash),
    ):
        found = report.stated(path)
        if not _equal(expected, found, ACCOUNTING_TOLERANCE):
            yield Mismatch(where=f"report.json {path}", expected=str(expected), found=str(found))


def _report_mismatches(run: _Run) -> Iterator[Mismatch]:
    """Builds report.json again and compares it value by value, and its form."""
    text = (run.folder / REPORT_JSON).read_text(encoding="utf-8")
    rebuilt = run_report.build_from(run.records, run.spent, selection.section(run.folder))
    if text == run_report.to_json(rebuilt):
        return
    found = list(itertools.islice(_differences(rebuilt, run.report, ""), _MOST_LINES))
    yield from found
    if not found and text != run_report.to_json(run.report):
        yield Mismatch(where="report.json", expected="the program's layout", found="another")


def _line_mismatches(run: _Run, name: str, rendered: str) -> Iterator[Mismatch]:
    """Compares a file with what is rendered from report.json, which another check compares."""
    found = (run.folder / name).read_bytes().decode("utf-8").split("\n")
    pairs = itertools.zip_longest(rendered.split("\n"), found)
    for number, (one, other) in enumerate(pairs, start=1):
        if one != other:
            yield _mismatch(f"{name} line {number}", one, other)
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
