"""Scoring new records as a user does: values, formats, sources, and what is refused."""

import contextlib
import dataclasses
import http.server
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import predict
from fl_research.errors import InputError
from fl_research.run import served_model
from tests.run.finished_runs import write_run

ROOT = Path(__file__).resolve().parents[2]
CSV = "who,months,plan,note\nann,8,gold,x\nbob,,basic,y\ncat,2,,z\nann,20, gold ,\n"
# inputs @ KERNEL by hand: months 8 -> 1, missing -> 4 -> 0, 20 is clipped to 8 -> 1.
LOGITS = [0.5 * 1 + 1, 0.5 * 0 - 1, None, 0.5 * 1 + 1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a binary classifier."""
    return write_run(tmp_path_factory.mktemp("runs") / "churn")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Four new records; the third is left out by a rule of the schema."""
    path = tmp_path / "new.csv"
    path.write_text(CSV)
    return path


def score(*arguments: str) -> None:
    """Runs the binary's main in this process."""
    with flagsaver.flagsaver():
        flags.FLAGS(["predict", *arguments])
        predict.main([])


def sigmoid(logit: float | None) -> float:
    """The logistic function; None is blank."""
    return float("nan") if logit is None else 1 / (1 + np.exp(-logit))


def test_every_record_has_its_row_and_its_answer(run: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "scored.csv"
    score(f"--run={run}", f"--data={table}", f"--out={out}", "--id_columns=note")
    scored = pd.read_csv(out)
    assert list(scored.columns) == ["row", "who", "note", "probability"]
    assert scored["row"].tolist() == [1, 2, 3, 4]
    assert scored["who"].tolist() == ["ann", "bob", "cat", "ann"]
    np.testing.assert_allclose(scored["probability"], [sigmoid(x) for x in LOGITS], atol=1e-6)


def test_parquet_and_terminal_say_the_same(
    run: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scored.parquet"
    score(f"--run={run}", f"--data={table}", f"--out={out}")
    assert "4 rows written" in capsys.readouterr().err
    score(f"--run={run}", f"--data={table}")
    printed = capsys.readouterr()
    (tmp_path / "printed.csv").write_text(printed.out)
    pd.testing.assert_frame_equal(
        pd.read_parquet(out).astype({"probability": float}),
        pd.read_csv(tmp_path / "printed.csv"),
        atol=1e-6,
    )
    assert "plan: missing -> row dropped: 1" in printed.err


def test_records_come_from_a_database_and_from_an_address(
    run: Path, table: Path, tmp_path: Path
) -> None:
    database = tmp_path / "crm.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        pd.read_csv(table, dtype=str).to_sql("customers", connection)
    from_sql, from_http = tmp_path / "sql.csv", tmp_path / "http.csv"
    score(f"--run={run}", f"--data=sqlite:///{database}", f"--out={from_sql}",
          "--query=SELECT * FROM customers")  # fmt: skip
    with _server({"/v1/customers": json.dumps({"items": [
        {"who": "ann", "months": 8, "plan": "gold"}, {"who": "bob", "months": None, "plan": "basic"}
    ]})}) as address:  # fmt: skip
        score(f"--run={run}", f"--data={address}/v1/customers", f"--out={from_http}",
              "--json_path=items")  # fmt: skip
    expected = [sigmoid(x) for x in LOGITS]
    np.testing.assert_allclose(pd.read_csv(from_sql)["probability"], expected, atol=1e-6)
    np.testing.assert_allclose(pd.read_csv(from_http)["probability"], expected[:2], atol=1e-6)


@contextlib.contextmanager
def _server(answers: dict[str, str]) -> Iterator[str]:
    """Answers GET with JSON on a free port of this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = answers[self.path].encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_calibration_of_the_run_is_applied(tmp_path: Path, table: Path) -> None:
    calibration = {"slope": 2.0, "intercept": -0.5}
    run = write_run(
        tmp_path / "run",
        evaluation={"findings": {"customers_to_keep": {"calibration": calibration}}},
    )
    score(f"--run={run}", f"--data={table}", f"--out={tmp_path / 'o.csv'}")
    expected = [sigmoid(None if x is None else 2 * x - 0.5) for x in LOGITS]
    scored = pd.read_csv(tmp_path / "o.csv")
    np.testing.assert_allclose(scored["calibrated_probability"], expected, atol=1e-5)


def test_classes_have_their_names(tmp_path: Path, table: Path) -> None:
    objective = {"kind": "multiclass", "classes": ["stays", "leaves"]}
    run = write_run(tmp_path / "r", outputs="classes", description={"objective": objective})
    score(f"--run={run}", f"--data={table}", f"--out={tmp_path / 'o.csv'}")
    scored = pd.read_csv(tmp_path / "o.csv")
    assert scored["class"].fillna("").tolist() == ["leaves", "stays", "", "leaves"]
    doubled = [sigmoid(None if x is None else 2 * x) for x in LOGITS]
    np.testing.assert_allclose(scored["probability_leaves"], doubled, atol=1e-6)


def test_several_values_stand_side_by_side(tmp_path: Path, table: Path) -> None:
    run = write_run(tmp_path / "r", outputs="items", description={"objective": {}})
    score(f"--run={run}", f"--data={table}", f"--out={tmp_path / 'o.csv'}")
    scored = pd.read_csv(tmp_path / "o.csv")
    assert scored["item_1"].fillna("").tolist() == ["café", "tea", "", "café"]
    assert scored["score_2"].iloc[0] == pytest.approx(-LOGITS[0])


def test_a_list_ends_where_its_names_do(run: Path) -> None:
    """Three places, of which the second row uses two and nobody the third."""
    model = served_model.load(run)
    answers = {
        "item": np.array([[b"tea", b"", b""], [b"cup", b"bag", b""]], dtype=object),
        "rating": np.array([[4.5, 0, 0], [3, 2, 0]], np.float32),
        "probability": np.array([0.25, 0.5], np.float32),
    }
    table = model.answers_table(answers)
    assert list(table.columns) == ["item_1", "item_2", "rating_1", "rating_2", "probability"]
    assert table["item_2"].tolist() == ["", "bag"]
    assert np.isnan(table["rating_2"][0]) and table["rating_2"][1] == 2


def test_an_answer_does_not_hide_a_column_of_its_name(tmp_path: Path, run: Path) -> None:
    path = tmp_path / "n.csv"
    path.write_text("row,probability,months,plan\n7,high,8,gold\n")
    out = tmp_path / "o.csv"
    score(f"--run={run}", f"--data={path}", f"--out={out}", "--id_columns=probability,row")
    scored = pd.read_csv(out)
    assert list(scored.columns) == ["predicted_row", "probability", "row", "predicted_probability"]
    assert scored.loc[0, "probability"] == "high"


def test_a_customers_model_answers_once_a_customer(tmp_path: Path) -> None:
    """Its records are lines of orders; --id_columns would not know which line to take."""
    path = tmp_path / "lines.csv"
    path.write_text("who,when,worth\nann,2024-01-05,5\nann,2024-02-01,7\nbob,2024-01-30,5\n")
    from fl_research.data.inactivity import InactivityConfig
    from fl_research.data.order_lines import OrderColumns
    from fl_research.data.preparation import orders

    columns = OrderColumns(customer="who", time="when", amount="worth")
    settings = orders.settings_of(columns, InactivityConfig(cut_date="2024-01-01"), "table")
    prepared = orders.prepare(pd.read_csv(path), settings)
    assert prepared.ids.tolist() == ["ann", "bob"]
    run = write_run(tmp_path / "run", description={"preparation": settings})
    with pytest.raises(InputError, match="answers once a customer and not once a record"):
        score(f"--run={run}", f"--data={path}", "--id_columns=who")


def test_a_customer_of_two_shops_has_an_answer_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shop is named beside the customer, whatever the two columns are called."""
    path, out = tmp_path / "lines.csv", tmp_path / "scored.csv"
    path.write_text(
        "customer,who,when,worth\nnorth,ann,2024-01-05,5\nsouth,ann,2024-02-01,7\n"
        "north,bob,2024-01-30,5\n"
    )
    from fl_research.data.inactivity import InactivityConfig
    from fl_research.data.order_lines import OrderColumns
    from fl_research.data.preparation import orders

    columns = OrderColumns(customer="who", time="when", amount="worth", group="customer")
    settings = orders.settings_of(columns, InactivityConfig(cut_date="2024-01-01"), "table")
    prepare = orders.prepare

    def three_inputs(*given):
        prepared = prepare(*given)
        return dataclasses.replace(
            prepared, features={"inputs": prepared.features["inputs"][:, :3]}
        )

    monkeypatch.setattr(orders, "prepare", three_inputs)  # As many as the model here takes.
    run = write_run(tmp_path / "run", description={"preparation": settings})
    score(f"--run={run}", f"--data={path}", f"--out={out}")
    scored = pd.read_csv(out)
    assert scored.columns.tolist()[:2] == ["client", "customer"] and "probability" in scored
    named = scored[["client", "customer"]].to_numpy().tolist()
    assert named == [["north", "ann"], ["south", "ann"], ["north", "bob"]]


WRONG = {
    "no run": (["--data={table}"], r"--run is not given"),
    "no data": (["--run={run}"], r"--data is not given"),
    "no such run": (["--run=/nowhere", "--data={table}"], r"/nowhere is not the folder of a run"),
    "no such data": (["--run={run}", "--data=/nowhere.csv"], r"no file or folder /nowhere.csv"),
    "empty": (["--run={run}", "--data={empty}"], r"empty.csv has no records"),
    "lacks a column": (
        ["--run={run}", "--data={lacking}"],
        r"no column 'plan' of the schema.*Plan",
    ),
    "unknown category": (
        ["--run={run}", "--data={unknown}"],
        r"column 'plan', row 2 .*'silver' is not one of basic, gold",
    ),
    "no number": (["--run={run}", "--data={text}"], r"column 'months', row 1 .*'two' is not a num"),
    "nothing left": (["--run={run}", "--data={blank}"], r"no record is left to score .*plan"),
    "no such id": (
        ["--run={run}", "--data={table}", "--id_columns=name"],
        r"id_columns='name' is no column",
    ),
    "suffix": (["--run={run}", "--data={table}", "--out=s.xlsx"], r"out=s.xlsx has no suffix"),
    "no suffix": (["--run={run}", "--data={table}", "--out=scored"], r"with .csv or .parquet"),
    "exists": (["--run={run}", "--data={table}", "--out={table}"], r"is there already; choose"),
    "cut of a table": (
        ["--run={run}", "--data={table}", "--cut_date=2024-01-01"],
        r"cut_date='2024-01-01' does not go with this model",
    ),
    "query of a file": (["--run={run}", "--data={table}", "--query=SELECT"], r"query='SELECT'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_clear_line(case: str, run: Path, table: Path, tmp_path: Path) -> None:
    files = {
        "empty": "who,months,plan\n",
        "lacking": "who,months,Plan\na,1,gold\n",
        "unknown": "months,plan\n1,gold\n1,silver\n",
        "text": "months,plan\ntwo,gold\n",
        "blank": "months,plan\n1,\n",
    }
    places = {"run": str(run), "table": str(table)}
    for name, content in files.items():
        path = tmp_path / f"{name}.csv"
        path.write_text(content)
        places[name] = str(path)
    arguments, message = WRONG[case]
    with pytest.raises(InputError, match=message) as error:
        score(*(argument.format(**places) for argument in arguments))
    assert "\n" not in str(error.value)
    assert table.read_text() == CSV


def test_only_overwrite_replaces(run: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.csv"
    out.write_text("old")
    score(f"--run={run}", f"--data={table}", f"--out={out}", "--overwrite")
    assert len(pd.read_csv(out)) == 4


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("running", r"is not finished \(status: running\)"),
        ("interrupted", r"is not finished \(status: interrupted\)"),
        ("no model", r"is not finished .*it has no final model"),
        ("no record", r"is not finished"),
        ("no weights", r"saved_model is damaged .*restore it"),
        ("old", r"says nothing of how records become features.*train again"),
        ("encoded", r"came encoded, without a schema"),
        ("other kind", r"preparation='pictures' is unknown"),
    ],
)
def test_runs_that_cannot_score(
    run: Path, table: Path, tmp_path: Path, damage: str, message: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    model = folder / "final_model" / "model.json"
    content = json.loads(model.read_text())
    if damage in ("running", "interrupted"):
        (folder / "run.json").write_text(json.dumps({"status": damage}))
    elif damage == "no model":
        shutil.rmtree(folder / "final_model")
    elif damage == "no record":
        (folder / "run.json").unlink()
    elif damage == "no weights":
        shutil.rmtree(folder / "final_model" / "saved_model" / "variables")
    elif damage == "old":
        model.write_text(json.dumps({"name": content.pop("preparation")["kind"]}))
    else:
        kind = {"kind": "table", "schema": None} if damage == "encoded" else {"kind": "pictures"}
        model.write_text(json.dumps({**content, "preparation": kind}))
    with pytest.raises(InputError, match=message) as error:
        score(f"--run={folder}", f"--data={table}")
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_neither_scoring_nor_the_documented_snippet_imports_tff(
    run: Path, table: Path, tmp_path: Path
) -> None:
    """In a process of its own: the binary, then plain TensorFlow as served_model documents it."""
    out = tmp_path / "o.csv"
    program = f"""
import sys
from absl import flags
from experiments import predict
flags.FLAGS(["predict", "--run={run}", "--data={table}", "--out={out}"])
predict.main([])
assert not [m for m in sys.modules if m.startswith(("tensorflow_federated", "tensorflow_privacy"))]
import tensorflow as tf
rows = [[1.0, 0.0, 1.0]]
model = tf.saved_model.load("{run}/final_model/saved_model")
answers = model.signatures["serving_default"](inputs=tf.constant(rows, tf.float32))
print(answers["probability"].numpy()[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) == pytest.approx(sigmoid(LOGITS[0]), abs=1e-6)
    assert len(pd.read_csv(out)) == 4
