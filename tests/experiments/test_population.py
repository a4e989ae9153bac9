"""A population from Parquet to a trained model: what a user types, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import churn_prevention
from fl_research.data.population import PopulationDescription, open_population
from fl_research.data.population_writer import Rows, write_population
from fl_research.errors import InputError
from fl_research.task import FederatedTask

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = {
    "columns": [
        {"name": "customer", "kind": "client"},
        {"name": "months", "kind": "number", "minimum": 0, "maximum": 72},
        {"name": "plan", "kind": "category", "values": ["basic", "plus"]},
        {"name": "left", "kind": "label", "values": ["No", "Yes"], "positive": "Yes"},
    ]
}


def _records() -> pd.DataFrame:
    """300 customers of three rows, of whom those on basic leave more often."""
    generator = np.random.default_rng(0)
    plan = generator.choice(["basic", "plus"], 900)
    leaves = generator.random(900) < np.where(plan == "basic", 0.7, 0.2)
    return pd.DataFrame(
        {
            "customer": np.repeat([f"c{k:04d}" for k in range(300)], 3),
            "months": generator.integers(0, 73, 900),
            "plan": plan,
            "left": np.where(leaves, "Yes", "No"),
        }
    )


def _convert(folder: Path, records: pd.DataFrame) -> subprocess.CompletedProcess[str]:
    """Writes records and schema, and runs the converter as a user does."""
    folder.mkdir(exist_ok=True)
    records.to_parquet(folder / "records.parquet", row_group_size=100)
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    return _run(
        "experiments.convert_population",
        f"--data={folder / 'records.parquet'}",
        f"--schema={folder / 'schema.json'}",
        f"--population={folder / 'people'}",
    )


def _run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a binary."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def _load(*arguments: str) -> FederatedTask:
    """The task that these flags describe."""
    with flagsaver.flagsaver():
        flags.FLAGS(["churn_prevention", "--dataset=table", *arguments])
        return churn_prevention.USE_CASE.load(4)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a converted population."""
    folder = tmp_path_factory.mktemp("population")
    result = _convert(folder, _records())
    assert result.returncode == 0, result.stderr
    assert "300 clients, 900 rows" in result.stdout and "--dataset=table --data=" in result.stdout
    return folder / "people"


def test_a_population_is_the_task_that_its_table_is(people: Path) -> None:
    """Unit, split, schema and rows; only where the records come from differs."""
    source = people.parent / "records.parquet"
    common = ["--test_fraction=0.3", "--max_rows_per_client=2"]
    table = _load(f"--data={source}", f"--schema={people.parent / 'schema.json'}", *common)
    population = _load(f"--data={people}", *common)
    assert (population.unit, population.unit_contains) == (table.unit, table.unit_contains)
    assert population.feature_names == table.feature_names
    for name in ("train", "validation", "test"):
        one, other = getattr(population, name), getattr(table, name)
        everybody = np.arange(other.num_clients)
        np.testing.assert_array_equal(
            one.select(everybody).features["inputs"], other.features["inputs"]
        )
        np.testing.assert_array_equal(one.select(everybody).labels, other.labels)
    differ = {"source", "sha256", "notes"}
    facts = [
        {key: value for key, value in task.data_facts.items() if key not in differ}
        for task in (population, table)
    ]
    assert facts[0] == facts[1]
    assert population.data_facts["sha256"] == open_population(people).sha256
    json.dumps(population.data_facts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label_column=left"], "--label_column=left: .* is a population, whose records are enc"),
        (["--infer_schema=true"], "--infer_schema=True: .* is a population"),
        (
            ["--partition=iid", "--partition_clients=9"],
            "--partition=iid: .* is a population, which has its own clients",
        ),
        (["--test_fraction=1.5"], "test_fraction=1.5"),
    ],
)
def test_flags_that_do_not_go_with_a_population_are_refused(
    people: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        _load(f"--data={people}", *arguments)


def test_what_the_use_case_cannot_train_on_is_refused(
    tmp_path: Path, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images, more than two labels, and a central baseline on more than fits into a message."""
    described = PopulationDescription(encoding_from_records=False)
    image = Rows({"pixels": np.ones((4, 2, 2), np.float32)}, np.array([0, 1, 0, 1]), None)
    write_population(tmp_path / "images", [image], description=described)
    with pytest.raises(InputError, match=r"features \{'pixels': \[2, 2\]\}; .* name 'inputs'"):
        _load(f"--data={tmp_path / 'images'}")
    rows = Rows({"inputs": np.ones((9, 2), np.float32)}, np.arange(9) % 3, None)
    write_population(tmp_path / "three", [rows], description=described)
    with pytest.raises(InputError, match="labels must be 0 or 1"):
        _load(f"--data={tmp_path / 'three'}")
    _load(f"--data={people}", "--baselines")
    monkeypatch.setattr("experiments.load_population._MOST_POOLED_BYTES", 1000)
    with pytest.raises(InputError, match="--baselines trains on all rows at once"):
        _load(f"--data={people}", "--baselines")


def test_arrays_that_came_encoded_say_so(tmp_path: Path) -> None:
    """Whoever wrote them stated how they were encoded; the report repeats it as their statement."""
    rows = Rows({"inputs": np.ones((20, 2), np.float32)}, np.arange(20, dtype=np.int32) % 2, None)
    described = PopulationDescription(encoding_from_records=True)
    write_population(tmp_path / "people", [rows], description=described)
    task = _load(f"--data={tmp_path / 'people'}", "--validation_fraction=0")
    assert task.unit == "one row" and task.feature_names == ("inputs[0]", "inputs[1]")
    assert task.data_facts["schema_inferred"] is True
    assert "from the records is what the population's writer stated" in task.data_facts["notes"][0]


def test_converter_says_what_is_missing_in_one_line(tmp_path: Path) -> None:
    """Exit code 2, no traceback, nothing written."""
    result = _run("experiments.convert_population", f"--data={tmp_path}")
    assert (result.returncode, result.stderr) == (2, "error: --schema is not given; see --help\n")
    shuffled = _records().sample(frac=1, random_state=0)
    result = _convert(tmp_path / "shuffled", shuffled)
    assert result.returncode == 2 and "comes back after other clients' rows" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "shuffled" / "people").exists()


@pytest.mark.slow
def test_from_parquet_to_a_report_and_a_changed_population_is_noticed(tmp_path: Path) -> None:
    """Train, stop, resume, verify; on other records the run does not go on."""
    people = tmp_path / "people"
    assert _convert(tmp_path, _records()).returncode == 0
    arguments = [
        "--dataset=table",
        f"--data={people}",
        "--delta=1e-4",
        "--rounds=6",
        "--noise_multiplier=1",
        f"--output_dir={tmp_path}",
        "--run_name=run",
        "--baselines",
    ]
    result = _run("experiments.churn_prevention", *arguments)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["data"]["clients"] == 300
    assert report["privacy"]["unit"] == "one client (customer)"
    assert report["utility"]["baselines"]["central"]["auc"] > 0.6
    verified = _run("experiments.verify_report", f"--run={tmp_path / 'run'}")
    assert verified.returncode == 0, verified.stdout

    (tmp_path / "run" / "evaluation.json").unlink()
    ledger = tmp_path / "run" / "ledger.jsonl"
    kept = [line for line in ledger.read_text().splitlines() if '"completed"' not in line]
    ledger.write_text("\n".join(kept) + "\n")
    os.rename(people, tmp_path / "before")
    other = _records()
    other.loc[0, "months"] = (other.loc[0, "months"] + 1) % 73
    assert _convert(tmp_path, other).returncode == 0
    result = _run("experiments.churn_prevention", *arguments)
    assert result.returncode == 2
    assert "has the data changed?" in result.stderr and "data_sha256" in result.stderr
