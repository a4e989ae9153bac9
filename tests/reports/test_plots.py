"""Plots show what was measured and leave out what was not."""

from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from fl_research.reports import plots, run_records
from tests.reports import example_run
from tests.reports.example_run import Example


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> run_records.RunRecords:
    """Records of a small run with six rows a client."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return run_records.read(example_run.write(folder, Example(rounds=20, clients=300, rows=6)))


def _draw(folder: Path, records: run_records.RunRecords, evaluation: Any) -> dict[str, bytes]:
    planned = plots.planned(records.metrics, evaluation, target_epsilon=6.0)
    files = plots.draw(folder, planned)
    return {path.name: path.read_bytes() for path in files}


def test_pictures_are_large_enough_to_read_and_not_blank(
    records: run_records.RunRecords, tmp_path: Path
) -> None:
    for name in _draw(tmp_path, records, records.evaluation.values):
        pixels = matplotlib.image.imread(tmp_path / "plots" / name)
        height, width, _ = pixels.shape
        assert 1000 <= width <= 1600 and 500 <= height <= 1200
        assert 0.01 < (pixels[..., :3].min(axis=2) < 0.95).mean() < 0.6


def test_same_records_same_bytes(records: run_records.RunRecords, tmp_path: Path) -> None:
    first = _draw(tmp_path / "a", records, records.evaluation.values)
    assert first == _draw(tmp_path / "b", records, records.evaluation.values)


def test_clients_with_one_row_are_shown_by_loss(
    records: run_records.RunRecords, tmp_path: Path
) -> None:
    """Their accuracy is 0 or 1: then the picture is that of the loss alone."""
    evaluation = dict(records.evaluation.values)
    histograms = evaluation["histograms"]
    only_loss = evaluation | {"histograms": {"loss": histograms["loss"]}}
    zero_one = {"bin_edges": [0, 0.25, 0.5, 0.75, 1], "clients": [20, 0, 0, 40]}
    one_row = evaluation | {"histograms": histograms | {"accuracy": zero_one}}
    several = _draw(tmp_path / "several", records, evaluation)["clients.png"]
    loss = _draw(tmp_path / "loss", records, only_loss)["clients.png"]
    assert several != loss
    assert _draw(tmp_path / "one", records, one_row)["clients.png"] == loss


def test_what_was_not_measured_is_not_drawn(
    records: run_records.RunRecords, tmp_path: Path
) -> None:
    evaluation = dict(records.evaluation.values) | {"findings": {}, "histograms": {}}
    assert list(_draw(tmp_path, records, evaluation)) == ["progress.png"]
    assert plots.planned([], evaluation, target_epsilon=None) == []
