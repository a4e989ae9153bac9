"""Public files: where a named data set's files are, with their checksums.

A file is looked for at the path the user gives, then in the folder of shared data beside the
repository, then in the cache (`$FL_RESEARCH_DATA`, else `~/.cache/fl_research`), and is downloaded
there where a direct address is known. Its bytes must have a known checksum, except where the user
gave the path: then another checksum is accepted and noted.
"""

import dataclasses
import hashlib
import logging
import os
import tempfile
from pathlib import Path

from fl_research.data.sources import checksum, redact
from fl_research.errors import InputError

_LOGGER = logging.getLogger(__name__)
_REPOSITORY = Path(__file__).resolve().parents[2]
SHARED_DATA = _REPOSITORY.parent / "shared" / "data"
CACHE_VARIABLE = "FL_RESEARCH_DATA"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileOfIt:
    """One file of a data set.

    Attributes:
      name: Its name in the user's, the shared or the cache folder.
      sha256s: Checksums of its known copies.
      address: Where it can be downloaded as it is; None: it cannot.
    """

    name: str
    sha256s: tuple[str, ...]
    address: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublicFiles:
    """The files of a data set that is published.

    Attributes:
      name: What the user types as --dataset.
      terms: Under which terms it may be used, as far as they are established.
      files: Its files, in the order in which they are read.
      origin: Where it is published, for users who have to fetch it themselves.
    """

    name: str
    terms: str
    files: tuple[FileOfIt, ...]
    origin: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Located:
    """Where the files of a data set are.

    Attributes:
      paths: One a file, in order.
      source: The file or folder, in words.
      sha256: Of the file; of several files that of their checksums joined by line ends.
      notes: What a report should add.
    """

    paths: tuple[Path, ...]
    source: str
    sha256: str
    notes: tuple[str, ...] = ()


def locate(public: PublicFiles, path: str | None = None) -> Located:
    """Finds the files of a data set, downloading them where that is possible.

    Args:
      public: What is known of them.
      path: The user's copy: the file, or the folder with all of them; None: found or downloaded.

    Raises:
      InputError: A file cannot be had, or its checksum is wrong.
    """
    if path is not None:
        return _users_copy(public, path)
    folder = SHARED_DATA / public.name
    paths = []
    for file in public.files:
        found = folder / file.name
        if not found.exists():
            found = _cached(public, file)
        paths.append(found)
    digests = [_checked(public, file, at) for file, at in zip(public.files, paths, strict=True)]
    source = str(paths[0] if len(paths) == 1 else paths[0].parent)
    return Located(paths=tuple(paths), source=source, sha256=_joined(digests))


def cache_folder() -> Path:
    """Returns the folder that downloads go to."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/fl_research").expanduser()


def _users_copy(public: PublicFiles, path: str) -> Located:
    """The files at the user's path; a checksum that is not known is noted."""
    where = Path(path).expanduser()
    if where.is_dir():
        paths = tuple(where / file.name for file in public.files)
    elif len(public.files) == 1:
        paths = (where,)
    else:
        names = ", ".join(file.name for file in public.files)
        raise InputError(f"data={redact(path)} is no folder; give the one that holds {names}")
    notes, digests = [], []
    for file, at in zip(public.files, paths, strict=True):
        digest = str(checksum(str(at)))
        digests.append(digest)
        if digest not in file.sha256s:
            notes.append(
                f"data={redact(str(at))} has sha256 {digest}, which is not that of a known copy of "
                f"{public.name} ({' or '.join(file.sha256s)}); it is used as it is"
            )
            _LOGGER.warning(notes[-1])
    return Located(paths=paths, source=redact(path), sha256=_joined(digests), notes=tuple(notes))


def _joined(digests: list[str]) -> str:
    """One checksum for all files."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _cached(public: PublicFiles, file: FileOfIt) -> Path:
    """The file in the cache, downloaded where it is not there."""
    path = cache_folder() / public.name / file.name
    if path.exists():
        return path
    if file.address is None:
        raise InputError(
            f"dataset={public.name!r}: there is no {file.name}, and it cannot be downloaded as it "
            f"is; get it from {public.origin} and give the folder as --data=PATH"
        )
    _download(public, file, path)
    return path


def _checked(public: PublicFiles, file: FileOfIt, path: Path) -> str:
    """Returns the file's checksum, or raises InputError where it is not a known one."""
    sha256 = str(checksum(str(path)))
    if sha256 not in file.sha256s:
        raise InputError(
            f"dataset={public.name!r}: {path} has sha256 {sha256}, expected "
            f"{' or '.join(file.sha256s)}; replace or delete the file, or give your copy as "
            "--data=PATH"
        )
    return sha256


def _download(public: PublicFiles, file: FileOfIt, target: Path) -> None:
    """Downloads to a file beside the target, which appears only once its checksum is right."""
    import pooch  # here, because it costs a fraction of a second that --help must not pay

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            partial = Path(folder) / target.name
            pooch.HTTPDownloader(timeout=30)(file.address, partial, None)
            sha256 = checksum(str(partial))
            if sha256 not in file.sha256s:
                raise InputError(
                    f"dataset={public.name!r}: {file.address} now has sha256 {sha256}, expected "
                    f"{' or '.join(file.sha256s)}; give a copy you trust as --data=PATH"
                )
            partial.replace(target)
    except OSError as error:  # that of requests is one too
        raise InputError(
            f"dataset={public.name!r}: could not download {file.address} to {target} "
            f"({type(error).__name__}); get the file with sha256 {' or '.join(file.sha256s)} "
            "elsewhere and give it as --data=PATH"
        ) from error
