"""Clients: what rounds, evaluations and tasks ask of a set of clients, in memory or on disk.

`ClientData` holds its rows as arrays; `PopulationClients` is a view of a population on disk. Both
are split by client in the same way: a permutation of the clients, cut twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fl_research import randomness
from fl_research.errors import InputError

if TYPE_CHECKING:
    from fl_research.data.client_data import ClientData

RowTypes = dict[str, tuple[tuple[int, ...], np.dtype]]
"""Name of each feature -> shape and type of one row of it."""


class Clients(Protocol):
    """A set of clients with their records, numbered from 0."""

    @property
    def num_clients(self) -> int:
        """The number of clients."""

    @property
    def num_rows(self) -> int:
        """The number of rows of all clients together."""

    @property
    def rows_per_client(self) -> np.ndarray:
        """`int64[clients]`: how many rows each client has."""

    @property
    def row_types(self) -> RowTypes:
        """Shape and type of one row of each feature."""

    def select(self, clients: np.ndarray | Sequence[int]) -> ClientData:
        """Returns the clients of these indices, in that order; only their rows are copied.

        Raises:
          InputError: If an index is not in `[0, num_clients)`.
        """

    def label_counts(self) -> dict[Any, int]:
        """Returns how many rows each label has, by rising label."""


def clients_by_rows(clients: Clients) -> dict[int, int]:
    """Returns how many clients have so many rows, by rising number of rows."""
    rows, counts = np.unique(clients.rows_per_client, return_counts=True)
    return {int(number): int(count) for number, count in zip(rows, counts, strict=True)}


def check_indices(clients: np.ndarray, num_clients: int) -> None:
    """Raises InputError unless every index of `clients` is in `[0, num_clients)`."""
    if clients.size and not (clients.min() >= 0 and clients.max() < num_clients):
        raise InputError(
            f"clients has indices from {clients.min()} to {clients.max()}; give indices from "
            f"0 to {num_clients - 1}"
        )


def check_fractions(*, validation_fraction: float, test_fraction: float) -> None:
    """Raises InputError unless both are fractions in [0, 1) that leave something to train on."""
    for name, fraction in (
        ("validation_fraction", validation_fraction),
        ("test_fraction", test_fraction),
    ):
        if not 0 <= fraction < 1:
            raise InputError(f"{name}={fraction} is not a fraction; give one in [0, 1)")
    if validation_fraction + test_fraction >= 1:
        raise InputError(
            f"validation_fraction={validation_fraction} and test_fraction={test_fraction} "
            "leave nothing to train on; give fractions that sum to less than 1"
        )


def split_indices(
    num_clients: int, *, validation_fraction: float, test_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits clients into train, validation and test, uniformly at random.

    Validation and test get their fractions of the clients, rounded to the nearest whole number,
    train the rest. A fraction of zero gives a split without clients.

    Args:
      num_clients: How many clients there are.
      validation_fraction: Fraction of the clients, in `[0, 1)`.
      test_fraction: Fraction of the clients, in `[0, 1)`; the two together stay below 1.
      seed: The run's seed.

    Returns:
      The sorted `int64` indices of each split's clients.

    Raises:
      InputError: If a fraction is out of range or a split that was asked for stays empty.
    """
    check_fractions(validation_fraction=validation_fraction, test_fraction=test_fraction)
    num_validation = int(np.floor(validation_fraction * num_clients + 0.5))
    num_test = int(np.floor(test_fraction * num_clients + 0.5))
    num_train = num_clients - num_validation - num_test
    if (
        num_train < 1
        or (validation_fraction > 0 and num_validation == 0)
        or (test_fraction > 0 and num_test == 0)
    ):
        raise InputError(
            f"validation_fraction={validation_fraction} and test_fraction={test_fraction} do "
            f"not fit {num_clients} clients, of whom train, validation and test would get "
            f"{num_train}, {num_validation} and {num_test}; give more clients or other fractions"
        )
    shuffled = randomness.generator(seed, "client_split").permutation(num_clients)
    train, rest = shuffled[:num_train], shuffled[num_train:]
    return np.sort(train), np.sort(rest[:num_validation]), np.sort(rest[num_validation:])
