"""Files that survive a crash: written whole or not at all, and on the disk when the call returns.

A whole file is written under a temporary name in the same folder, flushed to the disk, and renamed,
which the file system does in one step. What is appended is flushed; an append that the disk cuts
short is taken back. A lock is the kernel's, which frees it however its process ends.
"""

import contextlib
import errno
import fcntl
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from fl_research.errors import InputError

_TEMPORARY_SUFFIX = ".partly_written"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextlib.contextmanager
def storage_errors(path: Path, *, argument: str = "") -> Iterator[None]:
    """Turns what the operating system refuses about `path` into an `InputError` of one line.

    Args:
      path: What is written.
      argument: The flag that chose the place, such as `--output_dir`, where it alone did.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        another = f"choose another {argument or 'folder'}"
        if error.errno in _NO_SPACE:
            way_out = "free some space, then run the same command again to resume"
        elif error.errno in _NO_PERMISSION:
            way_out = f"mend its permissions or {another}"
        else:
            way_out = f"put that right or {another}"
        prefix = f"{argument}: " if argument else ""
        raise InputError(f"{prefix}cannot write {path}: {reason}; {way_out}") from error


def lock(descriptor: int, path: Path) -> bool:
    """Takes an open file for this process, until it is closed or the process ends.

    Args:
      descriptor: The open file.
      path: Its path, for the message.

    Returns:
      Whether it was free.

    Raises:
      InputError: The file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise InputError(
            f"cannot lock {path}: {error.strerror}; choose a folder on a file system with locks"
        ) from error
    return True


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_and_sync(path: Path, parts: Iterable[bytes], *, mode: int = 0o666) -> None:
    """Writes a new file, in place of an old one, and flushes it; a kill leaves a part of it.

    Args:
      path: The file; its folder exists.
      parts: The content, in order.
      mode: The file's permissions from its first byte on, less the process's umask.

    Raises:
      OSError: It cannot be written; there is no such file then.
    """
    path.unlink(missing_ok=True)
    with _removed_on_failure(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(descriptor)


def write_atomically(path: Path, content: bytes | str, *, mode: int = 0o666) -> None:
    """Writes a whole file: afterwards `path` holds the old content or the new, never a part.

    Args:
      path: The file; its folder exists.
      content: Text is encoded as UTF-8.
      mode: The file's permissions, less the process's umask.

    Raises:
      InputError: It cannot be written (no space, no permission); the old content is still there.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}{_TEMPORARY_SUFFIX}")
    with storage_errors(path), _removed_on_failure(temporary):
        write_and_sync(temporary, [data], mode=mode)
        os.replace(temporary, path)
        sync_folder(path.parent)


def append_and_sync(file: io.FileIO, data: bytes) -> None:
    """Appends to an open file, whole or not at all, and flushes it.

    Args:
      file: Open for writing, without a buffer.
      data: What is added.

    Raises:
      OSError: It cannot be written; the file is as long as before.
    """
    end = file.seek(0, os.SEEK_END)
    try:
        written = 0
        while written < len(data):
            written += file.write(data[written:])
        os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(end)
        raise


def truncate_and_sync(file: io.FileIO, size: int) -> None:
    """Cuts an open file off after `size` bytes and flushes it.

    Raises:
      OSError: It cannot be done.
    """
    file.truncate(size)
    os.fsync(file.fileno())


def append_line(path: Path, line: str) -> None:
    """Appends one line to a file that exists, whole or not at all.

    Args:
      path: The file.
      line: Without its line end.

    Raises:
      InputError: It cannot be written; the file is as long as before.
    """
    with storage_errors(path), open(path, "r+b", buffering=0) as file:
        append_and_sync(file, f"{line}\n".encode())


def drop_torn_line(path: Path) -> None:
    """Cuts off a last line without a line end, left by a killed program.

    Raises:
      InputError: The file cannot be written.
    """
    with storage_errors(path), open(path, "r+b", buffering=0) as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            truncate_and_sync(file, whole)


def is_leftover(name: str) -> bool:
    """Returns whether a file's name is that of a temporary file of `write_atomically`."""
    return name.startswith(".") and name.endswith(_TEMPORARY_SUFFIX)


def remove_leftovers(folder: Path) -> None:
    """Deletes the temporary files that a killed `write_atomically` left in a folder."""
    for path in folder.iterdir():
        if is_leftover(path.name):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    """Deletes a file if the operating system refuses something in the body."""
    try:
        yield
    except OSError:
        path.unlink(missing_ok=True)
        raise
