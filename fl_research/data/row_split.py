"""Splits the rows of each client, to try what is learned for a client on other rows of its own."""

import numpy as np

from fl_research import randomness
from fl_research.data.client_data import ClientData
from fl_research.data.clients import check_fractions
from fl_research.errors import InputError


def split_rows(
    data: ClientData, *, validation_fraction: float, test_fraction: float, seed: int
) -> tuple[ClientData, ClientData, ClientData]:
    """Splits the rows of each client into train, validation and test, at random.

    Each client gives the fractions of its rows, rounded, and trains on at least one.

    Args:
      data: The clients.
      validation_fraction: Share of a client's rows, in [0, 1).
      test_fraction: Likewise; the two together stay below 1.
      seed: Of the choice.

    Raises:
      InputError: A fraction is out of range, or a split that was asked for stays empty.
    """
    check_fractions(validation_fraction=validation_fraction, test_fraction=test_fraction)
    rows = data.rows_per_client
    owner = np.repeat(np.arange(data.num_clients), rows)
    keys = randomness.generator(seed, "row_split").random(data.num_rows)
    place = np.empty(data.num_rows, np.int64)
    # Rows are sorted by owner already, so the order within each is that of its keys.
    place[np.lexsort((keys, owner))] = np.arange(data.num_rows) - np.repeat(
        data.row_splits[:-1], rows
    )
    tested = np.minimum(np.floor(test_fraction * rows + 0.5), rows - 1)
    held = np.floor((test_fraction + validation_fraction) * rows + 0.5)
    is_test = place < tested[owner]
    is_validation = ~is_test & (place < np.minimum(held, rows - 1)[owner])
    parts = (~is_test & ~is_validation, is_validation, is_test)
    for name, share, part in zip(
        ("validation", "test"), (validation_fraction, test_fraction), parts[1:], strict=True
    ):
        if share > 0 and not part.any():
            raise InputError(
                f"{name}_fraction={share} of the rows of each client is no row; give larger "
                "clients or another fraction"
            )
    train, validation, test = (_part(data, owner, part) for part in parts)
    return train, validation, test


def _part(data: ClientData, owner: np.ndarray, part: np.ndarray) -> ClientData:
    """The clients with some of their rows; a client without any is left out."""
    kept, counts = np.unique(owner[part], return_counts=True)
    return ClientData(
        {name: values[part] for name, values in data.features.items()},
        data.labels[part],
        np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        data.client_ids[kept],
    )
