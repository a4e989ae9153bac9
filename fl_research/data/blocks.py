"""Blocks: a cohort cut into a few pieces of plain arrays, the members of CLIENTS in a TFF round.

The cohort's rows are gathered once. A client goes to the block in which the middle of its work
(rows + 1) falls when the whole work is cut into equal parts, so that blocks are contiguous in the
order of the cohort and about equally heavy. The number of blocks never changes over rounds, since
each new number of members makes TFF's worker build a new executor.
"""

import collections
import itertools

import numpy as np

from fl_research import randomness
from fl_research.argument_checks import require_at_least
from fl_research.data.clients import Clients


def cut_into_blocks(
    data: Clients, clients: np.ndarray, *, num_blocks: int, seed: int, round_number: int
) -> list[collections.OrderedDict]:
    """Returns the cohort as `num_blocks` blocks, some of which may hold no client.

    A block is `<features=<name=dtype[rows,...],...>, labels=dtype[rows,...],
    row_splits=int64[clients+1], seeds=int64[clients,2]>`. `seeds[k]` is (a key of the run's seed
    and the round, the client's index in `data`), so that it does not depend on the cut.

    Args:
      data: All clients.
      clients: `int64[cohort]` indices into `data`, in the order of the cohort; may be empty.
      num_blocks: How many blocks, 1 or more; from the size of the cohort up, each client has a
        block of its own.
      seed: The run's seed.
      round_number: The round.

    Raises:
      InputError: If `num_blocks` is below 1 or an index is not a client of `data`.
    """
    require_at_least("num_blocks", num_blocks, 1)
    clients = np.asarray(clients, dtype=np.int64)
    cohort = data.select(clients)
    round_key = randomness.key(seed, "client_update", round_number)[0]
    seeds = np.stack([np.full_like(clients, round_key), clients], axis=1)
    edges = _block_edges(cohort.rows_per_client, num_blocks)
    blocks = []
    for first, last in itertools.pairwise(edges):
        rows = slice(cohort.row_splits[first], cohort.row_splits[last])
        features = collections.OrderedDict(
            (name, values[rows]) for name, values in cohort.features.items()
        )
        blocks.append(
            collections.OrderedDict(
                features=features,
                labels=cohort.labels[rows],
                row_splits=cohort.row_splits[first : last + 1] - cohort.row_splits[first],
                seeds=seeds[first:last],
            )
        )
    return blocks


def _block_edges(rows_per_client: np.ndarray, num_blocks: int) -> np.ndarray:
    """Returns `int64[num_blocks + 1]`: block b holds the cohort's clients `edges[b]:edges[b+1]`."""
    size = len(rows_per_client)
    if num_blocks >= size:
        return np.minimum(np.arange(num_blocks + 1), size)
    work = rows_per_client + 1
    done = np.cumsum(work)
    # The middle of a client's work in half units, to stay in whole numbers.
    block_of_client = (2 * done - work) * num_blocks // (2 * done[-1])
    return np.searchsorted(block_of_client, np.arange(num_blocks + 1))
