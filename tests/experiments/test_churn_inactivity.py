"""Churn by inactivity as a user meets it: flags, what becomes of a table of orders, a whole run."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import churn_prevention, predict
from fl_research.data.preparation import orders as preparation
from fl_research.errors import InputError
from fl_research.task import FederatedTask
from tests.experiments.order_tables import CUT, flags_of, orders, write_orders


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of orders with the quirks of real ones."""
    return write_orders(tmp_path_factory.mktemp("orders"))


def load(*arguments: str) -> FederatedTask:
    """The task of these flags."""
    with flagsaver.flagsaver():
        flags.FLAGS(["churn_prevention", *arguments])
        return churn_prevention.load(0)


def test_a_table_of_orders_becomes_a_row_a_customer(table: Path) -> None:
    task = load(*flags_of(table, order_column="number", item_column="item"))
    splits = [task.train, task.validation, task.test]
    assert sum(split.num_clients for split in splits) == sum(s.num_rows for s in splits) > 200
    names = [set(split.client_ids.tolist()) for split in splits]
    assert not names[0] & names[2] and not names[1] & names[2]
    assert task.unit == "one customer" and "one row a customer" in task.unit_contains
    assert task.primary_metric == "auc" and len(task.feature_names) == 13
    facts = task.data_facts
    assert facts["inactivity"]["cut_date"] == CUT and facts["inactivity"]["inactivity_days"] == 90
    assert not facts["schema_inferred"]
    assert any("left out" in rule and count > 0 for rule, count in facts["cleaning"].items())
    assert any(CUT in known for known in facts["public"])


def test_scoring_prepares_as_training_did(table: Path) -> None:
    """The same records at the same cut give each test customer the same features."""
    task = load(*flags_of(table, order_column="number", item_column="item"))
    settings = {**json.loads(json.dumps(task.preparation)), "cut_date": CUT}
    prepared = preparation.prepare(pd.read_csv(table, dtype=str).fillna(""), settings)
    place = {name: row for row, name in enumerate(prepared.ids)}
    rows = [place[name] for name in task.test.client_ids.tolist()]
    np.testing.assert_array_equal(prepared.features["inputs"][rows], task.test.features["inputs"])


def test_lines_after_the_cut_change_labels_only(table: Path, tmp_path: Path) -> None:
    plain = load(*flags_of(table))
    lines = pd.read_csv(table, dtype=str)
    late = (
        lines.drop_duplicates("customer").iloc[::2].assign(ordered=f"{CUT} 00:00:00", amount="1.0")
    )
    planted = tmp_path / "planted.csv"
    pd.concat([lines, late]).to_csv(planted, index=False)
    marked = load(*flags_of(planted))
    for name in ("train", "validation", "test"):
        before, after = getattr(plain, name), getattr(marked, name)
        np.testing.assert_array_equal(before.features["inputs"], after.features["inputs"])
        planted_on = np.isin(after.client_ids, late["customer"])
        assert before.labels[planted_on].any() and not after.labels[planted_on].any()
        np.testing.assert_array_equal(before.labels[~planted_on], after.labels[~planted_on])


def test_a_label_that_cannot_be_a_copy_of_a_feature(table: Path) -> None:
    """No feature separates the labels; one that copied the label would."""
    train = load(*flags_of(table)).train
    labels, inputs = train.labels.astype(bool), train.features["inputs"]
    for column in inputs.T:
        assert column[labels].max() >= column[~labels].min()
        assert column[~labels].max() >= column[labels].min()


def test_shops_as_clients_hold_their_customers(table: Path) -> None:
    task = load(
        *flags_of(
            table,
            user_column="customer",
            client_column="shop",
            validation_fraction="0.3",
            test_fraction="0.3",
        )
    )
    assert task.unit == "one client (shop)" and task.train.num_clients == 1
    assert "one row for each customer who ordered there" in task.unit_contains
    (analysis,) = task.analyses
    held = {group: len(names) for group, names in analysis.names.items()}
    for split in (task.train, task.validation, task.test):
        for client, rows in zip(split.client_ids.tolist(), split.rows_per_client, strict=True):
            assert held[client] == rows


def test_a_shops_rows_come_from_its_own_lines_and_are_scored_so(tmp_path: Path) -> None:
    """Customers buy in all shops; without one shop the others' rows stay what they are."""
    lines = orders(120)
    lines["shop"] = np.random.default_rng(0).choice(["shop 0", "shop 1", "shop 2"], len(lines))
    given = {"user_column": "customer", "client_column": "shop", "order_column": "number"}

    def rows_of(shops: pd.DataFrame, name: str) -> tuple[FederatedTask, dict]:
        path = tmp_path / name
        shops.to_csv(path, index=False)
        task = load(*flags_of(path, **given, test_fraction="0.4", validation_fraction="0"))
        return task, {
            client: (split.features["inputs"][start:end], split.labels[start:end])
            for split in (task.train, task.test)
            for client, start, end in zip(
                split.client_ids.tolist(), split.row_splits, split.row_splits[1:], strict=False
            )
        }

    task, rows = rows_of(lines, "all.csv")
    _, without = rows_of(lines[lines["shop"] != "shop 2"], "two.csv")
    assert set(without) == {"shop 0", "shop 1"} and len(rows) == 3
    for shop, (inputs, labels) in without.items():
        np.testing.assert_array_equal(rows[shop][0], inputs)
        np.testing.assert_array_equal(rows[shop][1], labels)
    prepared = preparation.prepare(lines, {**task.preparation, "cut_date": CUT})
    assert list(prepared.beside) == ["client"] and len(set(prepared.ids)) < len(prepared.ids)
    for shop, (inputs, _) in rows.items():
        own = prepared.beside["client"] == shop
        np.testing.assert_array_equal(prepared.features["inputs"][own], inputs)


def test_customers_can_be_dealt_to_simulated_clients(table: Path) -> None:
    task = load(*flags_of(table, partition="iid", partition_clients="20"))
    assert task.train.num_clients == 14 and task.unit == "one simulated client (iid partition)"
    (analysis,) = task.analyses
    assert not analysis.names


WRONG = {
    "no cut": (
        {"cut_date": None},
        r"--cut_date is not given; the latest that leaves 90 days of orders after it is 2023-10-0",
    ),
    "cut too late": ({"cut_date": "2023-12-01"}, r"look until 2024-02-29, but the orders end on"),
    "cut is no day": ({"cut_date": "1/9/2023"}, r"cut_date='1/9/2023' is no day"),
    "no days": ({"inactivity_days": "0"}, r"inactivity_days=0 is not possible"),
    "no history": ({"history_days": "-3"}, r"history_days=-3 is not possible"),
    "no spend": ({"customer_spend_bound": "0"}, r"spend_bound=0.0 is not possible"),
    "no client": ({"client_column": None}, r"--client_column is not given; name one of"),
    "no value": ({"value_column": None}, r"--value_column is not given; name one of"),
    "no such column": ({"time_column": "when"}, r"--time_column=when is no column"),
    "no such order": ({"order_column": "id"}, r"--order_column=id is no column"),
    "too much history": ({"history_days": "200000"}, r"history_days=200000 is not possible"),
    "too long a window": ({"inactivity_days": "9" * 20, "cut_date": None}, r"give at most 36500"),
    "a label too": ({"label_column": "shop"}, r"--label_column=shop does not go .*--time_column"),
    "a schema too": ({"infer_schema": "true"}, r"--infer_schema=True does not go .*--time_column"),
    "persons": ({"person_column": "shop"}, r"--person_column=shop does not go .*_person alone"),
    "times as values": ({"value_column": "ordered"}, r"column 'ordered', row 1 .* is no amount"),
    "values as times": ({"time_column": "shop"}, r"column 'shop', row 1 .*'shop 0' is no date"),
    "cut without orders": (
        {"time_column": None, "label_column": "shop", "value_column": None},
        r"--cut_date=2023-09-01 belongs to churn by inactivity: --dataset=online_retail, or",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_flags_are_one_clear_line(table: Path, case: str) -> None:
    changed, message = WRONG[case]
    with pytest.raises(InputError, match=message) as error:
        load(*flags_of(table, **changed))
    assert "\n" not in str(error.value)


def test_online_retail_as_published_is_read(tmp_path: Path) -> None:
    """A few lines with the published columns, cancellations and lines without a customer."""
    made = orders(60, seed=3)
    published = pd.DataFrame(
        {
            "InvoiceNo": made["number"].astype(str).where(made["amount"] >= 0, "C536379"),
            "StockCode": "85123" + made["item"].str[-1],
            "Description": "WHITE HANGING HEART T-LIGHT HOLDER",
            "Quantity": np.where(made["amount"] < 0, -3, 3),
            "InvoiceDate": made["ordered"].str.replace("2023-", "2011-"),
            "UnitPrice": made["amount"].abs(),
            "CustomerID": made["customer"],
            "Country": "United Kingdom",
        }
    )
    path = tmp_path / "lines.csv"
    published.to_csv(path, index=False)
    task = load(
        "--dataset=online_retail",
        f"--data={path}",
        "--cut_date=2011-09-01",
        "--inactivity_days=60",
    )
    assert task.data_facts["cleaning"]["lines without a customer left out"] > 0
    assert task.data_facts["cleaning"]["cancellation lines among them"] > 0
    share = task.feature_names.index("cancelled_share")
    assert (task.train.features["inputs"][:, share] > -1).any()
    assert task.preparation["reader"] == "online_retail"
    settings = {**task.preparation, "cut_date": "2011-09-01"}
    prepared = preparation.prepare(pd.read_csv(path, dtype=str).fillna(""), settings)
    place = {name: row for row, name in enumerate(prepared.ids)}
    rows = [place[name] for name in task.train.client_ids.tolist()]
    np.testing.assert_array_equal(prepared.features["inputs"][rows], task.train.features["inputs"])


@pytest.mark.slow
def test_a_whole_run_lists_customers_and_scores_those_of_today(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From orders to a report with the list, and to the risks of customers at the latest day."""
    monkeypatch.setattr(sys, "argv", ["experiments.churn_prevention"])
    run = tmp_path / "runs" / "churn"
    with flagsaver.flagsaver():
        flags.FLAGS(
            [
                "churn_prevention",
                *flags_of(table, delta=None, test_fraction="0.3", validation_fraction="0.2"),
                *("--mechanism=none", "--rounds=8", "--sampling_rate=0.5", "--seed=1"),
                *(f"--output_dir={run.parent}", "--run_name=churn"),
            ]
        )
        churn_prevention.main([])
    report = json.loads((run / "report.json").read_text())
    assert report["utility"]["test"]["auc"] > 0.7
    assert report["utility"]["test"]["lift_at_10_percent"] > 1
    with (run / "customers_to_keep.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    risks = [float(row["risk"]) for row in rows]
    assert risks == sorted(risks, reverse=True) and len(rows) > 50
    text = (run / "report.md").read_text()
    assert "customers_to_keep.csv" in text and "names persons" in text
    assert (run / "plots" / "customers_to_keep.png").stat().st_size > 10_000
    out = tmp_path / "today.csv"
    with flagsaver.flagsaver():
        flags.FLAGS(["predict", f"--run={run}", f"--data={table}", f"--out={out}"])
        predict.main([])
    today = pd.read_csv(out)
    assert list(today.columns) == ["customer", "probability", "calibrated_probability"]
    assert today["customer"].is_unique and today["probability"].between(0, 1).all()
    # At the cut of the training, a test customer has the risk that the list says.
    then = tmp_path / "then.parquet"
    with flagsaver.flagsaver():
        flags.FLAGS(
            ["predict", f"--run={run}", f"--data={table}", f"--out={then}", f"--cut_date={CUT}"]
        )
        predict.main([])
    scored = pd.read_parquet(then).set_index("customer")
    for row in rows:
        found = scored.loc[row["client"]]
        assert found["calibrated_probability"] == pytest.approx(float(row["risk"]), abs=2e-6)
