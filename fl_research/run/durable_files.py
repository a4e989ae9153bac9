"""Files that survive a crash: written whole or not at all, and on the disk when the call returns.

A whole file is written under a temporary name in the same folder, flushed to the disk, and renamed,
which the file system does in one step. A line is appended with one write and flushed; a write that
the disk cuts short is taken back.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from fl_research.errors import InputError

_TEMPORARY_SUFFIX = ".partly_written"


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns what the operating system refuses about `path` into an `InputError` of one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            way_out = "free some space, then run the same command again to resume"
        else:
            way_out = "choose another --output_dir or mend its permissions"
        raise InputError(f"--output_dir: can't write {path}: {reason}; {way_out}") from error


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Writes a whole file: afterwards `path` holds the old content or the new, never a part.

    Args:
      path: The file; its folder exists.
      content: Text is encoded as UTF-8.

    Raises:
      InputError: It can't be written (no space, no permission); the old content is still there.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}{_TEMPORARY_SUFFIX}")
    with storage_errors(path):
        try:
            _write_new(temporary, data)
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Appends one line to a file that exists, whole or not at all.

    Args:
      path: The file.
      line: Without its line end.

    Raises:
      InputError: It can't be written; the file is as long as before.
    """
    with storage_errors(path), open(path, "r+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        data = f"{line}\n".encode()
        try:
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise


def drop_torn_line(path: Path) -> bool:
    """Cuts off a last line without a line end, left by a killed program; returns if it did.

    Raises:
      InputError: The file can't be written.
    """
    with storage_errors(path), open(path, "r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole == len(content):
            return False
        file.truncate(whole)
        os.fsync(file.fileno())
        return True


def is_leftover(name: str) -> bool:
    """Returns whether a file's name is that of a temporary file of `write_atomically`."""
    return name.startswith(".") and name.endswith(_TEMPORARY_SUFFIX)


def remove_leftovers(folder: Path) -> None:
    """Deletes the temporary files that a killed `write_atomically` left in a folder."""
    for path in folder.iterdir():
        if is_leftover(path.name):
            path.unlink(missing_ok=True)


def _write_new(path: Path, data: bytes) -> None:
    """Writes and flushes a file."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
