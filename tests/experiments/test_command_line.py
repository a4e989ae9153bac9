"""The frame around the binaries, in processes of their own."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BINARY = '''
    """Prints greetings: a sentence for the help."""
    import sys
    from absl import flags
    from experiments.command_line import run_binary
    from fl_research.errors import InputError
    from fl_research.runtime.worker_process import WorkerError

    flags.DEFINE_integer("times", 1, "How often to greet.")
    flags.DEFINE_bool("loud", False, "In capitals.")

    def main(argv):
        if flags.FLAGS.times == 0:
            raise InputError("times=0 greets nobody; give 1 or more")
        if flags.FLAGS.times == 7:
            raise WorkerError("the worker died; run the same command again")
        if flags.FLAGS.times == 8:
            raise KeyboardInterrupt
        if flags.FLAGS.times == 9:
            raise RuntimeError("a mistake of ours")
        for _ in range(flags.FLAGS.times):
            print("hello")
        return 3 if flags.FLAGS.loud else None

    if __name__ == "__main__":
        run_binary(main)
'''


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small binary."""
    path = tmp_path_factory.mktemp("binary") / "greet.py"
    path.write_text(textwrap.dedent(BINARY), encoding="utf-8")
    return path


def run(binary: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    result = subprocess.run(
        [sys.executable, str(binary), *arguments],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
        check=False,
    )
    return result.returncode, result.stdout, result.stderr


def test_exit_codes_are_what_main_returns(binary: Path) -> None:
    assert run(binary, "--times=2") == (0, "hello\nhello\n", "")
    assert run(binary, "--loud") == (3, "hello\n", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--times=0"], 2, "times=0 greets nobody; give 1 or more"),
        (["--times=abc"], 2, "flag --times=abc: invalid literal for int() with base 10: 'abc'"),
        (["--time"], 2, "Unknown command line flag 'time'. Did you mean: times ?"),
        (["times=3"], 2, "argument 'times=3' is no flag; write --name=value, see --help"),
        (["--times=7"], 1, "the worker died; run the same command again"),
        (["--times=8"], 130, "interrupted"),
    ],
)
def test_expected_errors_are_one_line(
    binary: Path, arguments: list[str], code: int, message: str
) -> None:
    assert run(binary, *arguments) == (code, "", f"error: {message}\n")


def test_our_own_mistakes_keep_their_traceback(binary: Path) -> None:
    code, _, error = run(binary, "--times=9")
    assert code == 1 and "Traceback" in error and "a mistake of ours" in error


@pytest.mark.parametrize("flag", ["--help", "-h", "-help"])
def test_help_shows_the_binarys_own_flags(binary: Path, flag: str) -> None:
    code, text, error = run(binary, "--times=0", flag)
    assert code == 0 and error == ""
    assert text.startswith("Prints greetings")
    assert "--times\n        How often to greet. (default: '1')" in text and "--[no]loud" in text
    assert "pdb" not in text


def test_a_reader_that_has_had_enough_is_no_error(binary: Path) -> None:
    result = subprocess.run(
        f"{sys.executable} {binary} --times=100000 | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert (result.stdout, result.stderr) == ("hello\n", "")
