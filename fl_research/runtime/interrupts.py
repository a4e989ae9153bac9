"""SIGINT (Ctrl-C) and SIGTERM: put off, not lost, and SIGTERM as an orderly exit.

Python runs signal handlers in the main thread only, so outside it nothing here has an effect.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_EXIT_CODE_SIGTERM = 128 + signal.SIGTERM
_LEFT_ALONE = (None, signal.SIG_IGN)  # set outside Python, or ignored as under `nohup`


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Holds SIGINT and SIGTERM back until the body is done."""
    received: list[int] = []
    with _handled_by(lambda number, frame, before: received.append(number)):
        yield
    if received:
        signal.raise_signal(received[0])


@contextlib.contextmanager
def not_lost() -> Iterator[None]:
    """Raises an interrupt again at the end if the body swallowed it.

    For imports: compiled modules drop whatever is raised while they load, `KeyboardInterrupt`
    too (seen once in 40 with gRPC's), and the program would run on.
    """
    received: list[int] = []

    def remember(number: int, frame: FrameType | None, before: Any) -> None:
        """Notes the signal and lets the handler of before have it."""
        received.append(number)
        if callable(before):
            before(number, frame)

    try:
        with _handled_by(remember):
            yield
    except Exception:
        if received:  # the error is what a half-loaded module makes of the interrupt
            signal.raise_signal(received[0])
        raise
    if received:
        signal.raise_signal(received[0])


@contextlib.contextmanager
def sigterm_exits() -> Iterator[None]:
    """Turns SIGTERM into `SystemExit(143)`, unless the program handles it itself."""
    if not _is_main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(_: int, __: FrameType | None) -> None:
        """Leaves as `sys.exit` does."""
        raise SystemExit(_EXIT_CODE_SIGTERM)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def _handled_by(handle: Callable[[int, FrameType | None, Any], None]) -> Iterator[None]:
    """Gives both signals to a handler that gets the one of before too; ignored ones stay so."""
    previous: dict[int, Any] = {}
    if _is_main_thread():
        previous = {int(n): signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        previous = {n: before for n, before in previous.items() if before not in _LEFT_ALONE}
    try:
        for number in previous:
            signal.signal(number, lambda n, frame: handle(n, frame, previous[n]))
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def _is_main_thread() -> bool:
    """Returns whether signal handlers can be set here."""
    return threading.current_thread() is threading.main_thread()
