"""The benchmark of the use cases: its commands, rows, tables and projection, on made-up runs."""

from pathlib import Path
from typing import Any

import pytest
from absl import flags

from benchmarks import use_cases, use_cases_table
from experiments import planned_run


def _row(target: str, value: float, *, metric: str = "auc", multiplier: float | str = "") -> dict:
    """A row of 1,000 training clients."""
    return {
        "case": "a/b",
        "target_epsilon": target,
        "seed": "0",
        "clients": "1000",
        "noise_multiplier": str(multiplier),
        "metric": metric,
        "value": str(value),
        "central": "0.91" if target == "none" else "",
        "best_trivial": "0.5" if target == "none" else "",
        "trivial": "trivial" if target == "none" else "",
        "seconds": "10.0",
    }


ROWS = [
    _row("none", 0.90),
    _row("8", 0.895, multiplier=0.8),
    _row("2", 0.60, multiplier=1.6),
    _row("1", 0.55, multiplier=4.0),
]


def test_clients_needed_scale_with_the_noise_multiplier() -> None:
    """At a fixed rate the noise on the mean is z / N: from 0.8 at ε = 8 to 4.0 at ε = 1."""
    assert use_cases_table.clients_needed(ROWS, "1") == (5000, True)
    assert use_cases_table.clients_needed(ROWS, "2") == (2000, True)
    assert use_cases_table.clients_needed(ROWS, "8") == (1000, True)
    far = [ROWS[0], _row("8", 0.7, multiplier=0.8), ROWS[3]]
    assert use_cases_table.clients_needed(far, "1") == (5000, False)
    assert use_cases_table.clients_needed(ROWS[1:], "1") is None


@pytest.mark.parametrize(
    ("metric", "value", "near"),
    [("auc", 0.883, True), ("auc", 0.881, False), ("rmse", 0.917, True), ("rmse", 0.919, False)],
)
def test_near_is_two_percent_worse_at_most(metric: str, value: float, near: bool) -> None:
    assert use_cases_table.is_near(metric, value, 0.9) is near


def test_the_best_of_baselines_follows_the_metric() -> None:
    values = {"a": 1.0, "b": 2.0, "c": None}
    assert use_cases_table.best_of("auc", values) == ("b", 2.0)
    assert use_cases_table.best_of("rmse", values) == ("a", 1.0)
    assert use_cases_table.best_of("auc", {}) == ("", "")


def test_tables_and_picture(tmp_path: Path) -> None:
    text = use_cases_table.table(ROWS)
    assert (
        "| a/b | 1,000 | AUC | 0.6000 | 0.9000 | 0.9100 | +1.10% | 0.5000 (trivial) | 10 |" in text
    )
    assert "| 0.9000 | 0.5500 | 0.6000 | 0.8950 | 1,000 | 5,000 | 2,000 |" in text
    use_cases_table.draw(ROWS, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_rows_take_the_figures_of_the_report() -> None:
    report: dict[str, Any] = {
        "privacy": {"epsilon": None},
        "mechanism": {"expected_cohort_size": 10.0, "noise_multiplier": None},
        "data": {"split": {"train_clients": 100}},
        "utility": {
            "primary_metric": "wmape",
            "test": {"wmape": 0.5},
            "baselines": {
                "central": {"wmape": 0.4},
                "last_value": {"wmape": 0.9},
                "moving_average": {"wmape": 0.7},
            },
        },
    }
    row = use_cases.row_of(report, "x/y", "none", "1", seconds=2.0)
    assert set(row) == set(use_cases.COLUMNS)
    assert (row["trivial"], row["best_trivial"]) == ("moving_average", 0.7)
    assert row["epsilon"] == row["noise_multiplier"] == ""


@pytest.fixture
def benchmark_flags() -> Any:
    """The benchmark's own flags, without declaring them for the other tests of this process."""
    own = flags.FlagValues()
    flags.DEFINE_string("data_folder", None, "Folder.", flag_values=own)
    own(["use_cases"])
    before = use_cases.flags.FLAGS
    use_cases.flags.FLAGS = own
    yield own
    use_cases.flags.FLAGS = before


@pytest.mark.parametrize("name", use_cases.CASES)
def test_commands_leave_mechanism_and_target_to_the_benchmark(
    name: str, benchmark_flags: Any
) -> None:
    assert planned_run.is_binary(use_cases.CASES[name].binary)
    free, private = (use_cases.command_of(name, target, "2") for target in ("none", "4"))
    for arguments in (free, private):
        names = [argument.partition("=")[0] for argument in arguments]
        assert len(names) == len(set(names)), arguments
        assert "--seed=2" in arguments
    assert "--mechanism=none" in free and "--baselines" in free
    assert "--target_epsilon=4" in private and "--baselines" not in private
    assert not any(argument.startswith("--target_epsilon") for argument in free)
