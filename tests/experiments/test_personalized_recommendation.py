"""Recommendations as a user meets them: flags, what becomes of a table, a whole run."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import personalized_recommendation
from fl_research.data.preparation import interactions as preparation
from fl_research.errors import InputError
from fl_research.objectives.item_ranking import ItemRanking
from fl_research.objectives.rating_prediction import RatingPrediction
from fl_research.run import scored_records
from fl_research.task import FederatedTask

TABLE = ["--dataset=table", "--user_column=who", "--item_column=what"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Purchases with ratings and the quirks of real ones: blanks, repeats, users with one."""
    generator = np.random.default_rng(0)
    lines = ["who,what,stars,day,note"]
    for user in range(60):
        taste = generator.integers(0, 2)
        for _ in range(1 + user % 9):
            item = 2 * int(generator.integers(0, 10)) + taste
            day = int(generator.integers(1, 28))
            stars = int(generator.integers(1, 6))
            lines += [f"u{user:02d},item {item},{stars},2024-05-{day:02d},x"]
    lines += [",item 1,3,2024-05-01,x", "u01, ,3,2024-05-01,x", "u02,item 3,,2024-05-02,x"]
    path = tmp_path_factory.mktemp("purchases") / "purchases.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def load(*arguments: str) -> FederatedTask:
    """The task of these flags."""
    with flagsaver.flagsaver():
        personalized_recommendation.USE_CASE.set_defaults()
        flags.FLAGS(["personalized_recommendation", *arguments])
        return personalized_recommendation.load(0)


def _items(clients) -> set[tuple[str, int]]:
    """(customer, number of an item) of the targets."""
    targets = clients.features.get("target_items", clients.labels)
    return {
        (str(name), int(item))
        for name, row in zip(clients.client_ids, targets, strict=True)
        for item in row[row > 0]
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["--dataset=synthetic_baskets"],
        ["--feedback=implicit"],
        ["--max_items_per_client=20", "--held_out_fraction=0.5"],
    ],
)
def test_nothing_is_evaluated_that_was_trained_on(arguments: list[str]) -> None:
    task = load(*arguments)
    trained = _items(task.train)
    for held in (task.validation, task.test):
        assert held.num_clients > 100 and not trained & _items(held)
    assert not set(task.validation.client_ids) & set(task.test.client_ids)
    assert task.test_clients_train and "none of them trained on" in task.evaluated_on
    assert task.unit == "one customer" and task.train.rows_per_client.max() == 1


def test_feedback_follows_from_the_data(table: Path) -> None:
    plain = load(*TABLE, f"--data={table}", "--time_column=day")
    assert isinstance(plain.objective, ItemRanking) and plain.primary_metric == "ndcg_at_10"
    assert "last basket" in plain.evaluated_on and plain.analyses
    rated = load(*TABLE, f"--data={table}", "--rating_column=stars", "--rating_range=1,5")
    assert isinstance(rated.objective, RatingPrediction) and rated.primary_metric == "rmse"
    assert "random share" in rated.evaluated_on and not rated.analyses
    both = load(*TABLE, f"--data={table}", "--rating_column=stars", "--feedback=implicit")
    assert isinstance(both.objective, ItemRanking)


def test_what_was_read_off_the_data_is_said(table: Path, tmp_path: Path) -> None:
    flags_of = [*TABLE, f"--data={table}", "--rating_column=stars"]
    facts = load(*flags_of).data_facts
    assert "catalogue" in facts["encoding"] and "range of the ratings" in facts["encoding"]
    assert "READ OFF THE PRIVATE RECORDS" in facts["encoding"]
    assert facts["cleaning"]["who: missing -> record left out"] == 1
    assert facts["cleaning"]["customers with nothing to hold out: trained on only"] >= 5
    names = tmp_path / "items.txt"
    names.write_text("\n".join(f"item {n}" for n in range(15)), encoding="utf-8")
    declared = load(*flags_of, "--rating_range=1,5", f"--catalogue={names}").data_facts
    assert "encoding" not in declared and declared["items"] == 15
    assert declared["cleaning"]["items that the catalogue does not have: record left out"] > 0
    assert any("15 items (--catalogue)" in known for known in declared["public"])


def test_new_records_are_prepared_by_what_the_task_says(table: Path) -> None:
    task = load(*TABLE, f"--data={table}", "--time_column=day", "--max_items_per_client=5")
    settings = json.loads(json.dumps(task.preparation))
    prepared = preparation.prepare(pd.read_csv(table, dtype=str).fillna(""), settings)
    shape, dtype = task.train.row_types["context_items"]
    found = prepared.features["context_items"]
    assert found.shape[1:] == shape and found.dtype == dtype and len(found) == 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--feedback=maybe"], "feedback='maybe' is unknown"),
        (["--dataset=synthetic_baskets", "--feedback=explicit"], "needs ratings; give --rating_c"),
        (["--rating_range=1,5"], "--rating_range belongs to --dataset=table"),
        (["--catalogue=x"], "--catalogue belongs to --dataset=table"),
        (["--test_fraction=0.3"], "--test_fraction=0.3 does not go .*--held_out_fraction"),
        (["--max_rows_per_client=3"], "does not go .*--max_items_per_client"),
        (["--person_column=p"], "--person_column=p does not go .*--clients_per_person alone"),
        (["--client_column=c"], "--client_column=c does not go .*give --user_column"),
        (["--drop_columns=a,b"], "--drop_columns=a,b does not go"),
        (["--schema=x.json"], "--schema=x.json does not go"),
        (["--infer_schema"], "--infer_schema=True does not go"),
        (["--label_column=x"], "--label_column=x does not go"),
        (["--partition=iid", "--partition_clients=9"], "the client is the customer"),
        (["--max_items_per_client=0"], "max_items_per_client=0 is not possible"),
        (["--held_out_fraction=1"], "held_out_fraction=1.0 is no share"),
        (["--held_out=newest"], "held_out='newest' is unknown"),
        (["--held_out=last_basket"], "ratings have no baskets"),
        (
            ["--dataset=synthetic_baskets", "--held_out_fraction=0.3"],
            "belongs to --held_out=random",
        ),
    ],
)
def test_wrong_flags_are_one_clear_error(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load(*arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rating_column=stars", "--rating_range=2,5"], r"rating 1 is outside rating_range=2,5"),
        (["--rating_column=stars", "--rating_range=5"], "--rating_range=5 is not two numbers"),
        (["--rating_column=stars", "--rating_range=5,1"], "rating_range=5.0,1.0 is no range"),
        (["--rating_column=note"], "'x' is no rating"),
        (["--rating_column=grade"], "--rating_column=grade is no column"),
        (["--rating_range=1,5"], "--rating_range has no effect without ratings"),
        (["--time_column=note"], "'x' is no date"),
        (["--held_out=last_basket"], "--time_column"),
        (["--catalogue=/nowhere"], "--catalogue=/nowhere cannot be read"),
        (["--feedback=explicit"], "--feedback=explicit needs ratings"),
    ],
)
def test_wrong_tables_are_one_clear_error(table: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load(*TABLE, f"--data={table}", *arguments)
    assert "\n" not in str(error.value)


def test_flags_of_a_finished_run_and_a_declaration_are_no_error() -> None:
    task = load("--clients_per_person=2", "--test_fraction=0.2")  # As its flags.txt has it.
    assert task.data_facts["clients_per_person"] == 2


@pytest.mark.slow
def test_a_whole_run_under_privacy(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epsilon, metrics by name, baselines, the finding; the released model knows items only."""
    arguments = [
        *TABLE, f"--data={table}", "--time_column=day", f"--output_dir={tmp_path}",
        "--run_name=shop", "--rounds=2", "--noise_multiplier=1", "--delta=1e-3", "--num_blocks=1",
        "--matrix_factorization_factors=3",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["personalized_recommendation", *arguments])
    with flagsaver.flagsaver():
        personalized_recommendation.USE_CASE.set_defaults()
        flags.FLAGS(sys.argv)
        personalized_recommendation.main([])
    folder = tmp_path / "shop"
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert {"ndcg_at_10", "hit_rate_at_10"} <= set(report["utility"]["test"])
    assert "recommendation_hits" in report["utility"]["findings"]
    assert (folder / "plots" / "recommendation_hits.png").exists()
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "the catalogue of 20 items" in text and "READ OFF THE PRIVATE RECORDS" in text
    model = json.loads((folder / "final_model" / "model.json").read_text(encoding="utf-8"))
    assert "u01" not in json.dumps(model)
    records = pd.read_csv(table, dtype=str).fillna("")
    answers = scored_records.score(folder, records).table.set_index("customer")
    assert len(answers) == 60
    had = records[records["who"] == "u08"]["what"]
    told = answers.loc["u08", [f"item_{n}" for n in range(1, 11)]]
    assert told.nunique() == 10 and not set(told) & set(had)
