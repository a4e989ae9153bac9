"""The ledger loses nothing, shows every change, and survives what kills a process or a disk."""

import hashlib
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_research.errors import InputError
from fl_research.privacy import ledger
from fl_research.privacy.ledger import Ledger, LedgerError, read_ledger

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with five entries."""
    path = tmp_path / "ledger.jsonl"
    with Ledger.open(path) as book:
        for number in range(5):
            book.append("release", {"round": number, "noise": 0.1 + number, "name": "Müller"})
    return path


def test_entries_come_back_as_they_were_written(path: Path) -> None:
    entries = read_ledger(path)
    assert [entry.index for entry in entries] == list(range(5))
    assert entries[2].payload == {"round": 2, "noise": 2.1, "name": "Müller"}
    assert entries[0].previous == "0" * 64
    assert all(b.previous == a.hash for a, b in itertools.pairwise(entries))
    with Ledger.open(path) as book:
        assert list(book.entries) == entries and book.head == entries[-1].hash
        added = book.append("completed", {})
    assert read_ledger(path) == [*entries, added]


def test_hashes_can_be_checked_without_this_code(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        body = json.loads(line)
        declared = body.pop("hash")
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(text.encode("utf-8")).hexdigest() == declared


def _edited_payload(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b"2.1", b"9.1"), *lines[3:]]


def _edited_with_new_hash(lines: list[bytes]) -> list[bytes]:
    body = json.loads(lines[2])
    body["payload"]["noise"] = 9.1
    del body["hash"]
    body["hash"] = hashlib.sha256(ledger.canonical_json(body)).hexdigest()
    return [*lines[:2], ledger.canonical_json(body), *lines[3:]]


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        (_edited_payload, 3, "changed after it was written"),
        (_edited_with_new_hash, 4, "does not follow the entry before"),
        (lambda lines: [lines[0], lines[2], *lines[3:]], 2, "index 2 where 1 belongs"),
        (lambda lines: lines[1:], 1, "index 1 where 0 belongs"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2, "index 2 where 1"),
        (lambda lines: [*lines[:2], *lines[1:]], 3, "index 1 where 2 belongs"),
        (lambda lines: [*lines[:2], b"garbage", *lines[3:]], 3, "no JSON"),
        (lambda lines: [*lines[:2], b"\xff\xfe", *lines[3:]], 3, "no JSON"),
        (lambda lines: [*lines[:2], b"", *lines[2:]], 3, "no JSON"),
        (lambda lines: [*lines[:2], b"[1]", *lines[3:]], 3, "no object"),
        (lambda lines: [lines[0].replace(b'"kind"', b'"king"'), *lines[1:]], 1, "no object"),
        (lambda lines: [lines[0].replace(b",", b", "), *lines[1:]], 1, "changed"),
        (lambda lines: [lines[0].replace(b"0.1", b"NaN"), *lines[1:]], 1, "changed"),
        (lambda lines: [*lines[:4], lines[4].replace(b"4.1", b"4.2")], 5, "changed"),
    ],
)
def test_every_change_is_found_and_named(
    path: Path, change: Callable[[list[bytes]], list[bytes]], line: int, says: str
) -> None:
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join(change(lines)) + b"\n")
    before = path.read_bytes()
    for opened in (read_ledger, Ledger.open):
        with pytest.raises(LedgerError) as raised:
            opened(path)
        message = str(raised.value)
        assert f"{path}, line {line}: " in message and says in message and "\n" not in message
    assert path.read_bytes() == before


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_no_byte_of_a_kept_line_can_change(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.jsonl"
    if not path.exists():
        with Ledger.open(path) as book:
            for number in range(3):
                book.append("release", {"round": number, "values": [1.5, "a", None]})
    content = path.read_bytes()
    position %= len(content)
    if content[position] == byte:
        return
    changed = path.with_name("changed.jsonl")
    changed.write_bytes(content[:position] + bytes([byte]) + content[position + 1 :])
    with pytest.raises(LedgerError, match=r"line [123]"):
        read_ledger(changed)


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_torn_last_line_is_set_aside(path: Path, kept: int) -> None:
    content = path.read_bytes()
    start = content[:-1].rfind(b"\n") + 1
    torn = content[start:][:kept]
    if kept == -1:  # Complete but for its end of line: nothing is lost, so nothing is set aside.
        path.write_bytes(content[:-1])
    else:
        path.write_bytes(content[:start] + torn)
    with pytest.raises(LedgerError, match="line 5: the last line is torn"):
        read_ledger(path)
    with Ledger.open(path) as book:
        book.append("resumed", {})
    entries = read_ledger(path)
    aside = path.with_name("ledger.jsonl.torn")
    if kept == -1:
        assert [entry.kind for entry in entries] == ["release"] * 5 + ["resumed"]
        assert not aside.exists()
    else:
        assert [entry.kind for entry in entries] == ["release"] * 4 + ["recovered", "resumed"]
        assert entries[4].payload["torn_bytes"] == kept
        assert aside.read_bytes() == torn + b"\n"


def test_zeros_after_a_power_cut_are_set_aside(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 100)
    with Ledger.open(path) as book:
        assert [entry.kind for entry in book.entries] == ["release"] * 5 + ["recovered"]
    assert path.read_bytes().startswith(whole)


def test_a_torn_first_line_leaves_an_empty_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"hash":"ab')
    with Ledger.open(path) as book:
        assert book.entries == ()
        book.append("plan", {})
    assert [entry.kind for entry in read_ledger(path)] == ["plan"]


def test_appending_refuses_a_file_that_something_else_wrote_to(path: Path) -> None:
    with Ledger.open(path) as book:
        with path.open("ab") as other:
            other.write(b"{}\n")
        with pytest.raises(LedgerError, match="something else writes to it"):
            book.append("release", {})
    assert path.read_bytes().endswith(b"{}\n")


def test_appending_refuses_a_file_that_was_replaced_or_removed(path: Path) -> None:
    with Ledger.open(path) as book:
        copy = path.with_name("copy")
        copy.write_bytes(path.read_bytes())
        os.replace(copy, path)
        with pytest.raises(LedgerError, match="replaced"):
            book.append("release", {})
        path.unlink()
        with pytest.raises(LedgerError, match="gone"):
            book.append("release", {})
    with pytest.raises(LedgerError, match="closed"):
        book.append("release", {})


def test_a_full_disk_loses_nothing(path: Path) -> None:
    """The file may not grow past a limit: the system writes a part and then refuses."""
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Ledger.open(path) as book:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
        try:
            with pytest.raises(InputError, match="File too large; free some space") as raised:
                book.append("release", {"text": "x" * 1000})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "\n" not in str(raised.value)
        assert path.read_bytes() == before
        book.append("release", {"text": "x" * 1000})
    assert len(read_ledger(path)) == 6


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), b"x"])
def test_what_is_no_plain_json_is_refused_before_anything_is_written(
    path: Path, value: object
) -> None:
    before = path.read_bytes()
    with Ledger.open(path) as book, pytest.raises(InputError, match="no plain JSON"):
        book.append("release", {"value": value})
    assert path.read_bytes() == before


def test_later_changes_of_a_payload_do_not_show(path: Path) -> None:
    payload = {"sizes": (1, 2)}
    with Ledger.open(path) as book:
        entry = book.append("release", payload)
        payload["sizes"] = (3,)
    assert entry.payload == {"sizes": [1, 2]} == read_ledger(path)[-1].payload


def test_a_missing_file_or_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="No such file"):
        read_ledger(tmp_path / "ledger.jsonl")
    with pytest.raises(InputError, match="No such file"):
        Ledger.open(tmp_path / "nowhere" / "ledger.jsonl")


def test_an_empty_file_is_an_empty_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.touch()
    assert read_ledger(path) == []


_APPEND_FOR_EVER = """
import sys
from fl_research.privacy.ledger import Ledger
book = Ledger.open(sys.argv[1])
number = len(book.entries)
while True:
    book.append("release", {"round": number, "filler": "x" * 5000})
    print(number, flush=True)
    number += 1
"""


def _appender(path: Path) -> subprocess.Popen[str]:
    """Another process that appends until it is killed, and prints what it has appended."""
    return subprocess.Popen(
        [sys.executable, "-c", _APPEND_FOR_EVER, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_one_process_at_a_time(path: Path) -> None:
    process = _appender(path)
    try:
        assert process.stdout is not None and process.stdout.readline()
        with pytest.raises(InputError, match="open in another process"):
            Ledger.open(path)
        read_ledger_until_whole(path)
    finally:
        process.kill()
        process.communicate()
    Ledger.open(path).close()


def read_ledger_until_whole(path: Path) -> None:
    """Reading needs no lock; a line that is being written may look torn."""
    for _ in range(100):
        try:
            assert len(read_ledger(path)) > 5
            return
        except LedgerError:
            time.sleep(0.01)
    raise AssertionError("the ledger never looked whole")


def test_kill_at_any_moment_loses_no_entry_that_was_reported(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    reported = -1
    for attempt in range(5):
        process = _appender(path)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.003 * attempt)
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        lines = [int(line) for line in rest.splitlines() if line.strip()]
        reported = max([reported, *lines])
        with Ledger.open(path) as book:
            rounds = [e.payload["round"] for e in book.entries if e.kind == "release"]
        assert max(rounds) >= reported
        assert len(read_ledger(path)) == len(book.entries)
    assert reported > 5
