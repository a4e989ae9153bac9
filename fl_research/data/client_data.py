"""ClientData: the records of all clients as plain arrays, sorted by client, with row splits.

Client k owns rows `row_splits[k]:row_splits[k + 1]` of every array. There is no Python object for
a client, so that a million of them load, split and sample in seconds. Everything is vectorised:
grouping is a stable sort, selecting is one gather of the chosen rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fl_research import randomness
from fl_research.argument_checks import require_at_least
from fl_research.data.clients import RowTypes, check_indices, split_indices
from fl_research.data.mixed_bits import mixed
from fl_research.data.row_checks import check_finite, check_lengths, count_labels
from fl_research.errors import InputError

if TYPE_CHECKING:
    import tensorflow_federated as tff

DEFAULT_FEATURE = "inputs"
_WHOLE_CLIENT = 1 << 40  # a tf.data batch larger than any client


@dataclasses.dataclass(frozen=True, eq=False)
class ClientData:
    """Clients and their records, as arrays.

    Attributes:
      features: Name to array `[rows, ...]`, rows sorted by client; may be memory-mapped.
      labels: Array `[rows, ...]`; may be memory-mapped.
      row_splits: `int64[clients + 1]`, from 0 to `rows`, never falling.
      client_ids: `[clients]`, the names of the clients in the order of `row_splits`.

    Raises:
      InputError: If lengths differ or the row splits do not fit.
    """

    features: Mapping[str, np.ndarray]
    labels: np.ndarray
    row_splits: np.ndarray
    client_ids: np.ndarray

    def __post_init__(self) -> None:
        splits = self.row_splits
        if splits.ndim != 1 or splits.dtype != np.int64 or len(splits) != len(self.client_ids) + 1:
            raise InputError(
                f"row_splits has shape {splits.shape} and type {splits.dtype}; give int64 of "
                f"length {len(self.client_ids) + 1}, one more than there are clients"
            )
        rows = len(self.labels)
        if splits[0] != 0 or splits[-1] != rows or np.any(splits[1:] < splits[:-1]):
            raise InputError(
                f"row_splits runs from {splits[0]} to {splits[-1]}, or falls in between; give "
                f"splits that rise from 0 to the number of rows, {rows}"
            )
        check_lengths(self.features, self.labels)

    @property
    def num_clients(self) -> int:
        """The number of clients."""
        return len(self.client_ids)

    @property
    def num_rows(self) -> int:
        """The number of rows of all clients together."""
        return len(self.labels)

    @property
    def rows_per_client(self) -> np.ndarray:
        """`int64[clients]`: how many rows each client has."""
        return np.diff(self.row_splits)

    @property
    def row_types(self) -> RowTypes:
        """Shape and type of one row of each feature."""
        return {name: (values.shape[1:], values.dtype) for name, values in self.features.items()}

    def label_counts(self) -> dict[Any, int]:
        """Returns how many rows each label has, by rising label."""
        return count_labels(self.labels)

    @classmethod
    def from_rows(
        cls,
        features: Mapping[str, np.ndarray],
        labels: np.ndarray,
        client_ids: np.ndarray | Sequence[Any] | None,
    ) -> ClientData:
        """Groups rows by client; clients are ordered by id, rows within one keep their order.

        Arrays whose rows already come in the order of their ids are kept as they are, so that
        memory-mapped arrays stay on disk; others are sorted into new arrays in memory.

        Args:
          features: Name to array `[rows, ...]`.
          labels: Array `[rows, ...]`.
          client_ids: `[rows]`, or None where each row is a client of its own (ids 0, 1, ...).

        Raises:
          InputError: If the table is empty, lengths differ, a number is not finite or a client id
            is missing.
        """
        features = {name: np.asarray(values) for name, values in features.items()}
        labels = np.asarray(labels)
        rows = len(labels)
        if rows == 0:
            raise InputError("the table is empty, no row is left to train on; check --data")
        check_lengths(features, labels)
        for name, values in (*features.items(), ("labels", labels)):
            check_finite(name, values)
        if client_ids is None:
            return cls(features, labels, np.arange(rows + 1), np.arange(rows))
        if len(client_ids) != rows:
            raise InputError(
                f"client_ids has {len(client_ids)} rows, labels has {rows}; give one id a row"
            )
        order, row_splits, unique_ids = _group(client_ids)
        if order is not None:
            features = {name: np.take(values, order, axis=0) for name, values in features.items()}
            labels = np.take(labels, order, axis=0)
        return cls(features, labels, row_splits, unique_ids)

    def select(self, clients: np.ndarray | Sequence[int]) -> ClientData:
        """Returns the clients of these indices, in that order; only their rows are copied.

        Raises:
          InputError: If an index is not in `[0, num_clients)`.
        """
        clients = np.asarray(clients, dtype=np.int64)
        check_indices(clients, self.num_clients)
        lengths = self.row_splits[clients + 1] - self.row_splits[clients]
        row_splits = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        shift = self.row_splits[clients] - row_splits[:-1]
        rows = np.arange(row_splits[-1]) + np.repeat(shift, lengths)
        return self._take(rows, row_splits, self.client_ids[clients])

    def split(
        self, *, validation_fraction: float, test_fraction: float, seed: int
    ) -> tuple[ClientData, ClientData, ClientData]:
        """Splits by client into train, validation and test, uniformly at random.

        See `clients.split_indices` for the arguments and what is refused.
        """
        train, validation, test = split_indices(
            self.num_clients,
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            seed=seed,
        )
        return self.select(train), self.select(validation), self.select(test)

    def cap_rows(self, max_rows_per_client: int, seed: int) -> ClientData:
        """Keeps at most so many rows of each client, a uniform choice: the contribution bound.

        The choice for one client depends on no other client's data, and kept rows keep their
        order.

        Raises:
          InputError: If `max_rows_per_client` is below 1.
        """
        require_at_least("max_rows_per_client", max_rows_per_client, 1)
        lengths = self.rows_per_client
        too_long = lengths > max_rows_per_client
        if not np.any(too_long):
            return self
        over = np.repeat(too_long, lengths)
        candidates = np.flatnonzero(over)
        counts = lengths[too_long]
        owners = np.repeat(np.arange(len(counts)), counts)
        # From (seed, client id, row of the client) alone: a neighbouring data set, with one client
        # more or less, must keep the same rows of all others.
        clients = pd.util.hash_array(np.asarray(self.client_ids[too_long], object).astype(str))
        first = np.cumsum(counts) - counts
        rows = (np.arange(len(candidates)) - np.repeat(first, counts)).astype(np.uint64)
        secret = randomness.key(seed, "cap_rows").view(np.uint64)[0]
        draws = _drawn(_drawn(clients ^ secret)[owners] + rows)
        draws = (draws >> np.uint64(32)).astype(np.int64)
        # One key of client and draw sorts ten times faster than two. Two given rows of a client
        # tie with probability 2**-32, which is all that the choice is away from uniform.
        order = np.argsort((owners << 32) | draws, kind="stable")
        rank = np.arange(len(candidates)) - np.repeat(np.cumsum(counts) - counts, counts)
        keep = ~over
        keep[candidates[order[rank < max_rows_per_client]]] = True
        kept = np.minimum(lengths, max_rows_per_client)
        row_splits = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
        return self._take(np.flatnonzero(keep), row_splits, self.client_ids)

    @classmethod
    def from_tff(
        cls,
        client_data: tff.simulation.datasets.ClientData,
        *,
        label_key: str = "label",
        feature_keys: Sequence[str] | None = None,
    ) -> ClientData:
        """Converts any of TFF's client datasets; clients without examples are left out.

        An element is `(x, y)`, where `x` is one tensor (feature `inputs`) or a mapping of them,
        or one mapping that holds the label too.

        Args:
          client_data: The source.
          label_key: Where the label is in an element that is one mapping.
          feature_keys: The features to keep of a mapping; None keeps all but the label.

        Raises:
          InputError: If a key is absent or no client has an example.
        """
        parts: dict[str, list[np.ndarray]] = {}
        labels: list[np.ndarray] = []
        ids, lengths = [], []
        for client_id, element in _tff_clients(client_data):
            client_features, client_labels = _split_element(element, label_key, feature_keys)
            for name, values in client_features.items():
                parts.setdefault(name, []).append(values)
            labels.append(client_labels)
            ids.append(client_id)
            lengths.append(len(client_labels))
        if not ids:
            raise InputError("client_data holds no example; give a dataset with at least one")
        features = {name: np.concatenate(values) for name, values in parts.items()}
        return cls.from_rows(features, np.concatenate(labels), np.repeat(np.array(ids), lengths))

    def _take(self, rows: np.ndarray, row_splits: np.ndarray, ids: np.ndarray) -> ClientData:
        """Copies the given rows, which the given splits cut into clients."""
        features = {name: np.take(values, rows, axis=0) for name, values in self.features.items()}
        return ClientData(features, np.take(self.labels, rows, axis=0), row_splits, ids)


def _group(
    client_ids: np.ndarray | Sequence[Any],
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Returns the row order that sorts by client (None: already sorted), row splits, and ids."""
    ids = np.asarray(client_ids)
    codes, unique_ids = pd.factorize(ids)
    if np.any(codes < 0):
        raise InputError(
            f"the client id is missing in row {int(np.argmax(codes < 0))}; name another client "
            "column or drop the row"
        )
    unique_ids = np.asarray(unique_ids)
    if unique_ids.dtype == object:
        # Text, or a mix that could not be ordered: fixed-width text, without an object an id.
        unique_ids = unique_ids.astype(np.str_)
    unique_ids, rank = np.unique(unique_ids, return_inverse=True)
    codes = rank[codes]
    row_splits = np.zeros(len(unique_ids) + 1, np.int64)
    np.cumsum(np.bincount(codes, minlength=len(unique_ids)), out=row_splits[1:])
    if np.all(codes[1:] >= codes[:-1]):
        return None, row_splits, unique_ids
    return np.argsort(codes, kind="stable"), row_splits, unique_ids


def _tff_clients(client_data: tff.simulation.datasets.ClientData) -> Iterator[tuple[str, Any]]:
    """Yields (id, all examples as one structure of arrays) of each client that has any."""
    for client_id in client_data.client_ids:
        dataset = client_data.create_tf_dataset_for_client(client_id)
        for element in dataset.batch(_WHOLE_CLIENT).as_numpy_iterator():
            yield client_id, element


def _split_element(
    element: Any, label_key: str, feature_keys: Sequence[str] | None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Separates the features of an element from its label."""
    if isinstance(element, Mapping):
        if label_key not in element:
            raise InputError(f"label_key={label_key!r} is not there; name one of {sorted(element)}")
        label = element[label_key]
        inputs = {name: values for name, values in element.items() if name != label_key}
    elif isinstance(element, tuple | list) and len(element) == 2:
        inputs, label = element
    else:
        raise InputError(
            f"an element of client_data is a {type(element).__name__}; map it to (x, y) or to a "
            "mapping that holds the label"
        )
    if not isinstance(inputs, Mapping):
        return {DEFAULT_FEATURE: inputs}, label
    names = list(inputs) if feature_keys is None else list(feature_keys)
    for name in names:
        if name not in inputs:
            raise InputError(f"feature_keys={name!r} is not there; name some of {sorted(inputs)}")
    return {name: inputs[name] for name in names}, label


def _drawn(words: np.ndarray) -> np.ndarray:
    """The next words of SplitMix64 generators whose states are `uint64` words."""
    return mixed(words + np.uint64(0x9E3779B97F4A7C15))
