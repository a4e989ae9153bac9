"""The list of customers to keep: order, names, calibration, gain and tenths."""

import csv
import types
from pathlib import Path

import numpy as np
import pytest

from fl_research.analyses.customers_to_keep import CustomersToKeep, gain_curve, tenths
from fl_research.data.client_data import ClientData
from fl_research.reports.findings import customers_to_keep as drawing
from fl_research.reports.plot_base import style


def clients(rows: int, seed: int, ids=None) -> ClientData:
    """Rows whose true log-odds are half of what the model below says, less one."""
    generator = np.random.default_rng(seed)
    score = generator.normal(0, 2, rows)
    truth = 1 / (1 + np.exp(-(0.5 * score - 1)))
    labels = (generator.random(rows) < truth).astype(np.int32)
    ids = np.array([f"c{n:04d}" for n in range(rows)]) if ids is None else ids
    return ClientData.from_rows({"inputs": score[:, None].astype(np.float32)}, labels, ids)


def context(folder: Path, test: ClientData, validation: ClientData) -> types.SimpleNamespace:
    """A context whose model takes the feature for the log-odds."""
    return types.SimpleNamespace(
        task=types.SimpleNamespace(test=test, validation=validation),
        folder=folder,
        predict=lambda features: {"probability": 1 / (1 + np.exp(-features["inputs"][:, 0]))},
    )


def read(folder: Path) -> list[dict[str, str]]:
    """The list as a reader sees it."""
    with (folder / "customers_to_keep.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_list_is_ranked_by_a_calibrated_risk(tmp_path: Path):
    test = clients(400, 0)
    finding = CustomersToKeep()(context(tmp_path, test, clients(3000, 1)))
    rows = read(tmp_path)
    assert list(rows[0]) == ["rank", "client", "risk", "probability_as_trained", "tenth"]
    assert [row["rank"] for row in rows] == [str(n) for n in range(1, 401)]
    score = dict(zip(test.client_ids.tolist(), test.features["inputs"][:, 0], strict=True))
    for row in rows:
        truth = 1 / (1 + np.exp(-(0.5 * score[row["client"]] - 1)))
        assert float(row["risk"]) == pytest.approx(truth, abs=0.05)
    risks = [float(row["risk"]) for row in rows]
    assert risks == sorted(risks, reverse=True)
    assert [row["tenth"] for row in rows] == [str(1 + n // 40) for n in range(400)]
    assert finding["calibration"]["slope"] == pytest.approx(0.5, abs=0.07)
    assert finding["brier"]["calibrated"] < finding["brier"]["as_trained"] - 0.01
    assert finding["listed"] == "customers"
    assert finding["customers"] == 400 and finding["left"] == int(test.labels.sum())


def test_the_finding_names_nobody(tmp_path: Path):
    finding = CustomersToKeep()(context(tmp_path, clients(50, 0), clients(200, 1)))
    assert "c00" not in str(finding)


def test_groups_list_their_customers_by_name(tmp_path: Path):
    test = clients(5, 0, np.array(["north", "south", "north", "south", "north"]))
    names = {"north": ["ann", "bob", "cat"], "south": ["dan", "eve"]}
    CustomersToKeep(names=names)(context(tmp_path, test, clients(100, 1)))
    score = dict(
        zip(["ann", "bob", "cat", "dan", "eve"], test.features["inputs"][:, 0], strict=True)
    )
    rows = read(tmp_path)
    assert [row["customer"] for row in rows] == sorted(score, key=lambda n: -score[n])
    group = {row["customer"]: row["client"] for row in rows}
    assert group == {"ann": "north", "bob": "north", "cat": "north", "dan": "south", "eve": "south"}


def test_rows_of_clients_without_names_are_numbered(tmp_path: Path):
    test = clients(3, 0, np.array(["a", "b", "a"]))
    finding = CustomersToKeep()(context(tmp_path, test, clients(100, 1)))
    assert finding["listed"] == "records"
    assert "lists the 3 test records by risk" in drawing.lines(finding)[0]
    assert {(row["client"], row["row"]) for row in read(tmp_path)} == {
        ("a", "1"),
        ("a", "2"),
        ("b", "1"),
    }


@pytest.mark.parametrize("case", ["none", "one label", "misleading"])
def test_without_a_scaling_the_risk_is_the_models_own(tmp_path: Path, case: str):
    held_out = clients(200, 1)
    if case == "none":
        held_out = held_out.select(np.zeros(0, np.int64))
    elif case == "one label":
        held_out = held_out.select(np.flatnonzero(held_out.labels == 0))
    else:
        held_out = ClientData.from_rows(held_out.features, 1 - held_out.labels, None)
    finding = CustomersToKeep()(context(tmp_path, clients(30, 0), held_out))
    assert finding["calibration"]["slope"] is None
    word = {"none": "no validation", "one label": "both labels", "misleading": "fewer leavers"}
    assert word[case] in finding["calibration"]["reason"]
    assert all(row["risk"] == row["probability_as_trained"] for row in read(tmp_path))
    assert "not calibrated" in "\n".join(drawing.lines(finding))


def test_gain_by_hand():
    """Ten rows, four left; the second and third risk tie, so that half of their one counts."""
    risk = np.array([0.9, 0.8, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    labels = np.array([1, 1, 0, 1, 0, 0, 0, 0, 0, 1])
    curve = gain_curve(risk, labels)
    at = dict(zip(np.round(curve["contacted"], 2), curve["found"], strict=True))
    assert [at[x] for x in (0.0, 0.1, 0.2, 0.3, 0.4, 0.9, 1.0)] == pytest.approx(
        [0, 0.25, 0.375, 0.5, 0.75, 0.75, 1]
    )
    table = tenths(risk, labels)
    assert [row["left"] for row in table] == labels.tolist()
    assert table[0]["lift"] == pytest.approx(2.5) and table[3]["found"] == pytest.approx(0.75)
    assert table[-1]["found"] == 1


def test_gain_at_ten_percent_is_a_tenth_of_the_lift_of_the_metrics():
    from fl_research.objectives import binary_metrics

    data = clients(500, 3)
    probability = 1 / (1 + np.exp(-data.features["inputs"][:, 0].astype(np.float64)))
    bins = np.minimum((probability * 10_000).astype(int), 9_999)
    pooled = {
        "positive_counts": np.bincount(bins[data.labels == 1], minlength=10_000),
        "negative_counts": np.bincount(bins[data.labels == 0], minlength=10_000),
    }
    found = gain_curve(probability, data.labels)["found"][10]
    assert found == pytest.approx(0.1 * binary_metrics.lift(pooled, 0.1), abs=0.005)


def test_nobody_left_and_few_customers(tmp_path: Path):
    test = clients(3, 0)
    test = ClientData.from_rows(test.features, np.zeros(3, np.int32), test.client_ids)
    finding = CustomersToKeep()(context(tmp_path, test, clients(100, 1)))
    assert finding["gain"] is None
    assert [row["lift"] for row in finding["tenths"]] == [None] * 3
    with style():
        assert len(drawing.figure(finding, {}).axes) == 2
    assert "| none | none |" in "\n".join(drawing.lines(finding))


def test_the_report_shows_the_curve_and_says_that_the_list_names_persons(tmp_path: Path):
    finding = CustomersToKeep()(context(tmp_path, clients(400, 0), clients(1000, 1)))
    text = "\n".join(drawing.lines(finding))
    assert "names persons; the guarantee of this run does not cover it" in text
    assert text.count("\n| ") == 11
    assert "names the customers" in drawing.released(finding)
    assert "1,000 validation clients" in drawing.released(finding)
    with style():
        figure = drawing.figure(finding, {})
    gain, bars = figure.axes
    drawn = [line for line in gain.lines if len(line.get_xdata()) == 101]
    np.testing.assert_allclose(drawn[0].get_ydata(), finding["gain"]["found"])
    heights = [bar.get_height() for bar in bars.patches]
    assert heights == pytest.approx([row["rate"] for row in finding["tenths"]])
    path = tmp_path / "picture.png"
    with style():
        figure.savefig(path)
    assert path.stat().st_size > 10_000
