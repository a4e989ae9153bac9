"""Partitioning: who is a client, where the records do not say or an experiment wants another cut.

Each function returns one client id a row, for `ClientData.from_rows`. Every row goes to exactly
one client. A client that gets no row does not exist. Label skew follows Hsu, Qi and Brown 2019
("Measuring the effects of non-identical data distribution for federated visual classification"):
all clients have the same size, each draws its own label distribution q ~ Dirichlet(concentration *
prior), then draws rows of those labels without replacement; a label that runs out is left out and
q scaled up, so that the last clients take what is left over. Quantity skew gives clients sizes in
proportion to lognormal weights.
"""

import numpy as np

from fl_research import randomness
from fl_research.argument_checks import require_not_negative, require_positive
from fl_research.errors import InputError


def iid(num_rows: int, num_clients: int, seed: int) -> np.ndarray:
    """Returns ids `int64[rows]` that spread the rows uniformly; sizes differ by at most one.

    Raises:
      InputError: If there is no row or fewer rows than clients.
    """
    _check_sizes(num_rows, num_clients)
    return _even_ids(num_rows, num_clients, randomness.generator(seed, "partition_iid"))


def dirichlet_label_skew(
    labels: np.ndarray, num_clients: int, concentration: float, seed: int
) -> np.ndarray:
    """Returns ids `int64[rows]` whose label distributions differ by client (Hsu et al. 2019).

    Args:
      labels: `[rows]`.
      num_clients: How many clients; their sizes differ by at most one.
      concentration: Above 0. Near 0 gives one label a client, large gives the same mix to all.
      seed: The run's seed.

    Raises:
      InputError: If there are fewer rows than clients or the concentration is not positive.
    """
    labels = np.asarray(labels)
    _check_sizes(len(labels), num_clients)
    require_positive("concentration", concentration)
    generator = randomness.generator(seed, "partition_dirichlet")
    _, classes, remaining = np.unique(labels, return_inverse=True, return_counts=True)
    prior = remaining / len(labels)
    log_mixes = _log_dirichlet(concentration * prior, num_clients, generator)
    sizes = np.bincount(_even_ids(len(labels), num_clients, generator), minlength=num_clients)
    counts = np.zeros((num_clients, len(prior)), np.int64)
    remaining = remaining.astype(np.int64)
    for client, size in enumerate(sizes):
        counts[client] = _draw_labels(log_mixes[client], remaining, int(size), generator)
        remaining -= counts[client]
    ids = np.empty(len(labels), np.int64)
    for label in range(len(prior)):
        owners = np.repeat(np.arange(num_clients), counts[:, label])
        ids[np.flatnonzero(classes == label)] = generator.permutation(owners)
    return ids


def quantity_skew(num_rows: int, num_clients: int, sigma: float, seed: int) -> np.ndarray:
    """Returns ids `int64[rows]` with client sizes in proportion to lognormal weights.

    Args:
      num_rows: How many rows.
      num_clients: How many clients at most; one that draws no row does not exist.
      sigma: Standard deviation of the log of a client's weight; 0 gives all the same weight.
      seed: The run's seed.

    Raises:
      InputError: If there are fewer rows than clients or sigma is negative.
    """
    _check_sizes(num_rows, num_clients)
    require_not_negative("sigma", sigma)
    generator = randomness.generator(seed, "partition_quantity")
    log_weights = sigma * generator.standard_normal(num_clients)
    weights = np.exp(log_weights - log_weights.max())
    sizes = generator.multinomial(num_rows, weights / weights.sum())
    return generator.permutation(np.repeat(np.arange(num_clients), sizes))


def _check_sizes(num_rows: int, num_clients: int) -> None:
    """Raises InputError unless there is a row for each client."""
    if not 1 <= num_clients <= num_rows:
        raise InputError(
            f"num_clients={num_clients} does not fit {num_rows} rows; give a whole number from "
            f"1 to {num_rows}"
        )


def _even_ids(num_rows: int, num_clients: int, generator: np.random.Generator) -> np.ndarray:
    """Spreads rows uniformly over clients whose sizes differ by at most one."""
    return generator.permutation(num_rows) % num_clients


def _log_dirichlet(
    alpha: np.ndarray, num_clients: int, generator: np.random.Generator
) -> np.ndarray:
    """Draws logs of Dirichlet vectors `[clients, labels]`, up to a constant for each client.

    In logs, because a gamma variate of small shape underflows to zero; for shape a it is one of
    shape a + 1 times U**(1 / a).
    """
    shape = (num_clients, len(alpha))
    gammas = generator.standard_gamma(alpha + 1, size=shape)
    uniforms = 1.0 - generator.random(shape)  # in (0, 1]
    return np.log(gammas) + np.log(uniforms) / alpha


def _draw_labels(
    log_mix: np.ndarray, remaining: np.ndarray, size: int, generator: np.random.Generator
) -> np.ndarray:
    """Draws how many rows of each label a client takes, never more than remain.

    Draws beyond what remains of a label are drawn again among the others. That equals drawing one
    by one and leaving a label out once it is exhausted.
    """
    taken = np.zeros_like(remaining)
    while (missing := size - int(taken.sum())) > 0:
        open_labels = taken < remaining
        logits = np.where(open_labels, log_mix, -np.inf)
        mix = np.exp(logits - logits.max())
        taken += generator.multinomial(missing, mix / mix.sum())
        np.minimum(taken, remaining, out=taken)
    return taken
