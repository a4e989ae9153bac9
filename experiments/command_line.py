"""The frame around every experiment binary: its help, its errors and its exit code.

`--help` shows the binary's docstring and its own flags and ends before anything slow is imported.
Wrong input ends with one line on stderr and exit code 2; an unexpected error keeps its traceback,
because it is ours to fix.
"""

import gc
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

from absl import app, flags

from fl_research.errors import InputError
from fl_research.runtime.worker_process import WorkerError

FLAGS = flags.FLAGS

WRONG_INPUT = 2
INTERRUPTED = 130
_HELP = {"--help", "-help", "-h", "--helpshort", "-helpshort"}
_WIDTH = 100


class HasDefaults(Protocol):
    """What has flags with defaults of its own."""

    def set_defaults(self) -> None:
        """Sets them, before flags are parsed."""


def run_binary(
    main: Callable[[list[str]], int | None], use_case: HasDefaults | None = None
) -> NoReturn:
    """Parses the flags, runs `main` and exits.

    Exit codes: what `main` returns (None is 0), 2 for wrong input or flags, 1 for a TensorFlow
    Federated worker that died, 130 after Ctrl-C, 0 for `--help`.

    Args:
      main: Takes the program's name as a list of one. Slow imports belong inside it.
      use_case: Sets the defaults of its flags; None: they are as declared.
    """
    if use_case is not None:
        use_case.set_defaults()
    # TensorFlow's import makes a million objects that stay. Looking through them for garbage every
    # 700 new ones, as Python does, takes a tenth of the time that a run needs to start.
    gc.set_threshold(50_000, 20, 100)
    app.run(lambda argv: _guarded(main, argv), flags_parser=_parse_flags)
    raise AssertionError("app.run exits")


def help_text(binary: str, docstring: str | None) -> str:
    """Returns what `--help` prints.

    Args:
      binary: The module whose key flags are shown; for the program itself `sys.argv[0]`.
      docstring: The binary's own, shown first.
    """
    lines = [(docstring or "").strip(), "", "flags:"]
    for flag in sorted(FLAGS.get_key_flags_for_module(binary), key=lambda flag: flag.name):
        lines.append(f"  --{'[no]' if flag.boolean else ''}{flag.name}")
        text = flag.help or ""
        if flag.default_as_str:
            text += f" (default: {flag.default_as_str})"
        lines += textwrap.wrap(text, _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)
    lines += ["", "  --flagfile=FILE reads flags from a file, one a line."]
    return "\n".join(lines)


def _parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses flags; answers `--help` itself, and refuses what is no flag."""
    before_end = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
    if _HELP.intersection(before_end):
        _to_reader(lambda: print(help_text(sys.argv[0], sys.modules["__main__"].__doc__)))
        sys.exit(0)
    try:
        rest: list[str] = FLAGS(argv)
    except flags.Error as error:
        _fail(" ".join(str(error).split()), WRONG_INPUT)
    if len(rest) > 1:
        _fail(f"argument {rest[1]!r} is no flag; write --name=value, see --help", WRONG_INPUT)
    return rest


def _guarded(main: Callable[[list[str]], int | None], argv: list[str]) -> int | None:
    """Runs `main` and turns expected errors into one line each."""
    try:
        return _to_reader(lambda: main(argv))
    except InputError as error:
        _fail(str(error), WRONG_INPUT)
    except WorkerError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)


def _to_reader(write: Callable[[], int | None]) -> int | None:
    """Calls `write`; a reader that has had enough, such as `head`, is no error."""
    try:
        result = write()
        sys.stdout.flush()
        return result
    except BrokenPipeError:
        # Python flushes stdout again at exit: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _fail(message: str, code: int) -> NoReturn:
    """Ends with one line on stderr."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
