"""Customers to keep: the test customers in order of their risk of leaving, and what the list finds.

A customer with several records, such as one a month, has a line for each.

The model's probabilities are calibrated on the validation clients (Platt scaling), so that a risk
of 0.3 means 3 of 10. The list goes into the run's folder as a CSV file; it names persons, and the
ε of the run, which is about what the model shows of those it was trained on, does not cover it.
The finding holds no name: the gain curve (share of leavers found against share of customers
contacted) and a table of tenths.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_research.data.client_data import ClientData
from fl_research.errors import InputError
from fl_research.learning import platt_scaling
from fl_research.run.durable_files import write_atomically

if TYPE_CHECKING:
    from fl_research.analysis import AnalysisContext

FILE = "customers_to_keep.csv"
_TENTHS = 10
_CURVE_POINTS = 101


@dataclasses.dataclass(frozen=True, kw_only=True)
class CustomersToKeep:
    """The analysis.

    Attributes:
      names: Client -> the names of its rows' customers in order, where a client is a group of
        customers; empty where a client is a customer.
    """

    names: Mapping[Any, Sequence[str]] = dataclasses.field(default_factory=dict)
    name: str = "customers_to_keep"

    def __call__(self, context: AnalysisContext) -> dict[str, Any]:
        """Writes the list and returns the finding; see the module.

        Args:
          context: Of a task whose objective predicts a `probability`.
        """
        test = _all_of(context.task.test)
        probability = _predicted(context, test)
        scaling, calibration = _calibrate(context)
        risk = probability if scaling is None else _scaled(scaling, probability)
        _write_list(context, test, self.names, probability, risk)
        labels = np.asarray(test.labels)
        return {
            "file": FILE,
            "listed": "records" if _has_several_rows(test) and not self.names else "customers",
            "customers": len(labels),
            "left": int(labels.sum()),
            "calibration": calibration,
            "brier": {
                "as_trained": float(np.mean((probability - labels) ** 2)),
                "calibrated": float(np.mean((risk - labels) ** 2)),
            },
            "gain": gain_curve(risk, labels),
            "tenths": tenths(risk, labels),
        }


def gain_curve(risk: np.ndarray, labels: np.ndarray) -> dict[str, list[float]] | None:
    """Returns the share of label 1 found against the share of rows contacted, by falling risk.

    Rows of the same risk are taken in random order, so that the curve is straight over them.

    Args:
      risk: float64 [rows].
      labels: int [rows], 0 or 1.

    Returns:
      `contacted` and `found`, each from 0 to 1; None where no label is 1.
    """
    if not len(labels) or not labels.sum():
        return None
    _, group, sizes = np.unique(-risk, return_inverse=True, return_counts=True)
    found = np.bincount(group, weights=labels)
    rows = np.concatenate([[0.0], np.cumsum(sizes) / len(labels)])
    share = np.concatenate([[0.0], np.cumsum(found) / labels.sum()])
    contacted = np.linspace(0.0, 1.0, _CURVE_POINTS)
    return {"contacted": contacted.tolist(), "found": np.interp(contacted, rows, share).tolist()}


def tenths(risk: np.ndarray, labels: np.ndarray) -> list[dict[str, float | int | None]]:
    """Returns a row for each tenth of the customers, the riskiest first.

    Args:
      risk: float64 [rows], in [0, 1].
      labels: int [rows], 0 or 1.

    Returns:
      For each tenth that has rows: `tenth` (from 1), `customers`, `mean_risk`, `left` (label 1),
      `rate`, `lift` (times the average rate) and `found` (share of all label 1 up to here); the
      last two None where no label is 1. Ties are split as they come.
    """
    order = np.argsort(-risk, kind="stable")
    rate = labels.mean() if len(labels) else 0.0
    table: list[dict[str, float | int | None]] = []
    seen = 0
    for number, rows in enumerate(np.array_split(order, _TENTHS), start=1):
        if not len(rows):
            continue
        left = int(labels[rows].sum())
        seen += left
        table.append(
            {
                "tenth": number,
                "customers": len(rows),
                "mean_risk": float(risk[rows].mean()),
                "left": left,
                "rate": left / len(rows),
                "lift": left / len(rows) / rate if rate else None,
                "found": seen / labels.sum() if rate else None,
            }
        )
    return table


def _all_of(clients: Any) -> ClientData:
    """All clients as arrays."""
    if isinstance(clients, ClientData):
        return clients
    selected: ClientData = clients.select(np.arange(clients.num_clients))
    return selected


def _has_several_rows(clients: ClientData) -> bool:
    """Whether a client has more than one row."""
    return bool((clients.rows_per_client > 1).any())


def _predicted(context: AnalysisContext, clients: ClientData) -> np.ndarray:
    """The model's probability of each row, float64 [rows]."""
    answers = context.predict(clients.features)
    return np.asarray(answers["probability"], np.float64)


def _scaled(scaling: platt_scaling.PlattScaling, probability: np.ndarray) -> np.ndarray:
    """Calibrated probabilities."""
    return scaling.probabilities(platt_scaling.scores_of(probability))


def _calibrate(
    context: AnalysisContext,
) -> tuple[platt_scaling.PlattScaling | None, dict[str, Any]]:
    """The scaling fitted to the validation clients, and what the finding says of it.

    Without a scaling that keeps the order, the risks are the model's own, and the reason is told.
    """
    validation = context.task.validation
    facts: dict[str, Any] = {"slope": None, "intercept": None, "reason": None}
    facts |= {"clients": validation.num_clients, "rows": validation.num_rows}
    if not validation.num_rows:
        return None, facts | {"reason": "there are no validation clients"}
    held_out = _all_of(validation)
    scores = platt_scaling.scores_of(_predicted(context, held_out))
    try:
        scaling = platt_scaling.fit(scores, held_out.labels, held_out.row_splits)
    except InputError as error:
        return None, facts | {"reason": str(error)}
    if scaling.slope <= 0:
        reason = (
            "higher scores go with fewer leavers among the validation clients "
            f"(slope {scaling.slope:.3g})"
        )
        return None, facts | {"reason": reason}
    return scaling, facts | dataclasses.asdict(scaling)


def _write_list(
    context: AnalysisContext,
    test: ClientData,
    names: Mapping[Any, Sequence[str]],
    probability: np.ndarray,
    risk: np.ndarray,
) -> None:
    """Writes the file, the highest risk first; ties in the order of the clients."""
    rows = _row_names(test, names)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["rank", *rows[0], "risk", "probability_as_trained", "tenth"])
    order = np.argsort(-risk, kind="stable")
    tenth = np.empty(len(order), int)
    for number, members in enumerate(np.array_split(order, _TENTHS), start=1):
        tenth[members] = number
    for rank, row in enumerate(order, start=1):
        numbers = [f"{risk[row]:.6f}", f"{probability[row]:.6f}", tenth[row]]
        writer.writerow([rank, *rows[row + 1], *numbers])
    write_atomically(context.folder / FILE, buffer.getvalue())


def _row_names(test: ClientData, names: Mapping[Any, Sequence[str]]) -> list[list[Any]]:
    """The header and one row of names for each test row.

    Rows of a client whose names are not known, or not all kept, are numbered from 1.
    """
    second = "customer" if names else "row" if _has_several_rows(test) else None
    rows: list[list[Any]] = [["client"] if second is None else ["client", second]]
    for client, count in zip(test.client_ids.tolist(), test.rows_per_client, strict=True):
        known = names.get(client, ())
        for number in range(count):
            name = known[number] if len(known) == count else number + 1
            rows.append([client] if second is None else [client, name])
    return rows
