"""The benchmark's results: agreement of weights, the CSV's rules of merging, report and picture."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import results_plot, results_table
from benchmarks.agreement import disagreement
from benchmarks.measurement import Failure, Measurement

RUN = {"command": "python -m benchmarks.rounds", "date": "a day", "machine": "a machine"}
INITIAL = {"kernel": np.zeros([2, 2], np.float32), "bias": np.ones([1], np.float32)}
UPDATED = {"kernel": np.full([2, 2], 3.0, np.float32), "bias": np.full([1], 9.0, np.float32)}


def _measured(workload: str, system: str, *seconds: float, **values: Any) -> Measurement:
    defaults = {"threads": 2, "peak_memory_mib": 700.4, "build_seconds": 4.0}
    defaults |= {"first_round_seconds": 1.5, "version": "1.0", "note": "plain"}
    return Measurement(workload=workload, system=system, seconds=seconds, **(defaults | values))


def _rows(folder: Path) -> dict[tuple[str, str], results_table.Row]:
    rows = results_table.read_rows(folder / "rounds.csv")
    return {(row["workload"], row["system"]): row for row in rows}


def test_weights_within_the_tolerance_agree() -> None:
    # The norm of the update is 10, so the tolerance is 0.001.
    near = {**UPDATED, "bias": UPDATED["bias"] + np.float32(0.0009)}
    far = {**UPDATED, "bias": UPDATED["bias"] + np.float32(0.0012)}
    assert disagreement(near, UPDATED, INITIAL) is None
    assert "off by 0.00012 of the norm" in (disagreement(far, UPDATED, INITIAL) or "")


def test_weights_of_other_names_shapes_or_no_numbers_do_not_agree() -> None:
    for found in (
        {"kernel": UPDATED["kernel"]},
        {**UPDATED, "kernel": np.full([4], 3.0, np.float32)},
        {**UPDATED, "more": UPDATED["bias"]},
    ):
        assert "its weights are {" in (disagreement(found, UPDATED, INITIAL) or "")
    nan = {**UPDATED, "bias": np.array([np.nan], np.float32)}
    assert "off by nan" in (disagreement(nan, UPDATED, INITIAL) or "")


def test_a_row_holds_median_range_memory_and_ratio() -> None:
    rows = results_table.rows_of(
        [_measured("mlp", "ours", 0.2, 0.1, 0.4), _measured("mlp", "fedjax", 0.9, 0.5, 0.6)]
    )
    assert list(rows[1].values()) == [
        "mlp",
        "fedjax",
        "0.600000",
        "0.500000",
        "0.900000",
        "700",
        "3.000",
    ]
    assert tuple(rows[1]) == results_table.COLUMNS
    assert rows[0]["ratio_to_ours"] == "1.000"


def test_without_ours_there_is_no_ratio_and_no_row() -> None:
    measurements = [_measured("mlp", "ours", 1.0), _measured("gru", "fedjax", 1.0)]
    assert [row["workload"] for row in results_table.rows_of(measurements)] == ["mlp"]


def test_a_run_replaces_its_rows_and_keeps_the_others(tmp_path: Path) -> None:
    first = [
        _measured("mlp", "ours", 1.0),
        _measured("mlp", "fedjax", 4.0),
        _measured("gru", "ours", 2.0),
        _measured("gru", "stock_tff", 5.0),
    ]
    results_table.write(tmp_path, first, [], RUN)
    second = [_measured("mlp", "stock_tff", 6.0), _measured("mlp", "ours", 0.5)]
    results_table.write(tmp_path, second, [], RUN | {"date": "the next day"})
    rows = _rows(tmp_path)
    assert list(rows) == [
        ("mlp", "ours"),
        ("mlp", "stock_tff"),
        ("mlp", "fedjax"),
        ("gru", "ours"),
        ("gru", "stock_tff"),
    ]
    assert rows["mlp", "ours"]["seconds_median"] == "0.500000"
    assert rows["mlp", "stock_tff"]["ratio_to_ours"] == "12.000"
    # Its ratio stays that to ours of its own run.
    assert rows["mlp", "fedjax"]["ratio_to_ours"] == "4.000"
    details = json.loads((tmp_path / "rounds.json").read_text())
    assert details["mlp/ours"]["date"] == "the next day"
    assert details["gru/ours"]["date"] == "a day"


def test_a_failed_system_keeps_its_old_row_unless_it_does_other_work(tmp_path: Path) -> None:
    measurements = [_measured("mlp", name, 1.0) for name in ("ours", "fedjax", "flower")]
    results_table.write(tmp_path, measurements, [], RUN)
    failures = [
        Failure(workload="mlp", system="fedjax", reason="has ended"),
        Failure(workload="mlp", system="flower", reason="other work", disagrees=True),
    ]
    results_table.write(tmp_path, [_measured("mlp", "ours", 1.0)], failures, RUN)
    assert list(_rows(tmp_path)) == [("mlp", "ours"), ("mlp", "fedjax")]
    assert set(json.loads((tmp_path / "rounds.json").read_text())) == {"mlp/ours", "mlp/fedjax"}
    assert "- mlp, flower: other work" in (tmp_path / "rounds.md").read_text()


def test_rows_without_details_are_kept(tmp_path: Path) -> None:
    results_table.write(tmp_path, [_measured("gru", "ours", 0.25)], [], RUN)
    (tmp_path / "rounds.json").unlink()
    results_table.write(tmp_path, [_measured("mlp", "ours", 1.0)], [], RUN)
    text = (tmp_path / "rounds.md").read_text()
    assert "| ours | 0.250 | 0.250 | 0.250 | 1.00 | 700 | - | - | - |" in text


def test_a_file_with_other_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rounds.csv").write_text("workload,seconds\nmlp,1\n")
    with pytest.raises(ValueError, match="has the columns .*; delete it"):
        results_table.write(tmp_path, [_measured("mlp", "ours", 1.0)], [], RUN)


def test_the_report_tells_versions_notes_and_runs(tmp_path: Path) -> None:
    measurements = [
        _measured("mlp", "ours", 0.01234, 0.01, 0.02),
        _measured("gru", "ours", 0.25, note="unrolled"),
    ]
    results_table.write(tmp_path, measurements, [], RUN)
    text = (tmp_path / "rounds.md").read_text()
    assert "| ours | 0.0123 | 0.0100 | 0.0200 | 1.00 | 700 | 4 | 1.50 | 3 |" in text
    assert "- **ours**: 1.0\n  - mlp: plain\n  - gru: unrolled\n" in text
    assert "- a day, a machine: `python -m benchmarks.rounds` measured mlp/ours, gru/ours" in text


def test_the_picture_is_drawn_with_a_system_missing(tmp_path: Path) -> None:
    rows = results_table.rows_of(
        [
            _measured("mlp", "ours", 0.01, 0.02),
            _measured("mlp", "fedjax", 0.05),
            _measured("gru", "ours", 0.3),
        ]
    )
    results_plot.draw(rows, tmp_path / "rounds.png")
    content = (tmp_path / "rounds.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 5000
