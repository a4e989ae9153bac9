"""The results as files: rounds.csv, and rounds.md with all that the CSV has no column for.

A run replaces the rows that it measured and keeps all others, so that systems and workloads can be
measured one by one. The ratio of a row is always to our row of the same run. What does not fit the
CSV's columns (build times, versions, when and with which command) is kept in rounds.json, from
which, together with the CSV, rounds.md is written.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import workloads
from benchmarks.agreement import TOLERANCE
from benchmarks.measurement import Failure, Measurement
from benchmarks.systems import OURS, SYSTEMS
from fl_research.run.durable_files import write_atomically

COLUMNS = (
    "workload",
    "system",
    "seconds_median",
    "seconds_min",
    "seconds_max",
    "peak_memory_mib",
    "ratio_to_ours",
)
CSV_FILE, DETAILS_FILE, MARKDOWN_FILE = "rounds.csv", "rounds.json", "rounds.md"

Row = dict[str, str]
Key = tuple[str, str]


def rows_of(measurements: Iterable[Measurement]) -> list[Row]:
    """Returns a CSV row for each measurement.

    Args:
      measurements: Of one run, ours of each workload among them.
    """
    measurements = list(measurements)
    ours = {m.workload: m.median for m in measurements if m.system == OURS}
    return [
        {
            "workload": m.workload,
            "system": m.system,
            "seconds_median": f"{m.median:.6f}",
            "seconds_min": f"{min(m.seconds):.6f}",
            "seconds_max": f"{max(m.seconds):.6f}",
            "peak_memory_mib": f"{m.peak_memory_mib:.0f}",
            "ratio_to_ours": f"{m.median / ours[m.workload]:.3f}",
        }
        for m in measurements
        if m.workload in ours
    ]


def read_rows(path: Path) -> list[Row]:
    """Returns the rows of a CSV file; none if there is no file.

    Raises:
      ValueError: Its columns are others.
    """
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(
                f"{path} has the columns {reader.fieldnames}, expected {', '.join(COLUMNS)}; "
                "delete it"
            )
        return list(reader)


def merged(old: Iterable[Row], new: Iterable[Row], failures: Iterable[Failure]) -> list[Row]:
    """Returns old rows and new ones, the new in place of the old, ordered.

    A system that turned out to do other work on a workload loses its old row, too.
    """
    rows = {_key(row): row for row in old}
    for failure in failures:
        if failure.disagrees:
            rows.pop((failure.workload, failure.system), None)
    rows |= {_key(row): row for row in new}
    order = {name: number for number, name in enumerate((*workloads.NAMES, *SYSTEMS))}
    return sorted(
        rows.values(), key=lambda row: [order.get(name, len(order)) for name in _key(row)]
    )


def write(
    folder: Path,
    measurements: Sequence[Measurement],
    failures: Sequence[Failure],
    run: Mapping[str, str],
) -> list[Row]:
    """Brings the three files up to date.

    Args:
      folder: Where they are; made if it is not there.
      measurements: Of this run.
      failures: Of this run.
      run: What the table tells of this run: `command`, `date` and `machine`.

    Returns:
      All rows that the CSV has now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    new = rows_of(measurements)
    rows = merged(read_rows(folder / CSV_FILE), new, failures)
    measured = {_key(row) for row in new}
    details = _read_details(folder / DETAILS_FILE)
    details |= {
        f"{m.workload}/{m.system}": {
            "build_seconds": round(m.build_seconds, 2),
            "first_round_seconds": round(m.first_round_seconds, 3),
            "rounds": len(m.seconds),
            "version": m.version,
            "note": m.note,
            **run,
        }
        for m in measurements
        if (m.workload, m.system) in measured
    }
    details = {"/".join(key): details.get("/".join(key), {}) for key in map(_key, rows)}
    lines = [",".join(COLUMNS), *(",".join(row[column] for column in COLUMNS) for row in rows)]
    write_atomically(folder / CSV_FILE, "\n".join(lines) + "\n")
    write_atomically(folder / DETAILS_FILE, json.dumps(details, indent=2) + "\n")
    write_atomically(folder / MARKDOWN_FILE, markdown(rows, details, failures))
    return rows


def _key(row: Row) -> Key:
    """Returns what identifies a row."""
    return row["workload"], row["system"]


def _read_details(path: Path) -> dict[str, Any]:
    """Returns the details by `workload/system`; none if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def markdown(
    rows: Sequence[Row], details: Mapping[str, Mapping[str, Any]], failures: Sequence[Failure]
) -> str:
    """Returns the report: what was measured, the table, systems and runs."""
    parts = [
        "# Seconds a DP-FedAvg round",
        "One round: each client of the cohort runs one local epoch of SGD, its update is clipped, "
        "the updates are summed, noise is added, the server takes the mean. Every system runs the "
        "same rounds on the same generated data, in turns of two rounds; those that wait are "
        "paused (SIGSTOP), and only the second round of a turn is timed, so that nobody finds its "
        "memory out of the caches. No system shuffles rows. The median, least "
        "and most are over the timed rounds; the ratio is a system's median to ours of the same "
        "run (above 1: ours is faster). Peak memory is the sum over a system's processes of the "
        "most that each ever held. Build is everything before the first round, imports included; "
        "the first round includes tracing and compilation; neither is part of the seconds.",
        f"Before it is timed, each system runs round 1 without noise from the same weights, with a "
        f"clip that some clients reach and some do not. Its weights must equal ours to within "
        f"{TOLERANCE:g} of the norm of the update.",
        "![Seconds a round](rounds.png)",
        *(f"## {name}\n\n" + _table(name, rows, details) for name in _workloads(rows)),
    ]
    if failures:
        lines = [f"- {f.workload}, {f.system}: {f.reason}" for f in failures]
        parts.append("## Not measured in the latest run\n\n" + "\n".join(lines))
    parts += ["## Systems\n\n" + _systems(rows, details), "## Runs\n\n" + _runs(details)]
    return "\n\n".join(parts) + "\n"


def _workloads(rows: Iterable[Row]) -> list[str]:
    """Returns the workloads that have rows, in order."""
    return list(dict.fromkeys(row["workload"] for row in rows))


def _table(name: str, rows: Iterable[Row], details: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the table of one workload."""
    lines = [
        "| system | median s | least | most | ratio to ours | memory MiB | build s | first round s "
        "| rounds |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        if row["workload"] != name:
            continue
        detail = details.get("/".join(_key(row)), {})
        seconds = [short(row[f"seconds_{which}"]) for which in ("median", "min", "max")]
        cells = [row["system"], *seconds, f"{float(row['ratio_to_ours']):.2f}"]
        cells.append(row["peak_memory_mib"])
        cells += [
            short(detail[what]) if what in detail else "-"
            for what in ("build_seconds", "first_round_seconds", "rounds")
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def short(seconds: Any) -> str:
    """Returns three digits of a number, never as a power of ten."""
    value = float(seconds)
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:#.3g}"


def _systems(rows: Iterable[Row], details: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns version and notes of every system."""
    lines = []
    for system in dict.fromkeys(row["system"] for row in rows):
        own = {k.split("/")[0]: d for k, d in details.items() if k.endswith(f"/{system}") and d}
        for version in dict.fromkeys(d["version"] for d in own.values()):
            lines.append(f"- **{system}**: {version}")
            notes: dict[str, list[str]] = {}
            for workload, detail in own.items():
                if detail["version"] == version:
                    notes.setdefault(detail["note"], []).append(workload)
            lines += [f"  - {', '.join(names)}: {note}" for note, names in notes.items()]
    return "\n".join(lines)


def _runs(details: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns when, where and how the rows were measured."""
    runs: dict[tuple[str, str, str], list[str]] = {}
    for key, detail in details.items():
        if detail:
            runs.setdefault((detail["date"], detail["machine"], detail["command"]), []).append(key)
    return "\n".join(
        f"- {date}, {machine}: `{command}` measured {', '.join(keys)}"
        for (date, machine, command), keys in sorted(runs.items(), reverse=True)
    )
