"""PopulationClients: clients of a population on disk, or some of them, by index.

A view holds one index a client and no row. Splitting makes views of views' clients; only `select`
reads rows, those of the clients that it is asked for, so that memory is bounded by the cohort.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fl_research.argument_checks import require_at_least
from fl_research.data.array_file import ArrayFile
from fl_research.data.client_data import ClientData
from fl_research.data.clients import RowTypes, check_indices, split_indices

_CLIENTS_AT_ONCE = 1 << 16


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PopulationFiles:
    """The files of a population, checked against each other.

    Attributes:
      features: Name to `[rows, ...]`.
      labels: `[rows, ...]`.
      row_splits: `int64[clients + 1]`.
      client_ids: `[clients]`.

    Raises:
      InputError: If lengths differ or the row splits do not fit.
    """

    features: Mapping[str, ArrayFile]
    labels: ArrayFile
    row_splits: ArrayFile
    client_ids: ArrayFile

    def __post_init__(self) -> None:
        self.mapped()  # Checks.
        self.release()

    def mapped(self) -> ClientData:
        """Returns all clients over mapped arrays, of which nothing is copied."""
        features = {name: file.values for name, file in self.features.items()}
        return ClientData(
            features, self.labels.values, self.row_splits.values, self.client_ids.values
        )

    def read(self, clients: np.ndarray) -> ClientData:
        """Reads the clients of these `int64` indices, in that order."""
        first, last = self.row_splits.read(clients, clients + 2).reshape(-1, 2).T
        own_splits = np.zeros(len(clients) + 1, np.int64)
        np.cumsum(last - first, out=own_splits[1:])
        features = {name: file.read(first, last) for name, file in self.features.items()}
        ids = self.client_ids.read(clients, clients + 1)
        return ClientData(features, self.labels.read(first, last), own_splits, ids)

    def release(self) -> None:
        """Gives back the mapped pages that were touched."""
        for file in (*self.features.values(), self.labels, self.row_splits, self.client_ids):
            file.release()


@dataclasses.dataclass(frozen=True, eq=False)
class PopulationClients:
    """Clients of a population; see `clients.Clients`.

    Attributes:
      files: The files of all clients.
      indices: The clients of this view, rising indices into the population; None: all.
      cap: At most so many rows of a client, and the seed that chooses them; None: all rows.
    """

    files: PopulationFiles
    indices: np.ndarray | None = None
    cap: tuple[int, int] | None = None

    @property
    def num_clients(self) -> int:
        """The number of clients."""
        return len(self.files.client_ids.values) if self.indices is None else len(self.indices)

    @property
    def num_rows(self) -> int:
        """The number of rows of all clients together."""
        return int(self.rows_per_client.sum())

    @property
    def rows_per_client(self) -> np.ndarray:
        """`int64[clients]`: how many rows each client has."""
        rows = np.diff(self.files.row_splits.values)
        if self.indices is not None:
            rows = rows[self.indices]
        return rows if self.cap is None else np.minimum(rows, self.cap[0])

    @property
    def row_types(self) -> RowTypes:
        """Shape and type of one row of each feature."""
        return self.files.mapped().row_types

    def select(self, clients: np.ndarray | Sequence[int]) -> ClientData:
        """Reads the rows of the clients of these indices, in that order.

        Raises:
          InputError: If an index is not in `[0, num_clients)`.
        """
        chosen = np.asarray(clients, dtype=np.int64)
        check_indices(chosen, self.num_clients)
        return self._capped(self.files.read(self._in_population(chosen)))

    def label_counts(self) -> dict[Any, int]:
        """Returns how many rows each label has, by rising label; reads the labels only."""
        labels = dataclasses.replace(self.files.mapped(), features={})
        counts: collections.Counter[Any] = collections.Counter()
        for start in range(0, self.num_clients, _CLIENTS_AT_ONCE):
            piece = np.arange(start, min(start + _CLIENTS_AT_ONCE, self.num_clients))
            selected = self._capped(labels.select(self._in_population(piece)))
            counts.update(selected.label_counts())
            self.files.release()
        return dict(sorted(counts.items()))

    def split(
        self, *, validation_fraction: float, test_fraction: float, seed: int
    ) -> tuple[PopulationClients, PopulationClients, PopulationClients]:
        """Splits by client into train, validation and test; the same split as `ClientData.split`.

        See `clients.split_indices` for the arguments and what is refused.
        """
        train, validation, test = (
            dataclasses.replace(self, indices=_small(self._in_population(part)))
            for part in split_indices(
                self.num_clients,
                validation_fraction=validation_fraction,
                test_fraction=test_fraction,
                seed=seed,
            )
        )
        return train, validation, test

    def cap_rows(self, max_rows_per_client: int, seed: int) -> PopulationClients:
        """Keeps at most so many rows of each client: those that `ClientData.cap_rows` keeps.

        Raises:
          InputError: If `max_rows_per_client` is below 1.
        """
        require_at_least("max_rows_per_client", max_rows_per_client, 1)
        if self.cap is not None:
            raise ValueError(f"the rows are capped already, at {self.cap[0]}")
        return dataclasses.replace(self, cap=(max_rows_per_client, seed))

    def _in_population(self, clients: np.ndarray) -> np.ndarray:
        """The indices in the population of clients of this view."""
        return clients if self.indices is None else self.indices[clients].astype(np.int64)

    def _capped(self, selected: ClientData) -> ClientData:
        """Clients that were selected, with as many rows as the cap keeps.

        What is kept of a client follows from the seed and the client alone, so that capping a
        cohort is the same as capping the population.
        """
        return selected if self.cap is None else selected.cap_rows(*self.cap)


def _small(indices: np.ndarray) -> np.ndarray:
    """The indices in half of the memory, where they are small enough."""
    fits = not indices.size or indices[-1] <= np.iinfo(np.int32).max
    return indices.astype(np.int32) if fits else indices
