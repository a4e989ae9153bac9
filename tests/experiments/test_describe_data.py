"""Describing records as a user does: every kind of source, files, and what is refused."""

import contextlib
import json
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import describe_data, described_records
from fl_research.data.datasets import registry as datasets
from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.population import PopulationDescription
from fl_research.data.population_writer import Rows, write_population
from fl_research.data.schema import Schema, encode
from fl_research.data.synthetic import telecom
from fl_research.errors import InputError


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty customers of one to three rows."""
    generator = np.random.default_rng(0)
    customers = np.repeat(np.arange(40), 1 + np.arange(40) % 3)
    rows = len(customers)
    path = tmp_path_factory.mktemp("table") / "customers.csv"
    pd.DataFrame(
        {
            "customer": [f"c{n:02d}" for n in customers],
            "months": generator.integers(0, 72, rows),
            "charges": [" " if n % 11 == 0 else f"{n * 1.5:.1f}" for n in range(rows)],
            "plan": generator.choice(["basic", "plus"], rows),
            "left": np.where(generator.random(rows) < 0.3, "Yes", "No"),
        }
    ).to_csv(path, index=False)
    return path


def run(*arguments: str) -> None:
    """Runs the binary's main in this process, with its own defaults."""
    with flagsaver.flagsaver():
        describe_data.Defaults().set_defaults()
        flags.FLAGS(["describe_data", *arguments])
        describe_data.main([])


def test_a_file_with_schema_and_pictures(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, schema_file = tmp_path / "described", tmp_path / "made" / "schema.json"
    run(f"--data={table}", "--client_column=customer", "--label_column=left", f"--out={out}",
        f"--schema_out={schema_file}")  # fmt: skip
    printed = capsys.readouterr().out
    assert "40 clients (`customer`)" in printed and "no epsilon covers" in printed
    assert (out / "description.md").read_text() in printed
    content = json.loads((out / "description.json").read_text())
    assert content["rows"] == len(pd.read_csv(table)) and content["clients"]["number"] == 40
    assert {file.name for file in out.glob("*.png")} == {"columns.png", "clients.png", "label.png"}
    schema = Schema.from_json(schema_file)
    assert schema.inferred and schema.client_column.name == "customer"
    encoded = encode(pd.read_csv(table, dtype=str), schema)
    assert len(encoded.inputs) == content["rows"]
    with pytest.raises(InputError, match=r"--out=.* is there already; choose another, or --over"):
        run(f"--data={table}", f"--out={out}")
    with pytest.raises(InputError, match=r"--schema_out=.* is there already"):
        run(f"--data={table}", f"--schema_out={schema_file}")
    run(f"--data={table}", f"--out={out}", "--overwrite")


def test_a_database(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "crm.db")) as connection:
        pd.read_csv(table).to_sql("customers", connection, index=False)
    run(f"--data=sqlite:///{tmp_path}/crm.db", "--query=SELECT customer, months FROM customers")
    assert ", 2 columns" in capsys.readouterr().out


def test_a_population(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    ids = np.repeat([f"c{n}" for n in range(10)], 4)
    inputs = generator.random((40, 2)).astype(np.float32)
    labels = generator.integers(0, 2, 40).astype(np.int32)
    write_population(
        tmp_path / "people",
        [Rows(features={"inputs": inputs}, labels=labels, client_ids=ids)],
        description=PopulationDescription(
            encoding_from_records=False, feature_names=("tenure", "spend")
        ),
    )
    run(f"--data={tmp_path / 'people'}")
    printed = capsys.readouterr().out
    assert "10 clients (`client`), 4.0 rows each" in printed and "| tenure " in printed
    assert "`label`, 2 classes" in printed
    with pytest.raises(InputError, match=r"--client_column=x: .* is a population"):
        run(f"--data={tmp_path / 'people'}", "--client_column=x")


def _small(name: str, path: str | None, seed: int) -> LoadedRecords:
    """Small records of the shape that a named data set has, with its schema if it has one."""
    del path
    if name.startswith("synthetic_telecom"):
        config = telecom.TelecomConfig(num_customers=30)
        made = telecom.generate(config, seed)
        return LoadedRecords(
            records=made.records, schema=made.schema, source="made", sha256=None, terms="none"
        )
    if name == "banking77":
        frame = pd.DataFrame(
            {
                "text": [f"why is my card\nnumber {n} lost" for n in range(300)],
                "category": [f"intent {n % 77}" for n in range(300)],
                "split": ["train", "test", "train"] * 100,
            }
        )
        return LoadedRecords(records=frame, schema=None, source="made", sha256=None, terms="none",
                             split_column="split")  # fmt: skip
    frame = pd.DataFrame(
        {
            "customer": [str(17850 + n % 50) for n in range(300)],
            "time": pd.date_range("2010-12-01", periods=300, freq="h"),
            "invoice": [str(536365 + n // 2) for n in range(300)],
            "item": ["85123A"] * 300,
            "quantity": range(1, 301),
            "price": [2.55] * 300,
            "amount": [2.55 * n for n in range(1, 301)],
            "country": ["United Kingdom"] * 300,
        }
    )
    return LoadedRecords(records=frame, schema=None, source="made", sha256=None, terms="none",
                         cleaning={"lines read": 400})  # fmt: skip


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("synthetic_telecom", ("30 clients", "`churn`, 2 classes")),
        ("banking77", ("| text     | text", "`category`, 77 classes", "frequent 20 are shown")),
        ("online_retail", ("50 clients (`customer`)", "reader: lines read: 400", "time")),
    ],
)
def test_named_data_with_and_without_a_schema(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    words: tuple[str, ...],
) -> None:
    monkeypatch.setattr(described_records.datasets, "load", _small)
    run(f"--dataset={name}")
    printed = capsys.readouterr().out
    for word in words:
        assert word in printed
    if name == "banking77":  # The official split is no feature.
        with pytest.raises(InputError, match="no column is of kind 'number' or 'category'"):
            run(f"--dataset={name}", "--schema_out=/nowhere/schema.json")


@pytest.mark.parametrize(
    "name", [name for name in datasets.names() if name.startswith("synthetic")]
)
def test_every_generated_data_set_can_be_described(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(f"--dataset={name}", "--seed=1")
    assert " rows, " in capsys.readouterr().out


WRONG = {
    "nothing": ([], r"--data is not given"),
    "unknown set": (["--dataset=bank"], r"--dataset=bank is unknown; choose from adult, .*table"),
    "absent": (["--data=/nowhere.csv"], r"no file or folder /nowhere.csv"),
    "no client": (["--data={table}", "--client_column=who"], r"client_column='who' is not in the"),
    "no label": (["--data={table}", "--label_column=gone"], r"label_column='gone' is not in the t"),
    "schema without label": (["--data={table}", "--schema_out=s.json"], r"needs a label; give --l"),
    "query of a set": (["--dataset=adult", "--query=SELECT"], r"--query=SELECT belongs to --datas"),
    "path of generated": (["--dataset=synthetic_telecom", "--data=x.csv"], r"which is generated"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_clear_line(table: Path, case: str) -> None:
    arguments, message = WRONG[case]
    with pytest.raises(InputError, match=message) as error:
        run(*(argument.format(table=table) for argument in arguments))
    assert "\n" not in str(error.value)
