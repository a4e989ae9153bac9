"""The run's folder: refused when it is another run's, whole after a kill or a full disk."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from fl_research.errors import InputError
from fl_research.run.durable_files import append_line, storage_errors, write_atomically
from fl_research.run.record_files import last_attempts, read_json, read_metrics, write_json
from fl_research.run.run_directory import RunDirectory

REPOSITORY = Path(__file__).resolve().parents[2]
FLAGS = "--clip_norm=0.5\n--early_finish\n--rounds=100\n"


def _python(program: str, *arguments: str) -> list[str]:
    """Returns the command that runs a program of this repository."""
    return [sys.executable, "-c", program, *arguments]


def test_the_same_flags_resume_and_nothing_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    with RunDirectory.open(folder, flags_text=FLAGS) as run:
        assert run.read_json("run.json") is None
        run.write_json("run.json", {"status": "running"})
        run.append_metrics({"round": 1, "loss": 0.5})
    with RunDirectory.open(folder, flags_text="# another order\n" + FLAGS) as run:
        assert run.read_json("run.json") == {"status": "running"}
        assert run.read_metrics() == [{"round": 1, "loss": 0.5}]
        assert run.flags_path.read_text() == FLAGS
        assert sorted(run.digests()) == ["flags.txt", "metrics.csv", "run.json"]


def test_flags_txt_works_as_a_flagfile(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path / "run", flags_text=FLAGS) as run:
        values = flags.FlagValues()
        flags.DEFINE_float("clip_norm", 1.0, "", flag_values=values)
        flags.DEFINE_boolean("early_finish", False, "", flag_values=values)
        flags.DEFINE_integer("rounds", 1, "", flag_values=values)
        values(["program", f"--flagfile={run.flags_path}"])
    assert (values.clip_norm, values.early_finish, values.rounds) == (0.5, True, 100)


@pytest.mark.parametrize(
    ("other", "parts"),
    [
        (FLAGS.replace("=100", "=200"), ["--rounds:", "has 100", "has 200"]),
        (FLAGS.replace("--early", "--noearly"), ["--early_finish:", "has true", "has false"]),
        (FLAGS + "--delta=1e-05\n", ["--delta:", "has no such flag", "has 1e-05"]),
        ("--early_finish\n--rounds=100\n", ["--clip_norm:", "has 0.5", "has no such flag"]),
    ],
)
def test_other_flags_are_refused_by_the_first_that_differs(
    tmp_path: Path, other: str, parts: list[str]
) -> None:
    RunDirectory.open(tmp_path / "run", flags_text=FLAGS).close()
    with pytest.raises(InputError) as caught:
        RunDirectory.open(tmp_path / "run", flags_text=other)
    for part in [*parts, "--run_name", "--output_dir", "--flagfile="]:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run" / "flags.txt").read_text() == FLAGS


def test_a_folder_of_something_else_and_a_file_are_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"cat")
    (tmp_path / "file").write_text("text")
    for name, words in [
        ("photos", "cat.png"),
        ("file", "is not a folder"),
        ("file/run", "is not a folder"),
    ]:
        with pytest.raises(InputError, match=words):
            RunDirectory.open(tmp_path / name, flags_text=FLAGS)
    assert sorted(os.listdir(tmp_path / "photos")) == ["cat.png"]
    with pytest.raises(InputError, match="not the folder of a run"):
        RunDirectory.view(tmp_path / "photos")


def test_a_folder_that_cannot_be_made_is_refused() -> None:
    if not Path("/proc/self").exists():
        pytest.skip("needs /proc, where nobody can make a folder")
    with pytest.raises(InputError, match="--output_dir: cannot write /proc/runs"):
        RunDirectory.open(Path("/proc/runs/one"), flags_text=FLAGS)


def test_one_process_at_a_time_and_kill_frees_the_folder(tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from fl_research.run.run_directory import RunDirectory
run = RunDirectory.open(Path(sys.argv[1]), flags_text="--a=1\\n")
print("held", flush=True)
time.sleep(60)
"""
    holder = subprocess.Popen(
        _python(program, str(tmp_path / "run")), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"in use by process {holder.pid}"):
            RunDirectory.open(tmp_path / "run", flags_text="--a=1\n")
        view = RunDirectory.view(tmp_path / "run")
        with pytest.raises(RuntimeError, match="opened for reading"):
            view.write_json("run.json", {})
    finally:
        holder.kill()
        holder.communicate()
    RunDirectory.open(tmp_path / "run", flags_text="--a=1\n").close()


def test_json_has_no_nan_and_infinity_and_takes_numpy(tmp_path: Path) -> None:
    value = {
        "epsilon": float("inf"),
        "loss": np.float32("nan"),
        "curve": np.array([0.5, -np.inf]),
        "rounds": np.int64(3),
        "nested": [{"auc": (1.0, float("nan"))}],
    }
    write_json(tmp_path / "a.json", value)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    text = (tmp_path / "a.json").read_text()
    assert json.loads(text, parse_constant=refuse) == {
        "epsilon": None,
        "loss": None,
        "curve": [0.5, None],
        "rounds": 3,
        "nested": [{"auc": [1.0, None]}],
    }
    with pytest.raises(TypeError, match="set"):
        write_json(tmp_path / "a.json", {"a": {1}})
    assert (tmp_path / "a.json").read_text() == text
    (tmp_path / "b.json").write_text('{"a": ')
    with pytest.raises(InputError, match=r"b\.json is damaged"):
        read_json(tmp_path / "b.json")


def test_metrics_keep_every_attempt_types_and_late_columns(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path / "run", flags_text=FLAGS) as run:
        run.append_metrics({"round": 1, "attempt": 1, "loss": 0.1 + 0.2})
        run.append_metrics({"round": 2, "attempt": 1, "loss": float("nan")})
        run.append_metrics({"round": 2, "attempt": 2, "loss": 1e-7, "validation_auc": 0.75})
        run.append_metrics({"round": 3, "attempt": 1})
        rows = run.read_metrics()
        assert rows == [
            {"round": 1, "attempt": 1, "loss": 0.1 + 0.2, "validation_auc": None},
            {"round": 2, "attempt": 1, "loss": None, "validation_auc": None},
            {"round": 2, "attempt": 2, "loss": 1e-7, "validation_auc": 0.75},
            {"round": 3, "attempt": 1, "loss": None, "validation_auc": None},
        ]
        assert last_attempts(rows) == [rows[0], rows[2], rows[3]]
        with pytest.raises(ValueError, match="line end"):
            run.append_metrics({"round": 4, "note": "two\nlines"})
        assert run.read_metrics() == rows


def test_a_torn_last_row_is_not_read_and_cut_off_before_the_next(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path / "run", flags_text=FLAGS) as run:
        for round_number in (1, 2):
            run.append_metrics({"round": round_number, "loss": 0.25})
        path = run.metrics_path
    whole = path.read_bytes()
    for cut in range(len(whole) - len(b"2,0.25\n") + 1, len(whole)):
        path.write_bytes(whole[:cut])
        assert [row["round"] for row in read_metrics(path)] == [1]
        with RunDirectory.open(tmp_path / "run", flags_text=FLAGS) as run:
            run.append_metrics({"round": 2, "loss": 0.25})
        assert path.read_bytes() == whole


def test_kill_9_at_any_moment_leaves_whole_files(tmp_path: Path) -> None:
    """Kills a program that only writes, ten times: every file is whole, every row is in order."""
    program = """
import sys
from pathlib import Path
from fl_research.run.run_directory import RunDirectory
with RunDirectory.open(Path(sys.argv[1]), flags_text="--a=1\\n") as run:
    done = len(run.read_metrics())
    while True:
        done += 1
        run.append_metrics({"round": done, "loss": 1 / done})
        run.write_json("run.json", {"rounds": done, "padding": ["x" * 100] * 300})
        print(done, flush=True)
"""
    folder, seen = tmp_path / "run", 0
    for attempt in range(10):
        writer = subprocess.Popen(
            _python(program, str(folder)), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3 + attempt):
            seen = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        with RunDirectory.open(folder, flags_text="--a=1\n") as run:
            rounds = [row["round"] for row in run.read_metrics()]
            assert rounds == list(range(1, len(rounds) + 1))
            assert len(rounds) >= seen
            assert run.read_json("run.json")["rounds"] in (len(rounds) - 1, len(rounds))
            assert [name for name in os.listdir(folder) if "partly" in name] == []


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    """Fills a real file system of 64 KiB, mounted in a namespace of its own."""
    program = """
import sys
from pathlib import Path
from fl_research.errors import InputError
from fl_research.run.run_directory import RunDirectory
folder = Path(sys.argv[1])
with RunDirectory.open(folder, flags_text="--a=1\\n") as run:
    run.write_json("run.json", {"status": "running"})
    rounds, refused = 0, []
    try:
        while True:
            run.append_metrics({"round": rounds + 1, "text": "x" * 997})
            rounds += 1
    except InputError as error:
        refused.append(str(error))
    try:
        run.write_json("run.json", {"status": "x" * 70_000})
    except InputError as error:
        refused.append(str(error))
    assert [row["round"] for row in run.read_metrics()] == list(range(1, rounds + 1))
    assert rounds > 20, rounds
    assert run.read_json("run.json") == {"status": "running"}
    for line in refused:
        assert "No space left on device; free some space" in line, line
    assert len(refused) == 2
print("refused", flush=True)
"""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare to mount a small file system")
    mount = f'mount -t tmpfs -o size=64k tmpfs "{tmp_path}" && exec "$@"'
    namespace = ["unshare", "-rm", "sh", "-c", mount, "sh"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mount in a namespace")
    result = subprocess.run(
        [*namespace, *_python(program, str(tmp_path / "run"))],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "refused\n", result.stderr


def test_a_write_that_is_cut_short_is_taken_back(tmp_path: Path) -> None:
    """Limits the size of files, so that the kernel writes a part and then refuses."""
    table, record = tmp_path / "t.csv", tmp_path / "r.json"
    table.write_text("a\n")
    record.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(InputError, match="free some space"):
            append_line(table, "x" * 200)
        with pytest.raises(InputError, match="free some space"):
            write_atomically(record, "y" * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert table.read_text() == "a\n"
    assert record.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["r.json", "t.csv"]


@pytest.mark.parametrize(
    ("number", "way_out"),
    [
        (errno.ENOSPC, "No space left on device; free some space, then run the same command again"),
        (errno.EACCES, "Permission denied; mend its permissions or choose another folder"),
        (errno.EROFS, "Read-only file system; mend its permissions or choose another folder"),
        (errno.EIO, "Input/output error; put that right or choose another folder"),
    ],
)
def test_a_storage_error_names_the_file_and_the_flag_only_where_it_chose_it(
    number: int, way_out: str
) -> None:
    def message(argument: str) -> str:
        with pytest.raises(InputError) as caught:
            with storage_errors(Path("/runs/ledger.jsonl"), argument=argument):
                raise OSError(number, os.strerror(number))
        return str(caught.value)

    assert message("").startswith(f"cannot write /runs/ledger.jsonl: {way_out}")
    with_flag = way_out.replace("another folder", "another --output_dir")
    assert message("--output_dir").startswith(
        f"--output_dir: cannot write /runs/ledger.jsonl: {with_flag}"
    )
