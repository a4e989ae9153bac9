"""Populations on disk: what is written is what is read, views copy nothing, changes are noticed."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_research.data import population_writer
from fl_research.data.blocks import cut_into_blocks
from fl_research.data.client_data import ClientData
from fl_research.data.population import (
    Population,
    PopulationDescription,
    is_population,
    open_population,
)
from fl_research.data.population_writer import Rows, write_population
from fl_research.errors import InputError

DESCRIPTION = PopulationDescription(encoding_from_records=False)


def _data(num_clients: int = 60) -> ClientData:
    """Clients of 1 to 9 rows, two features, ids that are texts."""
    generator = np.random.default_rng(0)
    sizes = generator.integers(1, 10, num_clients)
    rows = int(sizes.sum())
    features = {
        "inputs": generator.random((rows, 3), dtype=np.float32),
        "tokens": generator.integers(0, 9, (rows, 4, 2)),
    }
    ids = np.repeat(np.char.mod("client %03d", np.arange(num_clients)), sizes)
    return ClientData.from_rows(features, generator.integers(0, 2, rows).astype(np.int32), ids)


def _pieces(data: ClientData, edges: list[int]) -> Iterator[Rows]:
    """The rows of `data`, cut at these rows, wherever in a client they fall."""
    ids = np.repeat(data.client_ids, data.rows_per_client)
    for first, last in zip([0, *edges], [*edges, data.num_rows], strict=True):
        piece = slice(first, last)
        features = {name: values[piece] for name, values in data.features.items()}
        yield Rows(features, data.labels[piece], ids[piece])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A population of `_data()`, written in pieces."""
    write_population(tmp_path / "people", _pieces(_data(), [7, 8, 100]), description=DESCRIPTION)
    return tmp_path / "people"


def _assert_same(one: ClientData, other: ClientData) -> None:
    """Fails unless both hold the same clients with the same rows and types."""
    assert one.row_types == other.row_types
    for name, values in other.features.items():
        np.testing.assert_array_equal(one.features[name], values)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.labels.dtype == other.labels.dtype
    np.testing.assert_array_equal(one.row_splits, other.row_splits)
    np.testing.assert_array_equal(one.client_ids, other.client_ids)


@pytest.mark.parametrize("edges", [[], [1], [0, 0, 5], [3, 50, 51, 200], list(range(1, 250))])
def test_what_is_read_is_what_was_written(tmp_path: Path, edges: list[int]) -> None:
    """However the rows are cut into pieces, the digest included."""
    data = _data()
    for name, cut in (("whole", []), ("cut", edges)):
        write_population(tmp_path / name, _pieces(data, cut), description=DESCRIPTION)
    population = open_population(tmp_path / "cut")
    _assert_same(population.clients.select(np.arange(data.num_clients)), data)
    assert population.clients.num_rows == data.num_rows
    np.testing.assert_array_equal(population.clients.rows_per_client, data.rows_per_client)
    assert population.sha256 == open_population(tmp_path / "whole").sha256
    assert is_population(str(tmp_path / "cut")) and not is_population(str(tmp_path))
    # Plain NumPy files, for everybody else.
    np.testing.assert_array_equal(np.load(tmp_path / "cut" / "labels.npy"), data.labels)


def test_a_view_takes_part_in_rounds_as_the_data_in_memory(folder: Path) -> None:
    """Split, cap and blocks are the same to the bit; counts of labels too."""
    data, clients = _data(), open_population(folder).clients
    fractions = {"validation_fraction": 0.2, "test_fraction": 0.3, "seed": 5}
    in_memory = data.cap_rows(4, seed=9).split(**fractions)
    on_disk = clients.cap_rows(4, seed=9).split(**fractions)
    for one, other in zip(on_disk, in_memory, strict=True):
        assert (one.num_clients, one.num_rows) == (other.num_clients, other.num_rows)
        assert one.label_counts() == other.label_counts()
        assert one.row_types == other.row_types
        cohort = np.random.default_rng(1).permutation(one.num_clients)[:7]
        _assert_same(one.select(cohort), other.select(cohort))
        blocks = [
            cut_into_blocks(part, cohort, num_blocks=2, seed=3, round_number=4)
            for part in (one, other)
        ]
        for a, b in zip(*blocks, strict=True):
            for name in ("labels", "row_splits", "seeds"):
                np.testing.assert_array_equal(a[name], b[name])
    _assert_same(on_disk[0].select([]), in_memory[0].select([]))


def test_nothing_is_copied_until_a_cohort_is_selected(folder: Path) -> None:
    """A split holds indices; a selected cohort owns its rows, and keeps them."""
    clients = open_population(folder).clients
    mapped = clients.files.features["inputs"].values
    train, _, _ = clients.split(validation_fraction=0.2, test_fraction=0.3, seed=0)
    assert train.files is clients.files and train.indices is not None
    assert train.indices.nbytes == 4 * train.num_clients
    cohort = train.select([2, 0])
    assert not np.shares_memory(cohort.features["inputs"], mapped)
    assert not mapped.flags.writeable
    expected = cohort.features["inputs"].copy()
    clients.files.release()
    np.testing.assert_array_equal(cohort.features["inputs"], expected)
    np.testing.assert_array_equal(train.select([2, 0]).features["inputs"], expected)


def test_wrong_indices_and_a_second_cap_are_refused(folder: Path) -> None:
    """The view's own indices count, not the population's."""
    clients = open_population(folder).clients
    _, validation, _ = clients.split(validation_fraction=0.2, test_fraction=0.3, seed=0)
    with pytest.raises(InputError, match="clients has indices from 0 to 12; .* 0 to 11"):
        validation.select(np.arange(13))
    with pytest.raises(InputError, match="max_rows_per_client=0"):
        clients.cap_rows(0, seed=0)
    with pytest.raises(ValueError, match="capped already, at 3"):
        clients.cap_rows(3, seed=0).cap_rows(5, seed=0)


def test_each_row_is_a_client_without_ids(tmp_path: Path) -> None:
    """Over pieces, numbered through."""
    pieces = [Rows({"x": np.ones((3, 2))}, np.ones(3), None)] * 2
    write_population(tmp_path / "people", pieces, description=DESCRIPTION)
    clients = open_population(tmp_path / "people").clients
    assert clients.num_clients == clients.num_rows == 6
    assert clients.files.client_ids.values.tolist() == [0, 1, 2, 3, 4, 5]


def test_numbers_and_texts_of_one_column_become_texts(tmp_path: Path) -> None:
    """A whole number above 2**53 stays what it is; a client goes on whatever its type."""
    large = 2**60 + 1
    pieces = [
        Rows({}, np.zeros(2), np.array([1, large])),
        Rows({}, np.zeros(2), np.array([large, "b"], dtype=object)),
    ]
    write_population(tmp_path / "people", pieces, description=DESCRIPTION)
    clients = open_population(tmp_path / "people").clients
    assert clients.files.client_ids.values.tolist() == ["1", str(large), "b"]
    assert clients.rows_per_client.tolist() == [1, 2, 1]


ROW = np.ones((2, 2), np.float32)
WRONG_PIECES: dict[str, tuple[list[Any], str]] = {
    "none": ([], "there are no rows to write"),
    "empty": ([Rows({"x": ROW[:0]}, np.ones(0), [])], "there are no rows to write"),
    "not finite": (
        [Rows({"x": ROW}, np.ones(2), [1, 2]), Rows({"x": ROW * np.nan}, np.ones(2), [3, 4])],
        "'x' has a value that is NaN or infinite in row 2",
    ),
    "label not finite": ([Rows({"x": ROW}, np.full(2, np.inf), [1, 2])], "'labels' has a value"),
    "lengths": ([Rows({"x": ROW}, np.ones(3), [1, 2, 3])], "feature 'x' has 2 rows, labels has 3"),
    "ids": ([Rows({"x": ROW}, np.ones(2), [1])], "client_ids has 1 rows, labels has 2"),
    "missing id": (
        [Rows({"x": ROW}, np.ones(2), np.array(["a", None], object))],
        "client id is missing in row 1",
    ),
    "comes back": (
        [Rows({"x": ROW}, np.ones(2), ["a", "b"]), Rows({"x": ROW}, np.ones(2), ["c", "a"])],
        "client 'a' comes back after other clients' rows; sort the rows",
    ),
    "other features": (
        [Rows({"x": ROW}, np.ones(2), [1, 2]), Rows({"y": ROW}, np.ones(2), [3, 4])],
        r"features=\['y'\] are not those of the rows before",
    ),
    "other shape": (
        [Rows({"x": ROW}, np.ones(2), [1, 2]), Rows({"x": ROW[:, :1]}, np.ones(2), [3, 4])],
        r"x has rows of float32\[1\], those before were of float32\[2\]",
    ),
    "other type": (
        [Rows({"x": ROW}, np.ones(2), [1, 2]), Rows({"x": ROW.astype(int)}, np.ones(2), [3, 4])],
        r"x has rows of int64\[2\]",
    ),
    "objects": ([Rows({"x": np.array([{}, {}])}, np.ones(2), [1, 2])], "x has values of type obj"),
    "feature name": ([Rows({"../x": ROW}, np.ones(2), [1, 2])], r"feature '\.\./x' has no name"),
}


@pytest.mark.parametrize("case", WRONG_PIECES)
def test_wrong_pieces_are_refused_and_leave_nothing(tmp_path: Path, case: str) -> None:
    """One line, and neither the folder nor an unfinished one."""
    pieces, message = WRONG_PIECES[case]
    with pytest.raises(InputError, match=message) as error:
        write_population(tmp_path / "people", pieces, description=DESCRIPTION)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_breaks_leaves_nothing_and_its_error_passes(tmp_path: Path) -> None:
    """Also one that is not ours."""

    def breaking() -> Iterator[Rows]:
        yield Rows({"x": ROW}, np.ones(2), [1, 2])
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        write_population(tmp_path / "people", breaking(), description=DESCRIPTION)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(folder: Path) -> None:
    """Whatever is in it."""
    with pytest.raises(InputError, match="people is there already; remove it, or choose another"):
        write_population(folder, _pieces(_data(), []), description=DESCRIPTION)
    assert open_population(folder).clients.num_clients == 60


def test_feature_names_must_fit(tmp_path: Path) -> None:
    """As many as the columns of `inputs`; they are read back as they were."""
    named = PopulationDescription(
        encoding_from_records=True, feature_names=("a", "b"), client="who", cleaning={"kept": 2}
    )
    rows = [Rows({"inputs": ROW}, np.ones(2), [1, 2])]
    write_population(tmp_path / "good", rows, description=named)
    assert open_population(tmp_path / "good").description == named
    other = [Rows({"inputs": np.ones((2, 3))}, np.ones(2), [1, 2])]
    with pytest.raises(InputError, match=r"feature_names has 2 names, a row .* shape \[3\]"):
        write_population(tmp_path / "bad", other, description=named)


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the manifest."""
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def _flip(path: Path) -> None:
    """Changes the last byte, as an editor would: the file becomes newer."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    _make_newer(path)


def _make_newer(path: Path) -> None:
    """Makes a file a second newer than the manifest."""
    manifest = next(parent for parent in path.parents if (parent / "population.json").exists())
    later = (manifest / "population.json").stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))


BREACHES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda p: (p / "population.json").unlink(), "is no population: cannot read"),
    "no json": (lambda p: (p / "population.json").write_text("{"), "population.json is damaged"),
    "no object": (lambda p: (p / "population.json").write_text("[]"), "is damaged"),
    "newer version": (
        lambda p: _edit(p / "population.json", lambda m: m.update(version=2)),
        r"is 'fl_research population', version 2; this program reads .* version 1",
    ),
    "no labels": (
        lambda p: _edit(p / "population.json", lambda m: m["arrays"].pop("labels.npy")),
        "is damaged .*labels",
    ),
    "file gone": (lambda p: (p / "features" / "tokens.npy").unlink(), r"cannot read .*tokens\.npy"),
    "cut short": (
        lambda p: os.truncate(p / "labels.npy", (p / "labels.npy").stat().st_size - 3),
        r"labels\.npy is damaged: it has .* bytes where",
    ),
    "no array": (lambda p: (p / "labels.npy").write_bytes(b"x" * 500), "labels.npy is damaged"),
    "other type": (
        lambda p: np.save(p / "labels.npy", np.load(p / "labels.npy").astype(np.int64)),
        r"labels\.npy is not what was written: .*<i8.*not .*<i4",
    ),
    "value changed": (
        lambda p: _flip(p / "features" / "inputs.npy"),
        "changed after it was written",
    ),
    "splits changed": (lambda p: _flip(p / "row_splits.npy"), "changed after it was written"),
}


@pytest.mark.parametrize("case", BREACHES)
def test_files_that_are_not_what_was_written_are_refused(folder: Path, case: str) -> None:
    """One line that names the file."""
    breach, message = BREACHES[case]
    breach(folder)
    with pytest.raises(InputError, match=message) as error:
        open_population(folder)
    assert "\n" not in str(error.value)


def test_a_copy_without_times_is_read_once_more_and_passes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The values are what counts; untouched files are not read."""
    from fl_research.data import population

    read: list[int] = []
    real = population.array_sha256
    monkeypatch.setattr(population, "array_sha256", lambda v: read.append(len(v)) or real(v))
    digest = open_population(folder).sha256
    assert read == []
    _make_newer(folder / "labels.npy")
    assert open_population(folder).sha256 == digest
    assert read == [_data().num_rows]


def test_the_digest_follows_every_value_and_the_description(tmp_path: Path) -> None:
    """A run that is resumed compares it."""

    def digest(name: str, change: Callable[[np.ndarray], object], **said: Any) -> str:
        labels = np.array([0, 1, 1])
        change(labels)
        rows = [Rows({"x": np.ones((3, 2))}, labels, [1, 2, 3])]
        described = PopulationDescription(**{"encoding_from_records": False} | said)
        write_population(tmp_path / name, rows, description=described)
        found: Population = open_population(tmp_path / name)
        return found.sha256

    same = digest("a", lambda labels: None)
    assert digest("b", lambda labels: None) == same
    assert digest("c", lambda labels: labels.__setitem__(2, 0)) != same
    assert digest("d", lambda labels: None, encoding_from_records=True) != same


def test_a_header_is_numpys_whatever_the_shape(tmp_path: Path) -> None:
    """Read back by numpy itself."""
    for number, shape in enumerate([(3,), (3, 1), (2, 28, 28, 1)]):
        values = np.random.default_rng(0).random(shape)
        path = tmp_path / f"{number}.npy"
        population_writer._write_array(path, values)
        np.testing.assert_array_equal(np.load(path), values)
