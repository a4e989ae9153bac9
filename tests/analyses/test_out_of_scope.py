"""Out of scope: the threshold against its definition, the counts against a slow count."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fl_research.analyses.out_of_scope import OutOfScope, keeping_threshold
from fl_research.data.client_data import ClientData
from fl_research.errors import InputError


def _clients(confidence: np.ndarray, labels: np.ndarray) -> ClientData:
    """One client a row; the feature is the confidence that the fake model gives."""
    return ClientData.from_rows({"ids": confidence[:, np.newaxis]}, labels.astype(np.int32), None)


def _confidences(generator: np.random.Generator, rows: int) -> np.ndarray:
    """Uniform, in the precision of a model's outputs."""
    return generator.random(rows).astype(np.float32)


def _context(validation: ClientData, test: ClientData) -> Any:
    """A model that answers class 1 to everything, as sure as the feature says."""

    def predict(features: Any) -> dict[str, np.ndarray]:
        confidence = features["ids"][:, 0].astype(np.float32)
        return {"confidence": confidence, "class_index": np.ones(len(confidence), np.int32)}

    task = SimpleNamespace(validation=validation, test=test)
    return SimpleNamespace(task=task, predict=predict, folder=Path())


@pytest.mark.parametrize("keep", [0.05, 0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("rows", [1, 7, 20, 333])
def test_the_threshold_is_the_highest_that_keeps_enough(rows: int, keep: float) -> None:
    values = np.random.default_rng(rows).random(rows)
    threshold = keeping_threshold(values, keep)
    assert np.mean(values >= threshold) >= keep - 1e-9
    higher = values[values > threshold]
    assert not higher.size or np.mean(values >= higher.min()) < keep - 1e-9


def test_the_counts_are_those_of_the_test_questions() -> None:
    generator = np.random.default_rng(0)
    validation = _clients(_confidences(generator, 200), np.ones(200))
    confidence, labels = _confidences(generator, 300), generator.integers(0, 2, 300)
    foreign = _confidences(generator, 80) ** 2
    analysis = OutOfScope(
        keep=0.8, foreign={"ids": foreign[:, np.newaxis]}, foreign_from="questions on cats"
    )
    found = analysis(_context(validation, _clients(confidence, labels)))
    threshold = found["threshold"]
    assert threshold == keeping_threshold(validation.features["ids"][:, 0], 0.8)
    kept = confidence >= threshold
    assert found["kept"] == pytest.approx(kept.mean())
    assert found["accuracy_of_kept"] == pytest.approx(labels[kept].mean())
    assert found["accuracy_of_all"] == pytest.approx(labels.mean())
    assert found["out_of_scope_recall"] == pytest.approx(np.mean(foreign < threshold))
    curve = found["curve"]
    assert curve["kept"][0] == 1.0 and curve["accuracy_of_kept"][0] == pytest.approx(labels.mean())
    for place, at in enumerate(curve["threshold"]):
        assert curve["kept"][place] == pytest.approx(np.mean(confidence >= at), abs=1e-6)
        assert curve["out_of_scope_recall"][place] == pytest.approx(np.mean(foreign < at))


def test_without_foreign_questions_there_is_no_recall() -> None:
    clients = _clients(np.linspace(0, 1, 20), np.ones(20))
    low = _clients(np.zeros(3), np.ones(3))
    found = OutOfScope()(_context(clients, low))
    assert found["out_of_scope_recall"] is None and "out_of_scope_recall" not in found["curve"]
    assert found["kept"] == 0.0 and found["accuracy_of_kept"] is None
    assert found["foreign_questions"] == 0


@pytest.mark.parametrize("keep", [0.0, 1.0, float("nan"), "most"])
def test_a_share_that_is_none_is_refused(keep: Any) -> None:
    with pytest.raises(InputError, match="keep_in_scope="):
        OutOfScope(keep=keep)
