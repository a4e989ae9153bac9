"""Array files: NumPy's files as they are, ranges of rows, and pages that are given back."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from fl_research.data.array_file import ArrayFile
from fl_research.errors import InputError


def _mapped_kib() -> int:
    """Pages of files that this process holds, in KiB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssFile:\s+(\d+)", status).group(1))


@pytest.mark.parametrize(
    "values",
    [
        np.arange(12, dtype=np.int64),
        np.random.default_rng(0).random((5, 3, 2)).astype(np.float32),
        np.array(["a", "much longer"]),
        np.zeros((0, 4)),
    ],
    ids=["int64", "float32", "text", "no rows"],
)
def test_reads_what_numpy_wrote(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", values)
    array = ArrayFile(tmp_path / "a.npy")
    np.testing.assert_array_equal(array.values, values)
    assert array.values.dtype == values.dtype and not array.values.flags.writeable


def test_pages_are_held_while_they_are_read_only(tmp_path: Path) -> None:
    """40 MB looked at whole are held, and given back; ranges that are read are never held."""
    values = np.random.default_rng(0).random((500_000, 10))
    np.save(tmp_path / "a.npy", values)
    array = ArrayFile(tmp_path / "a.npy")
    before = _mapped_kib()
    assert array.values.sum() == pytest.approx(values.sum())
    held = _mapped_kib() - before
    array.release()
    after = _mapped_kib() - before
    assert held > 35_000 and after < 5_000
    first = np.arange(0, 500_000, 1000)
    rows = array.read(first, first + 3)
    assert _mapped_kib() - before < 5_000
    np.testing.assert_array_equal(rows, values.reshape(500, 1000, 10)[:, :3].reshape(-1, 10))


@pytest.mark.parametrize("shape", [(50,), (50, 3), (50, 2, 2)])
def test_ranges_come_one_after_another_in_the_order_asked_for(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    """Also none, ranges without rows, ranges that overlap, and the last row."""
    values = np.random.default_rng(0).integers(0, 1000, shape)
    np.save(tmp_path / "a.npy", values)
    array = ArrayFile(tmp_path / "a.npy")
    for ranges in ([], [(7, 7)], [(40, 50), (3, 5), (0, 1), (2, 2), (4, 9)]):
        first, last = np.array(ranges, np.int64).reshape(-1, 2).T
        expected = np.concatenate([values[:0], *(values[a:b] for a, b in ranges)])
        found = array.read(first, last)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == values.dtype and found.flags.writeable


def test_a_file_that_shrinks_while_it_is_open_is_noticed(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(1000))
    array = ArrayFile(tmp_path / "a.npy")
    os.truncate(tmp_path / "a.npy", 4000)
    with pytest.raises(InputError, match=r"a\.npy was cut short"):
        array.read(np.array([400]), np.array([600]))


def test_what_cannot_be_mapped_is_refused(tmp_path: Path) -> None:
    """One line that names the file and what is wrong with it."""
    path = tmp_path / "a.npy"
    with pytest.raises(InputError, match=r"cannot read .*a\.npy: No such file"):
        ArrayFile(path)
    np.save(path, np.asfortranarray(np.ones((3, 2))))
    with pytest.raises(InputError, match=r"a\.npy is damaged: it holds no plain array of rows"):
        ArrayFile(path)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="no plain array"):
        ArrayFile(path)
    path.write_bytes(b"no array at all")
    with pytest.raises(InputError, match="is damaged"):
        ArrayFile(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="is damaged"):
        ArrayFile(path)
