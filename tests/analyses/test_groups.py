"""Satisfaction by group against pandas on the pooled table."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import special
from sklearn.metrics import roc_auc_score

from fl_research.analyses.groups import Groups, group_columns
from fl_research.data.client_data import ClientData
from fl_research.errors import InputError
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.objectives.ordinal import Ordinal
from tests.analyses import trained_task

pytestmark = pytest.mark.usefixtures("tff_runtime")

_KERNEL = np.array([[1.5], [0.0], [-1.5], [2.0], [0.6], [-0.6], [0.0]], np.float32)


def _table(rows: int) -> pd.DataFrame:
    generator = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "plan": generator.choice(("basic", "plus", "max", "old"), rows, p=(0.4, 0.3, 0.2, 0.1)),
            "age": generator.uniform(0, 100, rows),
            "branch": generator.choice(("north", "south"), rows),
            "noise": generator.normal(size=rows),
        }
    )


def _clients(table: pd.DataFrame, labels: np.ndarray) -> ClientData:
    """Three rows a client, and one client without rows."""
    rows = trained_task.encoded({name: table[name].to_numpy() for name in table}, labels)
    splits = np.array([0, *range(0, len(labels) + 1, 3)])
    return ClientData(rows.features, rows.labels, splits, np.arange(len(splits) - 1))


def test_groups_are_those_of_the_pooled_table(tmp_path: Path) -> None:
    table = _table(600)
    labels = np.random.default_rng(2).integers(0, 2, 600)
    clients = _clients(table, labels)
    context = trained_task.context(
        tmp_path, clients, BinaryClassification(positive="yes"), (_KERNEL, np.zeros(1, np.float32))
    )
    found = Groups(columns=("plan", "branch"), min_rows=70)(context)
    score = (clients.features["inputs"] @ _KERNEL)[:, 0]
    frame = table.assign(label=labels, score=score, client=np.arange(600) // 3)
    known = frame[frame["plan"] != "old"]
    expected = {
        f"{plan} / {branch}": group
        for (plan, branch), group in known.groupby(["plan", "branch"])
        if len(group) >= 70
    }
    assert 3 <= len(expected) < 6
    groups = {group["group"]: group for group in found["groups"]}
    assert groups.keys() == expected.keys()
    for name, group in expected.items():
        row = groups[name]
        assert (row["rows"], row["clients"]) == (len(group), group["client"].nunique())
        assert row["observed"] == pytest.approx(group["label"].mean())
        assert row["predicted"] == pytest.approx(special.expit(group["score"]).mean(), abs=1e-4)
        area = roc_auc_score(group["label"], group["score"])
        assert row["metric"] == pytest.approx(area, abs=1e-3)
    assert found["rows_left_out"] == 600 - sum(map(len, expected.values()))
    order = [group["observed"] for group in found["groups"]]
    assert order == sorted(order, reverse=True)
    assert json.loads(json.dumps(found)) == found


def test_levels_have_a_mean_and_one_class_has_no_auc(tmp_path: Path) -> None:
    table = _table(300)
    levels = np.arange(300) % 5
    objective = Ordinal(levels=("a", "b", "c", "d", "e"))
    weights = (_KERNEL, np.array([1.0, 0.5, -0.5, -1.0], np.float32))
    context = trained_task.context(tmp_path, _clients(table, levels), objective, weights)
    found = Groups(columns=("branch",))(context)
    north = next(group for group in found["groups"] if group["group"] == "north")
    assert north["observed"] == pytest.approx(levels[table["branch"] == "north"].mean())
    labels = (table["branch"] == "north").to_numpy().astype(int)
    context = trained_task.context(
        tmp_path, _clients(table, labels), BinaryClassification(),
        (_KERNEL, np.zeros(1, np.float32)),
    )  # fmt: skip
    found = Groups(columns=("branch",))(context)
    assert [group["metric"] for group in found["groups"]] == [None, None]
    assert [group["observed"] for group in found["groups"]] == [1, 0]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("plann",), "group_columns='plann' is no feature.*plan"),
        (("label",), "group_columns='label' is no feature"),
        (("age",), "group_columns='age' is a number"),
        (("plan", "plan"), "group_columns='plan' is named twice"),
    ],
)
def test_columns_that_make_no_groups_are_refused(names: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        group_columns(trained_task.SCHEMA, names)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(InputError, match=r"columns=\(\) makes no groups"):
        Groups(columns=())
    with pytest.raises(InputError, match="min_rows=0"):
        Groups(columns=("plan",), min_rows=0)
