"""From data flags to a task: who is a client, what the record says."""

import json
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import churn_prevention
from fl_research.task import FederatedTask


def _load(*arguments: str) -> FederatedTask:
    """The task that these flags describe."""
    with flagsaver.flagsaver():
        flags.FLAGS(["churn_prevention", *arguments])
        return churn_prevention.USE_CASE.load(4)


def test_split_is_by_client_and_recorded() -> None:
    """No customer is in two splits; counts and fractions agree; the record is plain JSON."""
    task = _load("--test_fraction=0.3", "--validation_fraction=0.05")
    splits = [task.train, task.validation, task.test]
    assert [split.num_clients for split in splits] == [2600, 200, 1200]
    names = np.concatenate([split.client_ids for split in splits])
    assert len(np.unique(names)) == len(names) == task.data_facts["clients"]
    assert sum(split.num_rows for split in splits) == task.data_facts["examples"]
    assert task.unit == "one customer" and "customer_id" in task.unit_contains
    json.dumps(task.data_facts)


@pytest.mark.parametrize("partition", ["iid", "dirichlet", "quantity"])
def test_simulated_partitions_say_that_they_are(partition: str) -> None:
    """Fifty clients at most, all rows kept, and a unit that nobody takes for a customer."""
    task = _load(f"--partition={partition}", "--partition_clients=50", "--validation_fraction=0")
    assert task.train.num_clients + task.test.num_clients <= 50
    assert task.data_facts["examples"] == task.train.num_rows + task.test.num_rows
    assert "simulated" in task.unit


def test_cap_on_rows_is_kept_and_stated() -> None:
    """No client has more rows than allowed, and the unit says so."""
    task = _load("--max_rows_per_client=4")
    assert np.diff(task.train.row_splits).max() == 4
    assert task.data_facts["largest_client_rows"] == 4
    assert "at most 4 rows" in task.unit_contains


def test_table_without_a_client_column_makes_each_row_a_client(tmp_path: Path) -> None:
    """And the unit of privacy says that it is a row."""
    path = tmp_path / "table.csv"
    path.write_text(
        "a,left\n" + "".join(f"{i / 7},{'yes' if i % 3 else 'no'}\n" for i in range(90))
    )
    task = _load("--dataset=table", f"--data={path}", "--label_column=left", "--infer_schema=true")
    assert task.data_facts["clients"] == task.data_facts["examples"] == 90
    assert task.unit == "one row"
    assert task.data_facts["schema_inferred"] is True
    assert len(task.data_facts["sha256"]) == 64
