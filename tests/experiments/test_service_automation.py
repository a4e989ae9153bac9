"""Service automation as a user meets it: wrong input, its tasks, one whole run, and a question."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import answer_question, service_automation
from fl_research import randomness
from fl_research.data.synthetic import questions
from fl_research.errors import InputError
from fl_research.objectives.answer_retrieval import AnswerRetrieval
from fl_research.objectives.multiclass import MulticlassClassification
from fl_research.task import FederatedTask


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions of 60 customers, some rows without a text or a label, and foreign ones."""
    config = questions.QuestionConfig(
        num_customers=60, max_questions=8, foreign_questions=30, vague_share=0.0
    )
    records = questions.generate(config, seed=0).records
    answers = dict(zip(questions.CLASSES, questions.ANSWERS, strict=True))
    records["reply"] = records["intent"].map(answers).fillna("no idea")
    blank = pd.DataFrame({"customer": ["C000001"] * 2, "question": [" ", "Hello?"]})
    blank["intent"] = ["cancel", ""]
    records = pd.concat([records, blank.assign(reply="")], ignore_index=True)
    path = tmp_path_factory.mktemp("questions") / "questions.csv"
    records.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files like those of Banking77: six intents, 20 training and 4 test questions each."""
    folder = tmp_path_factory.mktemp("bank")
    names = [f"intent_{letter}" for letter in "abcdef"]
    for split, rows in (("train", 20), ("test", 4)):
        lines = [
            f'"About {name[-1]}{name[-1]},\n{i}?",{name}' for name in names for i in range(rows)
        ]
        text = "\r\n".join(["text,category", *lines, ""])
        (folder / f"{split}.csv").write_bytes(text.encode())
    (folder / "categories.json").write_text(json.dumps(names))
    return folder


def _flags(table: Path, **changed: str | None) -> list[str]:
    """Flags of a good run on the table, with some changed, or left out where None."""
    given: dict[str, str | None] = {
        "dataset": "table",
        "data": str(table),
        "text_column": "question",
        "label_column": "intent",
        "client_column": "customer",
        "out_of_scope_label": "foreign",
        "infer_schema": "true",
        "delta": "1e-5",
    }
    return [f"--{name}={value}" for name, value in (given | changed).items() if value is not None]


def _bank_flags(bank: Path, **changed: str) -> list[str]:
    given = {"dataset": "banking77", "data": str(bank), "partition": "iid"}
    given["partition_clients"] = "20"
    return [f"--{name}={value}" for name, value in (given | changed).items()]


def _load(*arguments: str, seed: int = 0) -> FederatedTask:
    with flagsaver.flagsaver():
        flags.FLAGS(["service_automation", *arguments])
        return service_automation.load(seed)


def _main(*arguments: str) -> None:
    """Runs the binary's main in this process."""
    with flagsaver.flagsaver():
        service_automation.USE_CASE.set_defaults()
        flags.FLAGS(["service_automation", *arguments])
        service_automation.main([])


@pytest.mark.slow
def test_a_run_learns_reports_and_answers(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _main(
        *_flags(table, delta=None), "--mechanism=none", "--rounds=12", "--sampling=full",
        "--buckets=512", f"--output_dir={tmp_path}", "--run_name=run", "--num_blocks=1",
        "--test_fraction=0.3",
    )  # fmt: skip
    run = tmp_path / "run"
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert {"accuracy", "macro_f1", "log_loss"} <= set(report["utility"]["test"])
    evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    found = evaluation["findings"]["out_of_scope"]
    assert found["foreign_questions"] == 30 and 0 <= found["out_of_scope_recall"] <= 1
    assert evaluation["test"]["accuracy"] == pytest.approx(found["accuracy_of_all"])
    assert evaluation["test"]["accuracy"] > 0.4  # the most frequent intent has 0.11
    for name in ("confusion", "accuracy_over_coverage", "out_of_scope"):
        assert (run / "plots" / f"{name}.png").stat().st_size > 5000
    assert "the confidence of" in (run / "report.md").read_text(encoding="utf-8")
    capsys.readouterr()
    _main(f"--run={run}", "--ask=Hello, where can I download my bill?")
    first, *_, last = capsys.readouterr().out.splitlines()
    assert "bill_copy" in last
    assert first.startswith(("bill_copy (confidence", "handed over to a person"))
    with pytest.raises(InputError, match="--ask='!' has no text that can be read"):
        _main(f"--run={run}", "--ask=!")


def test_intents_of_a_table(table: Path) -> None:
    task = _load(*_flags(table))
    assert isinstance(task.objective, MulticlassClassification)
    classes = task.objective.classes
    records = pd.read_csv(table)
    assert set(classes) == set(records["intent"].dropna()) - {"foreign"}
    splits = (task.train, task.validation, task.test)
    assert sum(split.num_clients for split in splits) == 60  # those of foreign questions are not
    known = records[records["intent"].isin(classes) & (records["question"] != " ")]
    assert sum(split.num_rows for split in splits) == len(known)
    cleaning = task.data_facts["cleaning"]
    assert cleaning["records without a text left out"] == 1
    assert cleaning["records without a label left out"] == 1
    assert cleaning["foreign questions set aside"] == 30
    assert task.data_facts["schema_inferred"]
    (analysis,) = task.analyses
    assert len(analysis.foreign["ids"]) == 30  # type: ignore[attr-defined]


def test_labels_are_those_of_the_rows(table: Path) -> None:
    """Rows found again by their encoded text: every one has its own label."""
    from fl_research.data.hashed_text import HashedText, encode_texts

    task = _load(*_flags(table, out_of_scope_label="foreign"))
    assert isinstance(task.objective, MulticlassClassification)
    records = pd.read_csv(table, keep_default_na=False)
    ids = encode_texts(records["question"].tolist(), HashedText()).ids
    label_of = {row.tobytes(): intent for row, intent in zip(ids, records["intent"], strict=True)}
    for split in (task.train, task.validation, task.test):
        rows = split.select(np.arange(split.num_clients))
        for row, label in zip(rows.features["ids"], rows.labels, strict=True):
            assert label_of[row.tobytes()] == task.objective.classes[label]


def test_answers_of_a_table_are_the_catalogue(table: Path) -> None:
    task = _load(
        *_flags(
            table, task="answers", answer_column="reply", label_column=None,
            out_of_scope_label="no idea",
        )
    )  # fmt: skip
    assert isinstance(task.objective, AnswerRetrieval)
    assert set(task.objective.answers) <= set(questions.ANSWERS)
    by_name = _load(*_flags(table, task="answers"))
    assert isinstance(by_name.objective, AnswerRetrieval)
    assert "bill copy" in by_name.objective.answers and "bill_copy" in by_name.objective.names


def test_a_public_list_of_labels_is_not_inferred(table: Path, tmp_path: Path) -> None:
    for name, text in (
        ("classes.json", json.dumps(questions.CLASSES)),
        ("classes.txt", "\n".join(questions.CLASSES) + "\n"),
    ):
        (tmp_path / name).write_text(text)
        task = _load(*_flags(table, infer_schema=None, classes=str(tmp_path / name)))
        assert isinstance(task.objective, MulticlassClassification)
        assert task.objective.classes == questions.CLASSES
        assert not task.data_facts["schema_inferred"]
        assert "the values of the label" in task.data_facts["public"]


def test_the_official_split_is_kept(bank: Path) -> None:
    task = _load(*_bank_flags(bank))
    assert task.train.num_rows + task.validation.num_rows == 120
    assert task.test.num_rows == task.test.num_clients == 24
    assert task.unit == "one simulated client (iid partition)"


def test_held_out_intents_are_the_foreign_ones(bank: Path) -> None:
    task = _load(*_bank_flags(bank, out_of_scope_intents="2"), seed=3)
    assert isinstance(task.objective, MulticlassClassification)
    assert len(task.objective.classes) == 4
    assert task.train.num_rows + task.validation.num_rows == 80 and task.test.num_rows == 16
    (analysis,) = task.analyses
    assert len(analysis.foreign["ids"]) == 8  # type: ignore[attr-defined]
    names = json.loads((bank / "categories.json").read_text())
    chosen = randomness.generator(3, "out_of_scope_intents").choice(6, 2, replace=False)
    assert set(names) - set(task.objective.classes) == {names[i] for i in chosen}


def test_generated_questions_are_natural_clients() -> None:
    task = _load()
    assert task.unit == "one customer" and task.train.num_clients == 1400
    answers = _load("--task=answers").objective
    assert isinstance(answers, AnswerRetrieval) and answers.answers == questions.ANSWERS


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"task": "chat"}, "--task='chat' is unknown; choose one of intents, answers"),
        ({"text_column": None}, "--text_column is not given; there are: customer, question"),
        ({"text_column": "text"}, "--text_column=text is no column"),
        ({"label_column": "question"}, "--label_column=question has another part already"),
        ({"client_column": "who"}, "--client_column=who is no column"),
        ({"infer_schema": None}, "give either --classes=FILE .* or --infer_schema"),
        ({"classes": "/nowhere"}, "give either --classes=FILE .* or --infer_schema"),
        ({"infer_schema": None, "classes": "/nowhere"}, "--classes=/nowhere cannot be read"),
        ({"answer_column": "reply"}, "--answer_column=reply belongs to --task=answers"),
        ({"out_of_scope_label": "weather"}, "--out_of_scope_label=weather: no row of 'intent'"),
        ({"out_of_scope_intents": "2"}, "there are foreign questions already"),
        ({"out_of_scope_label": None, "out_of_scope_intents": "16"}, "is not possible with 17"),
        ({"keep_in_scope": "1.5"}, "keep_in_scope=1.5 is out of range"),
        ({"validation_fraction": "0"}, "--validation_fraction=0 leaves no clients"),
        ({"text_char_ngrams": "3,x"}, "--text_char_ngrams=3,x is no list of whole numbers"),
        ({"text_word_ngrams": "0", "text_char_ngrams": ""}, "leaves no features"),
        ({"buckets": "1"}, "buckets=1"),
        ({"person_column": "customer"}, "--person_column=customer does not go .*_person alone"),
        ({"drop_columns": "reply"}, "--drop_columns=reply does not go"),
        ({"schema": "x.json"}, "--schema=x.json does not go"),
        ({"positive_label": "cancel"}, "--positive_label=cancel does not go"),
        ({"task": "answers", "answer_column": "reply"}, "--label_column=intent does not go"),
    ],
)
def test_wrong_flags_are_refused(table: Path, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        _load(*_flags(table, **changed))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("q", "other", "c")] * 3, "row 1 .*'other' is none of the 2 known labels"),
        ([("q", "a", ""), ("q", "b", "c")], "row 1 .* names no client"),
        ([("", "a", "c"), (" ", "b", "d")], "none of the 2 records has a text"),
        ([("q", "", "c"), ("q", "", "d")], "no record with a text has a label"),
        ([("q", "a", c) for c in "cdefghijkl"], "every label of the train split is 'a'"),
    ],
)
def test_wrong_records_are_refused(tmp_path: Path, rows: list[Any], words: str) -> None:
    path = tmp_path / "table.csv"
    frame = pd.DataFrame(rows, columns=["question", "intent", "customer"])
    frame.to_csv(path, index=False)
    (tmp_path / "classes.txt").write_text("a\nb\n")
    changed = {"infer_schema": None, "classes": str(tmp_path / "classes.txt")}
    with pytest.raises(InputError, match=words):
        _load(*_flags(path, **changed, out_of_scope_label=None))


@pytest.mark.parametrize("flag", ["answer_column=x", "out_of_scope_label=x", "classes=x"])
def test_flags_of_a_table_do_not_go_with_named_data(bank: Path, flag: str) -> None:
    with pytest.raises(InputError, match=f"--{flag} belongs to --dataset=table"):
        _load(*_bank_flags(bank), f"--{flag}")


def test_the_answer_is_given_or_handed_over() -> None:
    objective = {"classes": ["a", "b", "c"], "answers": ["One.", "Two.", "Three."]}
    probabilities = np.array([0.2, 0.7, 0.1])
    given = answer_question.answer_lines(probabilities, objective, threshold=0.7)
    assert given == [
        "b (confidence 0.700, threshold 0.700)",
        "Two.",
        "most likely: b 0.70, a 0.20, c 0.10",
    ]
    handed = answer_question.answer_lines(probabilities, {"classes": ["a", "b", "c"]}, 0.71)
    assert handed[0] == "handed over to a person: confidence 0.700 is below the threshold 0.710"
    assert len(handed) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give either --run=FOLDER, or --run_name"),
        (("--run=a", "--run_name=b"), "give either --run=FOLDER, or --run_name"),
        (("--run=/nowhere",), "there is no run /nowhere"),
        (("--run=.",), "is no finished run of service_automation"),
    ],
)
def test_a_question_needs_a_finished_run(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        _main("--ask=hello", *arguments)
