"""Customer profiles as a user meets them: who is a client, wrong input, leaks, two whole runs."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from absl import flags
from absl.testing import flagsaver
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from experiments import customer_profile, profile_flags
from experiments.build_task import LoadedClients
from experiments.split_departments import split_departments
from fl_research.data.client_data import ClientData
from fl_research.errors import InputError
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.objectives.clustering import Clustering
from fl_research.task import FederatedTask


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 customers of three kinds in four branches: blanks, a label, the true kind."""
    generator = np.random.default_rng(0)
    kind = generator.integers(3, size=240)
    records = pd.DataFrame(
        {
            "branch": np.array(["north", "south", "east", "west"])[
                np.minimum(generator.geometric(0.5, 240) - 1, 3)
            ],
            "age": (25 + 25 * kind + generator.normal(0, 3, 240)).round(),
            "spend": np.where(kind == 1, 900, 100) + generator.normal(0, 40, 240).round(1),
            "channel": np.where(generator.random(240) < 0.9, "app", "shop"),
            "kind": np.array(["young", "middle", "old"])[kind],
            "good": np.where(generator.random(240) < 0.2 + 0.5 * (kind == 1), "Yes", "No"),
        }
    )
    records["channel"] = records["channel"].where(generator.random(240) > 0.02, "")
    path = tmp_path_factory.mktemp("profile") / "customers.csv"
    records.to_csv(path, index=False)
    return path


def _flags(table: Path, **changed: str | None) -> list[str]:
    """Flags of a good run on the table, with some changed, or left out where None."""
    given: dict[str, str | None] = {
        "dataset": "table",
        "data": str(table),
        "label_column": "good",
        "client_column": "branch",
        "profile_client": "customer",
        "segment_column": "kind",
        "segments": "3",
        "infer_schema": "true",
        "delta": "1e-4",
    }
    return [f"--{name}={value}" for name, value in (given | changed).items() if value is not None]


def _worth_flags(table: Path, **changed: str | None) -> list[str]:
    """Flags of a good run on the worth of the table's customers."""
    given = {"segments": None, "segment_column": None, "drop_columns": "kind"}
    return _flags(table, profile_task="worth", **(given | {"profile_client": None} | changed))


def _load(*arguments: str) -> FederatedTask:
    with flagsaver.flagsaver():
        flags.FLAGS(["customer_profile", *arguments])
        profile_flags.set_task_defaults()
        return customer_profile.load(0)


def _run(output: Path, *arguments: str) -> dict:
    """Runs the binary's main in this process; returns report.json."""
    with flagsaver.flagsaver():
        flags.FLAGS(["customer_profile", f"--output_dir={output}", "--run_name=run", *arguments])
        customer_profile.main([])
    return json.loads((output / "run" / "report.json").read_text(encoding="utf-8"))


def test_without_flags_customers_of_known_segments_are_the_clients() -> None:
    task = _load()
    assert isinstance(task.objective, Clustering) and task.objective.segments == 5
    assert task.objective.groups == tuple(f"segment_{n:02d}" for n in range(1, 6))
    assert task.unit == "one customer" and not task.test_clients_train
    assert task.train.num_clients == task.train.num_rows == 4200
    # No feature tells the segment or the worth: the inputs of the generator, and no others.
    names = " ".join(task.feature_names)
    assert len(task.feature_names) == 16
    assert not any(word in names for word in ("segment", "high_value", "department", "customer"))


def test_worth_is_learned_by_departments_and_tried_on_their_other_customers() -> None:
    task = _load("--profile_task=worth")
    assert isinstance(task.objective, BinaryClassification)
    assert task.unit == "one department" and task.test_clients_train
    assert task.train.client_ids.tolist() == task.test.client_ids.tolist()
    assert [analysis.name for analysis in task.analyses] == ["personalized_heads"]
    splits = (task.train, task.validation, task.test)
    assert sum(split.num_rows for split in splits) == 6000
    rows = {r.tobytes() for r in np.unique(task.train.features["inputs"], axis=0)}
    shared = [r.tobytes() in rows for r in task.test.features["inputs"]]
    # Customers with equal records exist; the same rows in both would be all of them.
    assert np.mean(shared) < 0.05


def test_who_is_a_client(table: Path) -> None:
    assert _load(*_flags(table)).train.num_clients == 168
    of_branches = _load(*_flags(table, profile_client="department"))
    assert set(of_branches.train.client_ids) <= {"north", "south", "east", "west"}
    assert of_branches.unit_contains == "all rows with the same branch"
    single = _load(*_worth_flags(table, profile_client="customer"))
    assert single.train.num_clients == single.train.num_rows and single.analyses == ()
    large = _load(*_worth_flags(table, min_rows_per_department="40"))
    assert large.train.rows_per_client.min() >= 40
    simulated = _load(*_worth_flags(table, partition="iid", partition_clients="7"))
    assert "simulated" in simulated.unit and not simulated.test_clients_train


def test_rows_of_a_users_table_are_not_called_customers(table: Path) -> None:
    task = _load(*_flags(table))
    assert task.unit == "one row" and "taken to be one customer" in task.unit_contains
    assert task.evaluated_on == "rows that were never trained on"
    # Without a client column nothing says that rows belong together: no choice is asked for.
    plain = _load(*_flags(table, client_column=None, profile_client=None, drop_columns="branch"))
    assert plain.unit == "one row"


def test_small_departments_are_left_out_of_all_splits_and_counted(table: Path) -> None:
    every = _load(*_worth_flags(table))
    task = _load(*_worth_flags(table, min_rows_per_department="40"))
    kept = set(task.train.client_ids)
    assert 0 < len(kept) < 4
    assert set(task.validation.client_ids) == kept == set(task.test.client_ids)
    fewer = sum(
        getattr(every, part).num_rows - getattr(task, part).num_rows
        for part in ("validation", "test")
    )
    counts = list(task.data_facts["cleaning"].items())
    assert counts[-2:] == [
        ("departments with fewer than 40 training rows left out of all splits", 4 - len(kept)),
        ("validation and test rows of departments that do not train left out", fewer),
    ]
    splits = (task.train, task.validation, task.test)
    assert task.data_facts["examples"] == sum(split.num_rows for split in splits)


def _departments(*names: str) -> ClientData:
    ids = np.repeat(names, 20)
    return ClientData.from_rows(
        {"inputs": np.zeros([len(ids), 1], np.float32)}, np.arange(len(ids)) % 2, ids
    )


def test_an_official_test_split_is_of_departments_that_train() -> None:
    loaded = LoadedClients(
        clients=_departments("a", "b"),
        unit="one department",
        unit_contains="rows",
        feature_names=("x",),
        facts={"cleaning": {}},
        official_test=_departments("b", "c"),
    )
    with flagsaver.flagsaver():
        flags.FLAGS(["customer_profile"])
        found, (train, _, test) = split_departments(loaded, 0)
        assert train.client_ids.tolist() == ["a", "b"] and test.client_ids.tolist() == ["b"]
        rule = "validation and test rows of departments that do not train left out"
        assert found.facts["cleaning"] == {rule: 20}
        # Found before training: nothing would be left for the analysis after it.
        strangers = dataclasses.replace(loaded, official_test=_departments("c"))
        with pytest.raises(InputError, match="no test row is of a department that trains"):
            split_departments(strangers, 0)


def test_whole_simulated_clients_find_segments_without_further_flags(table: Path) -> None:
    task = _load(*_flags(table, partition="iid", partition_clients="20", segments="3"))
    assert task.train.rows_per_client.max() > 1 and "simulated" in task.unit


@pytest.mark.parametrize("client", ["customer", "department"])
def test_a_copy_of_the_worth_is_refused(table: Path, tmp_path: Path, client: str) -> None:
    records = pd.read_csv(table)
    records.assign(again=records["good"].map({"Yes": "y", "No": "n"})).to_csv(
        tmp_path / "copy.csv", index=False
    )
    arguments = _worth_flags(tmp_path / "copy.csv", profile_client=client)
    with pytest.raises(InputError, match="'again' alone tells the label"):
        _load(*arguments)
    allowed = _load(*arguments, "--allow_label_copies")
    assert any("'again' alone" in note for note in allowed.data_facts["notes"])


def test_true_segment_and_worth_are_labels_and_not_features(table: Path) -> None:
    task = _load(*_flags(table))
    records = pd.read_csv(table)
    assert task.objective.groups == ("middle", "old", "young")
    assert not any("kind" in n or "good" in n or "branch" in n for n in task.feature_names)
    labels = np.concatenate([s.labels for s in (task.train, task.validation, task.test)])
    counts = np.bincount(labels[:, 0], minlength=3).tolist()
    assert counts == [(records["kind"] == g).sum() for g in task.objective.groups]
    assert labels[:, 1].sum() == (records["good"] == "Yes").sum()
    assert task.objective.worth == "good = Yes"


def test_blank_true_segments_are_not_known(table: Path, tmp_path: Path) -> None:
    records = pd.read_csv(table)
    records.loc[:9, "kind"] = ""
    records.to_csv(tmp_path / "blank.csv", index=False)
    task = _load(*_flags(tmp_path / "blank.csv"))
    labels = np.concatenate([s.labels for s in (task.train, task.validation, task.test)])
    assert (labels[:, 0] == -1).sum() == 10


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"segments": "1"}, "--segments=1 is not possible; give a whole number, 2 or more"),
        ({"segments": "0"}, "--segments=0 is not possible"),
        ({"segments": "-3"}, "--segments=-3 is not possible"),
        ({"segments": "169"}, "segments=169 is more than the 168 clients"),
        (
            {"segments": "5", "profile_client": "department"},
            "segments=5 is more than the 4 clients that train.*--profile_client=customer",
        ),
        ({"segment_column": "sort"}, "--segment_column=sort is not there"),
        ({"client_column": None, "profile_client": "department"}, "needs to know the department"),
        ({"model": "mlp"}, "--model=mlp: segments are found by Lloyd's iteration, which needs k_m"),
        ({"server_optimizer": "adam"}, "--server_optimizer=adam: .* needs lloyd"),
        ({"client_learning_rate": "0.5"}, "--client_learning_rate=0.5: .* needs 1.0"),
        ({"local_epochs": "2"}, "--local_epochs=2: .* needs 1"),
        ({"client_momentum": "0.9"}, "--client_momentum=0.9: .* has none"),
        (
            {"profile_client": "department", "batch_size": "10"},
            "--batch_size=10 is less than the .* rows of the largest client",
        ),
        (
            {"profile_client": "department", "partition": "iid", "partition_clients": "9"},
            "--partition=iid deals rows to simulated clients",
        ),
        ({"min_rows_per_department": "5"}, "only with --profile_client=department"),
        ({"dataset": "adult"}, "--segment_column=kind belongs to --dataset=table"),
        (
            {"person_column": "age", "profile_client": "department"},
            "--segment_column=kind does not go with --person_column",
        ),
        (
            {"person_column": "age", "segment_column": None},
            "--person_column=age counts .* rows make the clients; select --profile_client=dep",
        ),
        (
            {"profile_client": None},
            "client column branch says .* choose customer .* or department",
        ),
    ],
)
def test_wrong_flags_for_segments(table: Path, changed: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _load(*_flags(table, **changed))


def test_a_true_segment_has_few_values(table: Path, tmp_path: Path) -> None:
    records = pd.read_csv(table).assign(one="same", each=np.arange(240))
    records.to_csv(tmp_path / "wide.csv", index=False)
    for column, number in (("one", 1), ("each", 240)):
        with pytest.raises(InputError, match=f"{column} has {number} different values; a true"):
            _load(*_flags(tmp_path / "wide.csv", segment_column=column))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"segments": "3"}, "--segments=3 belongs to --profile_task=segments"),
        ({"segment_column": "branch"}, "--segment_column=branch belongs to"),
        ({"min_rows_per_department": "0"}, "--min_rows_per_department=0 is not possible"),
        ({"min_rows_per_department": "900"}, "leaves no department to train; the largest has"),
        ({"client_column": None}, "--profile_client=department needs to know the department"),
        ({"test_fraction": "1"}, "test_fraction=1.0 is not a fraction"),
        ({"model": "k_means"}, "--model=k_means finds segments"),
    ],
)
def test_wrong_flags_for_worth(table: Path, changed: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _load(*_worth_flags(table, **changed))


def test_segments_of_a_table_are_those_of_central_k_means(table: Path, tmp_path: Path) -> None:
    """A whole run without privacy: the same inertia and index as scikit-learn on the same rows."""
    arguments = _flags(table, mechanism="none", baselines="true", rounds="8", delta=None)
    report = _run(tmp_path, *arguments)
    found = report["utility"]["test"]
    task = _load(*arguments)
    reference = KMeans(3, n_init=10, random_state=0).fit(task.train.features["inputs"])
    test = task.test
    distance = reference.transform(test.features["inputs"]).min(axis=1)
    assert found["inertia"] == pytest.approx(np.mean(distance**2), rel=1e-3)
    expected = adjusted_rand_score(test.labels[:, 0], reference.predict(test.features["inputs"]))
    assert found["adjusted_rand_index"] == pytest.approx(expected, abs=1e-6)
    baselines = report["utility"]["baselines"]
    assert baselines["central"]["inertia"] == pytest.approx(np.mean(distance**2), rel=1e-4)
    assert found["inertia"] < 0.5 * baselines["one_centre"]["inertia"]
    text = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "| Segment | Share | age | spend |" in text and "good = Yes" in text
    assert (tmp_path / "run" / "plots" / "segments.png").stat().st_size > 5000


@pytest.mark.slow
def test_private_worth_of_departments_with_own_heads(tmp_path: Path) -> None:
    """A whole run at epsilon 2 for one record: better than guessing, heads in the report."""
    report = _run(tmp_path, "--profile_task=worth", "--rounds=6", "--num_blocks=1")
    assert report["utility"]["test"]["auc"] > 0.52
    text = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "one record of one department" in text
    assert "| department_01 |" in text
    assert "the layers themselves were not released" in text
