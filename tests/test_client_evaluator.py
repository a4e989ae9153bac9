"""The evaluator: the same figures however the clients are cut, and only a piece in memory."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_federated as tff

from fl_research.client_evaluator import ClientEvaluator
from fl_research.data.client_data import ClientData
from fl_research.data.population import PopulationDescription, open_population
from fl_research.data.population_writer import Rows, write_population
from fl_research.learning.evaluation import build_evaluation
from tests.learning import small_cohorts

pytestmark = pytest.mark.usefixtures("tff_runtime")

SIZES = (40, 1, 1, 0, 9, 300, 2, 25, 120, 6)
ROW_BYTES = 4 * small_cohorts.NUM_INPUTS


@functools.cache
def _evaluation() -> tff.Computation:
    return build_evaluation(small_cohorts.model("logistic_regression"), small_cohorts.OBJECTIVE)


def _weights() -> tff.learning.models.ModelWeights:
    kernel = np.array([[0.5], [0.25], [0.0], [-0.125]], np.float32)
    return tff.learning.models.ModelWeights((kernel, np.array([-0.3], np.float32)), ())


class _Recorded:
    """The evaluation, noting the rows of each call."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, weights: Any, blocks: Any) -> Any:
        self.rows.append(sum(len(block["labels"]) for block in blocks))
        return _evaluation()(weights, blocks)


@pytest.mark.parametrize(
    ("piece_rows", "rows"),
    [
        (10_000, [504]),
        (504, [504]),
        (100, [351, 147, 6]),
        (1, [40, 1, 1, 9, 300, 2, 25, 120, 6]),
    ],
)
def test_pieces_add_up_to_the_whole(piece_rows: int, rows: list[int]) -> None:
    """A client is never cut; sums are the same to rounding, counts exactly."""
    clients = small_cohorts.clients(SIZES, seed=7)
    whole = ClientEvaluator(_evaluation(), clients, objective=small_cohorts.OBJECTIVE, num_blocks=2)
    recorded = _Recorded()
    cut = ClientEvaluator(
        recorded,
        clients,
        objective=small_cohorts.OBJECTIVE,
        num_blocks=2,
        piece_bytes=piece_rows * ROW_BYTES,
    )
    found, expected = cut.record(_weights()), whole.record(_weights())
    assert recorded.rows == rows
    assert found["test"] == pytest.approx(expected["test"], rel=1e-12)
    assert found["histograms"] == expected["histograms"]
    assert found["findings"] == expected["findings"]
    for name, values in expected["per_client"].items():
        assert found["per_client"][name] == pytest.approx(values, nan_ok=True)
    assert cut.pooled(_weights()) == found["test"]


def test_a_population_on_disk_gives_the_figures_of_its_clients_in_memory(tmp_path: Path) -> None:
    """Piece by piece, each read when it is evaluated."""
    sizes = [size for size in SIZES if size]
    clients = small_cohorts.clients(sizes, seed=7)
    ids = np.repeat(clients.client_ids, clients.rows_per_client)
    write_population(
        tmp_path / "people",
        [Rows(clients.features, clients.labels, ids)],
        description=PopulationDescription(encoding_from_records=False),
    )
    on_disk = open_population(tmp_path / "people").clients
    evaluators = [
        ClientEvaluator(
            _evaluation(),
            one,
            objective=small_cohorts.OBJECTIVE,
            num_blocks=3,
            piece_bytes=100 * ROW_BYTES,
        )
        for one in (on_disk, clients)
    ]
    assert evaluators[0].record(_weights()) == evaluators[1].record(_weights())


def test_blocks_of_one_piece_are_cut_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all fits, an evaluation reads no record again; else every one does."""
    clients = small_cohorts.clients(SIZES)
    selected: list[int] = []
    real = ClientData.select

    def counting(self: ClientData, chosen: np.ndarray) -> ClientData:
        selected.append(len(chosen))
        return real(self, chosen)

    monkeypatch.setattr(ClientData, "select", counting)
    for piece_bytes, reads in ((1 << 20, 1), (100 * ROW_BYTES, 3 * 3)):
        selected.clear()
        evaluator = ClientEvaluator(
            _evaluation(),
            clients,
            objective=small_cohorts.OBJECTIVE,
            num_blocks=1,
            piece_bytes=piece_bytes,
        )
        for _ in range(3):
            evaluator.pooled(_weights())
        assert len(selected) == reads
