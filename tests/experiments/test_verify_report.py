"""Every edit of a run's folder makes verify_report fail, and an untouched folder passes."""

import csv
import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from absl.testing import flagsaver

from experiments import verify_report
from fl_research.errors import InputError
from fl_research.privacy import ledger
from fl_research.reports import run_report
from tests.reports import example_run
from tests.reports.example_run import Example

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 100 releases with its report."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    example_run.write(folder, Example(repeated_round=40, failed_round=70))
    run_report.write(folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def _verify(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and output of the command, in this process."""
    verify_report.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(run=str(folder)):
        code = verify_report.main(["verify_report"])
    return code, capsys.readouterr().out


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "experiments.verify_report", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _lines(folder: Path) -> list[dict[str, Any]]:
    """The ledger's entries as they stand in the file."""
    text = (folder / "ledger.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _put_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    content = b"".join(ledger.canonical_json(line) + b"\n" for line in lines)
    (folder / "ledger.jsonl").write_bytes(content)


def _forge(folder: Path, change: Callable[[list[tuple[str, Any]]], None]) -> None:
    """Writes the whole ledger again, with right hashes, after a change of its entries."""
    entries = [(line["kind"], line["payload"]) for line in _lines(folder)]
    change(entries)
    (folder / "ledger.jsonl").unlink()
    with ledger.Ledger.open(folder / "ledger.jsonl") as book:
        for kind, payload in entries:
            book.append(kind, payload)


def _edit_json(name: str, path: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Changes one value of a JSON file and keeps the layout."""

    def spoil(folder: Path) -> None:
        values = json.loads((folder / name).read_text(encoding="utf-8"))
        *parents, last = path.split(".")
        record = values
        for parent in parents:
            record = record[parent]
        record[last] = change(record[last])
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        (folder / name).write_text(text, encoding="utf-8")

    return spoil


def _edit_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return spoil


def _edit_ledger(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        lines = _lines(folder)
        change(lines)
        _put_lines(folder, lines)

    return spoil


def _more_noise(line: dict[str, Any]) -> None:
    line["payload"]["event"]["noise_multiplier"] *= 1.01


def _forge_ledger(change: Callable[[list[tuple[str, Any]]], Any]) -> Callable[[Path], None]:
    return lambda folder: _forge(folder, change)


def _first_release(entries: list[tuple[str, Any]]) -> int:
    return next(i for i, (kind, _) in enumerate(entries) if kind == "release")


def _forge_noise(entries: list[tuple[str, Any]]) -> None:
    for kind, payload in entries:
        if kind == "release":
            payload["event"]["noise_multiplier"] *= 2
            payload["noise_stddev_of_sum"] *= 2


def _with_new_report(spoil: Callable[[Path], None]) -> Callable[[Path], None]:
    """A forger who also writes the report again."""

    def both(folder: Path) -> None:
        spoil(folder)
        run_report.write(folder)

    return both


def _add_row(folder: Path) -> None:
    path = folder / "metrics.csv"
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    rows.append(["101", *rows[-1][1:]])
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


TAMPERINGS: dict[str, tuple[Callable[[Path], None], str]] = {
    "ε lowered in report.json": (
        _edit_json("report.json", "privacy.epsilon", lambda x: x / 2),
        r"report\.json privacy\.epsilon: expected [\d.]+, found [\d.]+",
    ),
    "ε lowered a little": (
        _edit_json("report.json", "privacy.epsilon", lambda x: x * (1 - 1e-5)),
        r"report\.json privacy\.epsilon",
    ),
    "unit changed in report.json": (
        _edit_json("report.json", "privacy.unit", lambda _: "one company"),
        r'report\.json privacy\.unit: expected "one customer", found "one company"',
    ),
    "a disclosure removed from report.json": (
        _edit_json("report.json", "released.without_noise", lambda lines: lines[1:]),
        r"report\.json released\.without_noise",
    ),
    "utility raised in report.json": (
        _edit_json("report.json", "utility.test.auc", lambda x: x + 1e-9),
        r"report\.json utility\.test\.auc",
    ),
    "a field added to report.json": (
        _edit_json("report.json", "privacy", lambda x: {**x, "certified": True}),
        r"report\.json privacy\.certified",
    ),
    "layout of report.json": (
        _edit_text("report.json", "{\n", '{\n  "title": "another",\n'),
        r"report\.json",
    ),
    "report.md edited": (
        _edit_text("report.md", "with ε = ", "with ε = 0."),
        r"report\.md line \d+",
    ),
    "report.md with a line more": (
        lambda folder: (folder / "report.md").open("a").write("approved\n") and None,
        r"report\.md line \d+",
    ),
    "flags.txt edited": (_edit_text("flags.txt", "--seed=0", "--seed=1"), r"flags\.txt sha256"),
    "metrics.csv edited": (_edit_text("metrics.csv", ",420,", ",421,"), r"metrics\.csv sha256"),
    "metrics.csv with a row more": (_add_row, r"metrics\.csv round 101"),
    "evaluation.json edited": (
        _edit_json("evaluation.json", "test.auc", lambda x: x + 0.01),
        r"evaluation\.json sha256",
    ),
    "evaluation.json edited, report written again": (
        _with_new_report(_edit_json("evaluation.json", "test.auc", lambda x: x + 0.01)),
        r"evaluation\.json sha256",
    ),
    "run.json edited": (
        _edit_json("run.json", "data.schema_inferred", lambda _: True),
        r"run\.json sha256",
    ),
    "run.json cut off": (_edit_text("run.json", "}\n}\n", ""), r"run\.json sha256"),
    "ledger: noise raised": (_edit_ledger(lambda x: _more_noise(x[4])), r"ledger\.jsonl"),
    "ledger: entry deleted in the middle": (_edit_ledger(lambda x: x.pop(50)), r"ledger\.jsonl"),
    "ledger: last entry deleted": (_edit_ledger(lambda x: x.pop()), r"last entry: expected"),
    "ledger: last release and end deleted": (
        _edit_ledger(lambda x: [x.pop(), x.pop()]),
        r"ledger\.jsonl last entry",
    ),
    "ledger: first entry deleted": (_edit_ledger(lambda x: x.pop(0)), r"ledger\.jsonl"),
    "ledger: entries reordered": (
        _edit_ledger(lambda x: x.insert(10, x.pop(12))),
        r"ledger\.jsonl",
    ),
    "ledger: delta raised": (
        _edit_ledger(lambda x: x[0]["payload"].update(delta=1e-3)),
        r"ledger\.jsonl",
    ),
    "ledger: time changed": (_edit_ledger(lambda x: x[3].update(time="0")), r"ledger\.jsonl"),
    "ledger: emptied": (lambda folder: (folder / "ledger.jsonl").write_text("") and None, "ledger"),
    "ledger forged: a release dropped": (
        _forge_ledger(lambda x: x.pop(_first_release(x))),
        r"report\.json privacy\.releases: expected 100, found 101",
    ),
    "ledger forged: a round dropped, report written again": (
        _with_new_report(_forge_ledger(lambda x: [x.pop(20), x.pop(20)])),
        r"ledger\.jsonl entry \d+ \(round_started\): expected round",
    ),
    "ledger forged: more noise": (
        _forge_ledger(_forge_noise),
        r"emitted .*'noise_multiplier': 2\.0.* where the plan expects .*'noise_multiplier': 1\.0",
    ),
    "ledger forged: another cohort, report written again": (
        _with_new_report(_forge_ledger(lambda x: x[1][1].update(cohort_size=1))),
        r"cohort_size: expected \d+, found 1",
    ),
    "ledger forged: relation, report written again": (
        _forge_ledger(lambda x: x[0][1].update(neighboring_relation="replace_one")),
        r"neighboring_relation='replace_one' does not go with poisson sampling",
    ),
    "ledger forged: release before its round": (
        _forge_ledger(lambda x: x.insert(3, x.pop(4))),
        r"announced just before",
    ),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_tampering_is_found(run: Path, capsys: pytest.CaptureFixture[str], tampering: str) -> None:
    spoil, expected = TAMPERINGS[tampering]
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    spoil(run)
    assert before != {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    code, output = _verify(run, capsys)
    assert code == 1
    assert re.search(expected, output), output
    assert "✗" in output


def test_one_mismatch_is_counted_as_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    TAMPERINGS["flags.txt edited"][0](run)
    assert "1 mismatch; do not rely" in _verify(run, capsys)[1]


def test_untouched_folder_passes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = _verify(run, capsys)
    assert code == 0
    assert "✗" not in output
    epsilon = json.loads((run / "report.json").read_text(encoding="utf-8"))["privacy"]["epsilon"]
    recomputed = float(re.search(r"ε = ([\d.]+) recomputed", output).group(1))  # type: ignore[union-attr]
    assert epsilon <= recomputed < epsilon * (1 + 1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"noise_multiplier": None},
        {"noise_multiplier": 0.0},
        {"adaptive": True},
        {"sampling": "fixed_size", "noise_multiplier": 2.0},
        {"sampling": "full", "noise_multiplier": 5.0},
        {"rows": 5, "noise_seed": 3, "delta": 0.01},
        {"rounds": 0},
    ],
    ids=[
        "no privacy",
        "noise of zero",
        "adaptive",
        "fixed size",
        "full",
        "rows, noise seed, large delta",
        "no release",
    ],
)
def test_other_runs_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, Any]
) -> None:
    folder = example_run.write(
        tmp_path / "run", Example(**{"rounds": 4, "clients": 300} | settings)
    )
    run_report.write(folder)
    code, output = _verify(folder, capsys)
    assert code == 0, output


@pytest.mark.parametrize(
    "name", ["flags.txt", "run.json", "metrics.csv", "evaluation.json", "ledger.jsonl", "report.md"]
)
def test_missing_file_is_named(run: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (run / name).unlink()
    with pytest.raises(InputError, match=re.escape(name)):
        _verify(run, capsys)


def test_command_passes_within_five_seconds(run: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = _command(f"--run={run}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time, so that other programs on the machine do not fail the test.
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("✓") == 11
    assert seconds < 5


def test_command_fails_on_an_edit_and_on_a_missing_folder(run: Path, tmp_path: Path) -> None:
    _edit_json("report.json", "privacy.epsilon", lambda x: x / 2)(run)
    edited = _command(f"--run={run}")
    assert edited.returncode == 1
    assert "report.json privacy.epsilon: expected" in edited.stdout
    assert "4 mismatches; do not rely" in edited.stdout
    missing = _command(f"--run={tmp_path / 'nowhere'}")
    assert missing.returncode == 2
    assert re.fullmatch(r"error: --run=\S+ is not a folder.*\n", missing.stderr)


def test_needs_no_tensorflow(run: Path) -> None:
    program = (
        "import sys\n"
        "from experiments import verify_report\n"
        "from fl_research.reports import verification\n"
        f"checks = verification.verify({str(run)!r})\n"
        "assert not any(check.mismatches for check in checks), checks\n"
        "loaded = [name for name in sys.modules if name.startswith('tensorflow')]\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)
