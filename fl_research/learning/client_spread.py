"""The metrics of single clients, joined over blocks and summed up over clients; numpy only."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_PERCENTILES = {"p10": 10, "p50": 50, "p90": 90}


def join_clients(blocks: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Returns the per-client arrays of all blocks joined, by name, in the order of the cohort."""
    return {name: np.concatenate([np.asarray(b[name]) for b in blocks]) for name in blocks[0]}


def percentiles(values: np.ndarray) -> dict[str, float] | None:
    """Returns the 10th, 50th and 90th percentile over clients, and the number of clients.

    Args:
      values: One value a client; what is not finite is left out.

    Returns:
      p10, p50, p90 and clients; None where no client has a value.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    found = {name: float(np.percentile(finite, at)) for name, at in _PERCENTILES.items()}
    return {**found, "clients": int(finite.size)}


def histogram(values: np.ndarray, num_bins: int = 20) -> dict[str, list[float]]:
    """Returns how many clients have which value, from 0 up.

    Args:
      values: One value a client, not negative; what is not finite is left out.
      num_bins: Number of bins, from 0 to the largest value, or to 1 if that is more.

    Returns:
      `bin_edges`, one more than bins, and `clients` of each bin.
    """
    finite = values[np.isfinite(values)]
    top = max(1.0, float(finite.max(initial=0.0)))
    clients, edges = np.histogram(finite, bins=num_bins, range=(0.0, top))
    return {"bin_edges": edges.tolist(), "clients": clients.tolist()}
