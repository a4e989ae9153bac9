"""What a table holds, before anybody trains on it: columns, clients and labels in numbers.

For each column its kind, range or frequent values, and how much is missing; for the clients how
many rows each has; for the labels how they are spread, and how far clients differ in them. All of
it is read off the records: it is for those who may see them, and no ε covers it.

The skew of a label over clients is the mean distance between a client's own mix of labels and that
of all (total variation, 0 to 1, weighted by rows); for a label that is a number the share of its
variance that lies between clients. Small clients differ by chance alone, so the same is computed
for labels dealt to the same clients at random. Hsu, Qi and Brown 2019 show what skew does to
federated averaging.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fl_research import randomness
from fl_research.data.column_description import MOST_VALUES, ColumnDescription, describe_column
from fl_research.data.column_names import there_is
from fl_research.data.schema import cells
from fl_research.errors import InputError

QUANTILES = (0, 10, 25, 50, 75, 90, 99, 100)
_MOST_CLASSES_SHOWN = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientsDescription:
    """How many rows each client has.

    Attributes:
      column: The column that names the clients.
      number: How many there are.
      rows_without: Rows that name none.
      mean: Mean number of rows.
      quantiles: The same at `QUANTILES` percent of the clients.
      histogram: (fewest rows, most rows, clients) of bins that double in width.
    """

    column: str
    number: int
    rows_without: int
    mean: float
    quantiles: tuple[float, ...]
    histogram: tuple[tuple[int, int, int], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelDescription:
    """How the label is spread.

    Attributes:
      column: Its name.
      kind: "classes" or "number".
      rows_without: Rows without a label.
      classes: (value, rows) of the most frequent classes, frequent ones first; empty for a number.
      num_classes: How many classes there are; 0 for a number.
      quantiles: Of a number, at `QUANTILES` percent of the rows; empty for classes.
      skew: Over clients, 0 to 1, see the module; None without clients, and where each client has
        one row.
      skew_at_random: The same for labels dealt at random.
      distances: Of classes: quantiles over clients of their distance; empty without clients.
    """

    column: str
    kind: str
    rows_without: int
    classes: tuple[tuple[str, int], ...] = ()
    num_classes: int = 0
    quantiles: tuple[float, ...] = ()
    skew: float | None = None
    skew_at_random: float | None = None
    distances: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """What a table holds.

    Attributes:
      rows: How many.
      duplicates: Rows that equal an earlier one in every column.
      columns: One a column, in order.
      clients: None where no column names clients.
      label: None where no column is the label.
    """

    rows: int
    duplicates: int
    columns: tuple[ColumnDescription, ...]
    clients: ClientsDescription | None = None
    label: LabelDescription | None = None

    def to_dict(self) -> dict[str, Any]:
        """The description as plain JSON."""
        return dataclasses.asdict(self)


def describe(
    records: pd.DataFrame,
    *,
    client_column: str | None = None,
    label_column: str | None = None,
    missing_values: Sequence[str] = ("",),
    seed: int = 0,
) -> Description:
    """Describes a table.

    Args:
      records: Any columns of any types; at least one row.
      client_column: Who a row belongs to; None: each row stands alone.
      label_column: The label; None: there is none.
      missing_values: Stripped texts that stand for a missing cell.
      seed: Of the labels dealt at random.

    Raises:
      InputError: No row, or a column that is not there.
    """
    if records.empty:
        raise InputError("the table is empty; give records")
    for argument, name in (("client_column", client_column), ("label_column", label_column)):
        if name is not None and name not in records.columns:
            raise InputError(
                f"{argument}={name!r} is not in the table; "
                f"{there_is(name, map(str, records.columns))}"
            )
    if client_column is not None and client_column == label_column:
        raise InputError(f"client_column and label_column are both {client_column!r}; name two")
    clients = None
    if client_column is not None:
        clients = _codes(records[client_column], missing_values)[0]
    codes = {name: cells.read_texts(records[name]).codes for name in records.columns}
    return Description(
        rows=len(records),
        duplicates=int(pd.DataFrame(codes).duplicated().sum()),
        columns=tuple(
            describe_column(records[name], str(name), missing_values) for name in records.columns
        ),
        clients=None if clients is None else _clients(str(client_column), clients),
        label=None
        if label_column is None
        else _label(records[label_column], _several_rows(clients), missing_values, seed),
    )


def _several_rows(clients: np.ndarray | None) -> np.ndarray | None:
    """The codes of clients, None where no client has two rows: then there is no mix to speak of."""
    if clients is None:
        return None
    known = clients[clients >= 0]
    return clients if np.bincount(known).max(initial=0) > 1 else None


def _codes(
    column: "pd.Series[Any]", missing_values: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the distinct texts, int64 [rows] (-1: missing), and the texts."""
    texts = cells.read_texts(column)
    usual = np.array([spellings[0] for spellings in texts.spellings], dtype=object)
    values, place = np.unique(usual.astype(str), return_inverse=True)
    there = ~np.isin(values, list(missing_values))
    place = np.where(there, np.cumsum(there) - 1, -1)[place]
    return texts.per_row(place, -1).astype(np.int64), values[there]


def _clients(column: str, codes: np.ndarray) -> ClientsDescription:
    """The sizes of clients."""
    known = codes[codes >= 0]
    if not known.size:
        raise InputError(f"client_column={column!r} names no client in any row; name another")
    sizes = np.bincount(known)
    histogram = []
    low = 1
    while low <= sizes.max():
        high = 2 * low - 1
        inside = int(((sizes >= low) & (sizes <= high)).sum())
        histogram.append((low, high, inside))
        low = high + 1
    return ClientsDescription(
        column=column,
        number=len(sizes),
        rows_without=len(codes) - len(known),
        mean=float(sizes.mean()),
        quantiles=tuple(np.percentile(sizes, QUANTILES).tolist()),
        histogram=tuple(histogram),
    )


def _label(
    column: "pd.Series[Any]", clients: np.ndarray | None, missing_values: Sequence[str], seed: int
) -> LabelDescription:
    """The label's classes or its range, and its skew over clients."""
    name = str(column.name)
    codes, values = _codes(column, missing_values)
    numbers = cells.read_numbers(column, tuple(missing_values))
    generator = randomness.generator(seed, "describe_label_skew")
    if len(values) > MOST_VALUES and not numbers.not_a_number.any():
        there = ~numbers.missing
        facts: dict[str, Any] = {
            "kind": "number",
            "rows_without": int((~there).sum()),
            "quantiles": tuple(np.percentile(numbers.values[there], QUANTILES).tolist()),
        }
        if clients is not None:
            both = there & (clients >= 0)
            own, label = clients[both], numbers.values[both]
            facts["skew"] = _between_share(own, label)
            facts["skew_at_random"] = _between_share(own, generator.permutation(label))
        return LabelDescription(column=name, **facts)
    counts = np.bincount(codes[codes >= 0], minlength=len(values))
    order = np.argsort(-counts, kind="stable")[:_MOST_CLASSES_SHOWN]
    facts = {
        "kind": "classes",
        "rows_without": int((codes < 0).sum()),
        "classes": tuple((str(values[index]), int(counts[index])) for index in order),
        "num_classes": len(values),
    }
    if clients is not None:
        both = (codes >= 0) & (clients >= 0)
        own, label = clients[both], codes[both]
        distances, weights = _distances(own, label)
        if distances.size:
            facts["skew"] = float(np.average(distances, weights=weights))
            facts["distances"] = tuple(np.percentile(distances, QUANTILES).tolist())
            dealt, weights = _distances(own, generator.permutation(label))
            facts["skew_at_random"] = float(np.average(dealt, weights=weights))
    return LabelDescription(column=name, **facts)


def _distances(clients: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Total variation distance of each client's labels from all labels, and its rows."""
    if not clients.size:
        return np.zeros(0), np.zeros(0)
    _, clients = np.unique(clients, return_inverse=True)
    _, labels, totals = np.unique(labels, return_inverse=True, return_counts=True)
    overall = totals / len(labels)
    sizes = np.bincount(clients)
    # Only labels that a client has are looked at: a table of clients and classes may not fit.
    pairs, counts = np.unique(clients * len(totals) + labels, return_counts=True)
    client, label = pairs // len(totals), pairs % len(totals)
    own = counts / sizes[client]
    excess = np.bincount(client, weights=np.maximum(own - overall[label], 0), minlength=len(sizes))
    return excess, sizes


def _between_share(clients: np.ndarray, values: np.ndarray) -> float | None:
    """The share of the variance that lies between clients; None where there is no variance."""
    if not values.size or np.ptp(values) == 0:
        return None
    _, clients = np.unique(clients, return_inverse=True)
    sizes = np.bincount(clients)
    means = np.bincount(clients, weights=values) / sizes
    between = float(np.sum(sizes * (means - values.mean()) ** 2))
    return between / float(np.sum((values - values.mean()) ** 2))
