"""Satisfaction analysis as a user meets it: what the label is, texts, leaks, one whole run."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import satisfaction_analysis
from fl_research.errors import InputError
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.objectives.ordinal import Ordinal
from fl_research.task import FederatedTask

_WORDS = {1: "bad and slow", 2: "not good", 3: "okay", 4: "good", 5: "great, quick"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey of 120 customers with one to three answers: ratings with 0, blanks, a comment."""
    generator = np.random.default_rng(0)
    customer = np.repeat(np.arange(120), 1 + np.arange(120) % 3)
    rows = len(customer)
    staff = generator.integers(0, 6, rows)
    score = 2 * staff + 3 * (staff == 0) + generator.logistic(size=rows)
    stars = 1 + np.searchsorted([3, 5, 7, 9], score)
    records = pd.DataFrame(
        {
            "customer": [f"c{number:03d}" for number in customer],
            "staff": staff,
            "waited": [f"{minutes:.1f}" for minutes in generator.exponential(10, rows)],
            "channel": generator.choice(["phone", "app"], rows),
            "comment": [_WORDS[star] for star in stars],
            "stars": stars,
            "mood": np.where(stars >= 4, "happy", "unhappy"),
            "grade": np.array(["poor", "fair", "good"])[(stars - 1) // 2],
        }
    )
    path = tmp_path_factory.mktemp("survey") / "answers.csv"
    records.to_csv(path, index=False)
    return path


def _flags(table: Path, **changed: str | None) -> list[str]:
    """Flags of a good run on the table, with some changed, or left out where None."""
    given: dict[str, str | None] = {
        "dataset": "table",
        "data": str(table),
        "label_column": "stars",
        "client_column": "customer",
        "drop_columns": "comment,mood,grade",
        "infer_schema": "true",
        "delta": "1e-5",
    }
    return [f"--{name}={value}" for name, value in (given | changed).items() if value is not None]


def _text_flags(table: Path, **changed: str | None) -> list[str]:
    """Flags of a good run on the comments."""
    return _flags(table, text_column="comment", drop_columns=None, **changed)


def _load(*arguments: str) -> FederatedTask:
    with flagsaver.flagsaver():
        flags.FLAGS(["satisfaction_analysis", *arguments])
        return satisfaction_analysis.load(0)


def _labels(task: FederatedTask) -> dict[int, int]:
    """Rows of each label over all splits."""
    counts: dict[int, int] = {}
    for split in (task.train, task.validation, task.test):
        for label, count in split.label_counts().items():
            counts[label] = counts.get(label, 0) + count
    return counts


def test_without_flags_it_is_an_ordinal_survey_of_customers() -> None:
    task = _load()
    assert isinstance(task.objective, Ordinal) and task.objective.levels == tuple("12345")
    assert task.primary_metric == "mae" and task.unit == "one customer"
    names = [analysis.name for analysis in task.analyses]
    assert names == ["feature_effects", "value_effects", "groups"]
    assert _load("--nofeature_effects", "--group_columns=").analyses == ()


def test_the_label_says_what_the_task_is(table: Path) -> None:
    """Numbers are levels in order, names too if they are listed; one positive value is a class."""
    stars = pd.read_csv(table)["stars"]
    task = _load(*_flags(table))
    assert isinstance(task.objective, Ordinal) and task.objective.levels == tuple("12345")
    assert _labels(task) == {star - 1: int((stars == star).sum()) for star in range(1, 6)}
    graded = _load(
        *_flags(
            table, label_column="grade", drop_columns="comment,mood,stars",
            label_levels="poor,fair,good",
        )
    )  # fmt: skip
    assert isinstance(graded.objective, Ordinal)
    assert _labels(graded)[2] == int((stars == 5).sum())
    five = _load(*_flags(table, positive_label="5"))
    assert isinstance(five.objective, BinaryClassification)
    assert _labels(five)[1] == int((stars == 5).sum())


def test_texts_are_hashed_with_the_same_labels(table: Path) -> None:
    stars = pd.read_csv(table)["stars"]
    task = _load(*_text_flags(table, infer_schema=None, label_levels="1,2,3,4,5"))
    assert isinstance(task.objective, Ordinal) and task.preparation["kind"] == "text"
    assert task.analyses == () and set(task.train.row_types) == {"ids"}
    assert not task.data_facts["schema_inferred"]
    assert _labels(task) == {star - 1: int((stars == star).sum()) for star in range(1, 6)}
    inferred = _load(*_text_flags(table, label_column=None, rating_column="stars"))
    assert isinstance(inferred.objective, Ordinal) and inferred.data_facts["schema_inferred"]
    happy = _load(
        *_text_flags(table, label_column="mood", positive_label="happy", infer_schema=None)
    )
    assert isinstance(happy.objective, BinaryClassification)
    assert _labels(happy) == {0: int((stars < 4).sum()), 1: int((stars >= 4).sum())}
    generated = _load("--dataset=synthetic_text")
    assert isinstance(generated.objective, Ordinal) and generated.train.num_clients == 2800


WRONG = {
    "two meanings": (
        {"label_levels": "1,2,3,4,5", "positive_label": "5"},
        "--label_levels=1,2,3,4,5 and --positive_label=5 say two things",
    ),
    "levels left out": ({"label_levels": "1,2,3"}, "'4' is a value of 'stars' and none of them"),
    "names without an order": (
        {"label_column": "grade", "drop_columns": "stars,mood,comment"},
        "label_levels=None: 'fair' is a value of 'grade'.*list all values in order",
    ),
    "rating without a text": ({"rating_column": "stars"}, "--rating_column=stars goes with"),
    "no such group": ({"group_columns": "canal"}, "group_columns='canal' is no feature"),
    "no such label": ({"label_column": "star"}, "label_column='star' is not in the table"),
    "a copy of the label": (
        {"drop_columns": "comment,mood,stars", "label_column": "grade",
         "label_levels": "poor,fair,good", "copied": "1"},
        "'echo' alone tells the label.*--drop_columns=echo.*--allow_label_copies",
    ),
}  # fmt: skip
WRONG_TEXT = {
    "no label": ({"label_column": None}, "--text_column=comment needs one label"),
    "two labels": ({"rating_column": "stars"}, "needs one label"),
    "no such text": ({"text_column": "note"}, "--text_column=note is no column"),
    "text as label": ({"label_column": "comment"}, "name one twice"),
    "levels not known": ({"infer_schema": None}, "give --label_levels in order"),
    "no such positive value": (
        {"label_column": "mood", "positive_label": "hapy", "infer_schema": None},
        "--positive_label=hapy is none of the values of 'mood'.*happy",
    ),
    "schema": ({"schema": "x.json"}, "--schema=x.json does not go with texts"),
    "persons": ({"person_column": "customer"}, "--person_column=customer does not go with texts"),
    "dropped": ({"drop_columns": "mood"}, "--drop_columns=mood does not go with texts"),
    "inferred levels": ({"label_levels": "1,2,3,4,5"}, "--infer_schema=True .* --label_levels"),
    "inferred classes": ({"positive_label": "5"}, "--infer_schema=True .* --positive_label"),
    "classes": ({"classes": "x.json"}, "--classes=x.json is for classes without an order"),
}


@pytest.mark.parametrize("case", [*WRONG, *(f"text: {name}" for name in WRONG_TEXT)])
def test_wrong_flags_are_one_clear_error(table: Path, tmp_path: Path, case: str) -> None:
    is_text = case.startswith("text: ")
    changed, words = (WRONG_TEXT if is_text else WRONG)[case.removeprefix("text: ")]
    changed = dict(changed)
    if changed.pop("copied", None):
        records = pd.read_csv(table)
        records["echo"] = records["grade"].map({"poor": "c", "fair": "b", "good": "a"})
        table = tmp_path / "copied.csv"
        records.to_csv(table, index=False)
    given = _flags(table) if not is_text else _text_flags(table)
    kept = [flag for flag in given if flag[2:].partition("=")[0] not in changed]
    more = [f"--{name}={value}" for name, value in changed.items() if value is not None]
    with pytest.raises(InputError, match=words):
        _load(*kept, *more)


def test_levels_of_a_named_data_set_are_its_own() -> None:
    with pytest.raises(InputError, match="--label_levels=1,2 belongs to --dataset=table"):
        _load("--label_levels=1,2")


@pytest.mark.slow
def test_a_run_says_how_satisfied_and_why(table: Path, tmp_path: Path) -> None:
    """A private run on the table: metrics, effects, plots; the column that matters is on top."""
    with flagsaver.flagsaver():
        flags.FLAGS(
            [
                "satisfaction_analysis",
                *_flags(table),
                f"--output_dir={tmp_path}",
                "--run_name=run",
                "--rounds=20",
                "--clients_per_round=40",
                "--target_epsilon=50",
                "--server_learning_rate=4",
                "--feature_effects_repeats=2",
                "--group_columns=channel",
            ]
        )
        satisfaction_analysis.main([])
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert {"mae", "accuracy", "auc", "log_loss"} <= set(report["utility"]["test"])
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text(encoding="utf-8"))
    findings = evaluation["findings"]
    assert {"levels", "feature_effects", "value_effects"} <= set(findings)
    assert findings["feature_effects"]["columns"][0]["column"] == "staff"
    assert findings["value_effects"]["columns"][0]["column"] == "staff"
    assert {group["group"] for group in findings["groups"]["groups"]} <= {"phone", "app"}
    confusion = np.array(findings["levels"]["confusion"])
    assert confusion.sum() == findings["feature_effects"]["rows"]
    for name in ("levels", "feature_effects", "value_effects", "groups"):
        assert (tmp_path / "run" / "plots" / f"{name}.png").stat().st_size > 5000
    text = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "| staff |" in text and "value effects: counts of the values of 3 columns" in text
