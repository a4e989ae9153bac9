"""Parquet row groups into a population: the same as encoding the whole table at once."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyarrow import Table, parquet

from fl_research.data.client_data import ClientData
from fl_research.data.parquet_population import convert_parquet
from fl_research.data.population import open_population
from fl_research.data.schema import Schema, encode
from fl_research.errors import InputError

COLUMNS = [
    {"name": "customer", "kind": "client"},
    {"name": "months", "kind": "number", "minimum": 0, "maximum": 72, "if_missing": "drop_row"},
    {"name": "plan", "kind": "category", "values": ["basic", "plus"], "if_unknown": "zeros"},
    {"name": "left", "kind": "label", "values": ["No", "Yes"], "positive": "Yes"},
]


def _schema(**fields: object) -> Schema:
    return Schema.from_dict({"columns": COLUMNS} | fields)


def _records(clients: int = 40) -> pd.DataFrame:
    """Sorted by client; missing months, unknown plans, and every third row twice."""
    generator = np.random.default_rng(0)
    customers = np.repeat([f"c{k:03d}" for k in range(clients)], generator.integers(1, 8, clients))
    rows = len(customers)
    months = generator.integers(0, 80, rows).astype(float)
    months[generator.random(rows) < 0.1] = np.nan
    frame = pd.DataFrame(
        {
            "customer": customers,
            "months": months,
            "plan": generator.choice(["basic", "plus", "odd"], rows),
            "left": generator.choice(["No", "Yes"], rows),
        }
    )
    repeats = 1 + (np.arange(rows) % 3 == 0)
    return frame.loc[np.repeat(np.arange(rows), repeats)].reset_index(drop=True)


def _write(path: Path, records: pd.DataFrame, row_group: int) -> Path:
    parquet.write_table(Table.from_pandas(records), path, row_group_size=row_group)
    return path


@pytest.mark.parametrize("row_group", [1, 7, 50, 10_000])
@pytest.mark.parametrize("drop_duplicates", [False, True])
def test_equals_the_table_encoded_whole(
    tmp_path: Path, row_group: int, drop_duplicates: bool
) -> None:
    """Whatever the size of a row group: a client, and its duplicates, may go over its border."""
    schema = _schema(drop_duplicates=drop_duplicates)
    source = _write(tmp_path / "records.parquet", _records(), row_group)
    told: list[tuple[int, int]] = []
    convert_parquet(
        source, tmp_path / "people", schema, progress=lambda done, total: told.append((done, total))
    )
    population = open_population(tmp_path / "people")
    encoded = encode(_records(), schema)
    expected = ClientData.from_rows({"inputs": encoded.inputs}, encoded.labels, encoded.client_ids)
    found = population.clients.select(np.arange(population.clients.num_clients))
    np.testing.assert_array_equal(found.features["inputs"], expected.features["inputs"])
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.row_splits, expected.row_splits)
    assert found.client_ids.tolist() == expected.client_ids.tolist()
    assert population.description.feature_names == encoded.feature_names
    assert population.description.cleaning == encoded.cleaning
    assert population.description.client == "customer"
    assert not population.description.encoding_from_records
    assert Schema.from_dict(population.description.schema) == schema
    assert told[-1] == (len(_records()), len(_records()))


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    """A client may go on in the next file."""
    records = _records()
    (tmp_path / "files").mkdir()
    _write(tmp_path / "files" / "b.parquet", records[100:], 30)
    _write(tmp_path / "files" / "a.parquet", records[:100], 30)
    (tmp_path / "files" / "notes.txt").write_text("not a table")
    convert_parquet(tmp_path / "files", tmp_path / "people", _schema())
    labels = open_population(tmp_path / "people").clients.files.labels.values
    np.testing.assert_array_equal(labels, encode(records, _schema()).labels)


def test_each_row_is_a_client_without_a_client_column(tmp_path: Path) -> None:
    """And duplicates cannot be found piece by piece."""
    records = _records().drop(columns="customer")
    source = _write(tmp_path / "records.parquet", records, 50)
    without = {"columns": COLUMNS[1:]}
    convert_parquet(source, tmp_path / "people", Schema.from_dict(without))
    clients = open_population(tmp_path / "people").clients
    assert clients.num_clients == clients.num_rows == records["months"].notna().sum()
    with pytest.raises(InputError, match="drop_duplicates needs all rows at once"):
        convert_parquet(
            source, tmp_path / "other", Schema.from_dict(without | {"drop_duplicates": True})
        )


def test_wrong_sources_are_one_clear_line_and_leave_nothing(tmp_path: Path) -> None:
    """Absent, not Parquet, unsorted, or refused by the schema."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.parquet").write_text("no table")
    records = _records()
    unsorted = _write(tmp_path / "unsorted.parquet", pd.concat([records, records[:1]]), 30)
    wrong = records.assign(left=records["left"].where(records.index != 65, "Maybe"))
    refused = _write(tmp_path / "refused.parquet", wrong, 30)
    for source, message in (
        (tmp_path / "absent.parquet", "there is no file or folder .*absent"),
        (tmp_path / "empty", "has no file that ends in .parquet"),
        (tmp_path / "text.parquet", r"text\.parquet is not a Parquet file"),
        (unsorted, "client 'c000' comes back after other clients' rows"),
        (refused, r"refused\.parquet, rows from 61 on: column 'left', row 6 .*'Maybe'"),
    ):
        with pytest.raises(InputError, match=message) as error:
            convert_parquet(source, tmp_path / "people", _schema())
        assert "\n" not in str(error.value)
        assert not [path for path in tmp_path.iterdir() if "people" in path.name]
