"""NumPy files of rows that are read in part: ranges into memory of ours, the rest by mapping.

A mapped page counts as memory of the process once it has been touched, with all its neighbours up
to two megabytes, and stays until the kernel wants it: a training that visits other clients every
round would come to hold the whole file. So the rows of a cohort are read, range by range, into an
array of their own. The kernel is told of all ranges first, so that a cold disk serves them in
parallel; what was read stays in the page cache, which belongs to the machine. The mapping is for
what looks at a file from end to end, and is given back after.
"""

import mmap
import os
from pathlib import Path
from typing import IO

import numpy as np

from fl_research.errors import InputError


class ArrayFile:
    """An array in a `.npy` file, read-only.

    Attributes:
      path: The file.
      values: The array, mapped.

    Raises:
      InputError: The file is absent, cut short, or no array that can be mapped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - open while it is read
            shape, dtype = _read_header(self._file)
            self._offset = self._file.tell()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; restore it") from None
        except ValueError as error:
            raise InputError(f"{path} is damaged: {error}; restore it") from None
        size = self._offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if len(self._map) != size:
            raise InputError(
                f"{path} is damaged: it has {len(self._map):,} bytes where {size:,} belong; "
                "restore it"
            )
        flat = np.frombuffer(self._map, dtype, offset=self._offset)
        self.values: np.ndarray = flat.reshape(shape)

    def read(self, first_rows: np.ndarray, last_rows: np.ndarray) -> np.ndarray:
        """Reads ranges of rows into one new array, one after another.

        Args:
          first_rows: `int64[ranges]`, the first row of each.
          last_rows: `int64[ranges]`, one past the last row of each.

        Raises:
          InputError: The file was cut short since it was opened.
        """
        rows = np.empty(
            (int((last_rows - first_rows).sum()), *self.values.shape[1:]), self.values.dtype
        )
        row_bytes = self.values.itemsize * int(np.prod(self.values.shape[1:], dtype=np.int64))
        starts = (self._offset + first_rows * row_bytes).tolist()
        sizes = ((last_rows - first_rows) * row_bytes).tolist()
        descriptor = self._file.fileno()
        for start, size in zip(starts, sizes, strict=True):
            if size:  # No bytes would mean all to the end.
                os.posix_fadvise(descriptor, start, size, os.POSIX_FADV_WILLNEED)
        into = rows.reshape(-1).view(np.uint8).data
        done = 0
        for start, size in zip(starts, sizes, strict=True):
            end = done + size
            while done < end:
                got = os.preadv(descriptor, [into[done:end]], start + size - (end - done))
                if not got:
                    raise InputError(f"{self.path} was cut short; restore it")
                done += got
        return rows

    def release(self) -> None:
        """Gives back the mapped pages that were touched; touching them again is possible."""
        self._map.madvise(mmap.MADV_DONTNEED)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Reads a `.npy` header; ValueError says what is wrong with it."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"it is of version {version} of NumPy's format, not 1 or 2")
    shape, is_fortran, dtype = read[version](file)
    if is_fortran or dtype.hasobject or not shape:
        raise ValueError("it holds no plain array of rows")
    return shape, dtype
