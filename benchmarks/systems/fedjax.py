"""FedJAX as a system of the benchmark: federated averaging written with `fedjax.for_each_client`.

It follows FedJAX's own `fedjax.algorithms.fed_avg`, which weights clients by their rows and knows
neither clip nor noise. So the clip is written by hand, in the function that FedJAX runs last for
each client, and the noise too, in the server's compiled function. (FedJAX has a function that clips
a tree, but it sums a large model's squares so coarsely that the norm is off by 2.5e-4, and slowly.)
The batches of every client are cut before the rounds and are not shuffled. Every size of a last
batch is compiled before the first round.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.systems import protocol
from benchmarks.workloads import Workload

_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


class _FederatedAveraging:
    """The rounds of a workload from its initial weights on."""

    def __init__(self, workload: Workload) -> None:
        """Cuts the batches and builds the compiled functions."""
        import fedjax
        import jax

        self._workload = workload
        self._tree_sum = fedjax.tree_util.tree_sum
        self._clients = [_batches(workload, client) for client in range(workload.num_clients)]
        with fedjax.for_each_client_backend("jit"):
            self._train = fedjax.for_each_client(*_client_functions(workload))
        self._update = _server_function(workload)
        self._key = jax.random.PRNGKey(int.from_bytes(os.urandom(4), "big"))
        self._weights = {
            name: jax.numpy.asarray(value) for name, value in workload.initial_weights.items()
        }

    def compile_batch_sizes(self) -> None:
        """Trains on a client that has a batch of every size, and drops the result."""
        sized = {len(batch["labels"]): batch for client in self._clients for batch in client}
        for _ in self._train(self._weights, [(0, list(sized.values()), ())]):
            pass

    def run_round(self, round_number: int) -> None:
        """Runs a round and waits for its weights."""
        import jax

        cohort = self._workload.cohort(round_number).tolist()
        clients = [(client, self._clients[client], ()) for client in cohort]
        updates = self._train(self._weights, clients)
        total = self._tree_sum(update for _, update in updates)
        weights = self._update(self._weights, total, self._key, round_number)
        self._weights = jax.block_until_ready(weights)

    def weights(self) -> dict[str, np.ndarray]:
        """Returns the global weights by canonical name."""
        return {name: np.asarray(value) for name, value in self._weights.items()}


def _batches(workload: Workload, client: int) -> list[Mapping[str, np.ndarray]]:
    """Cuts the rows of a client into batches, the last one partial."""
    import fedjax

    features, labels = workload.client(client)
    dataset = fedjax.ClientDataset({**features, "labels": labels})
    return list(dataset.batch(batch_size=workload.batch_size))


def _client_functions(workload: Workload) -> tuple[Any, Any, Any]:
    """Returns what FedJAX runs first, for each batch and last for each client."""
    import fedjax
    import jax
    import optax

    from benchmarks.systems import fedjax_models

    gradient = jax.grad(fedjax_models.LOSSES[workload.name])
    optimizer = fedjax.optimizers.sgd(workload.client_learning_rate)

    def client_init(global_weights: Any, client_input: Any) -> Any:
        """Starts from the global weights."""
        del client_input
        return global_weights

    def client_step(weights: Any, batch: Any) -> Any:
        """Takes a step of plain SGD, which keeps no state between the steps."""
        _, stepped = optimizer.apply(gradient(weights, batch), optimizer.init(weights), weights)
        return stepped

    def client_final(global_weights: Any, weights: Any) -> Any:
        """Returns the clipped update."""
        update = jax.tree_util.tree_map(lambda new, old: new - old, weights, global_weights)
        factor = jax.numpy.minimum(1.0, workload.clip_norm / optax.global_norm(update))
        return jax.tree_util.tree_map(lambda value: factor * value, update)

    return client_init, client_step, client_final


def _server_function(workload: Workload) -> Any:
    """Returns the compiled function from weights and the sum of updates to new weights."""
    import jax

    stddev = workload.clip_norm * workload.noise_multiplier
    factor = workload.server_learning_rate / workload.expected_cohort_size

    @jax.jit
    def update(weights: Any, total: Any, key: Any, round_number: Any) -> Any:
        """Adds noise to the sum, divides it and adds it to the weights."""
        keys = jax.random.split(jax.random.fold_in(key, round_number), len(total))
        return {
            name: weights[name]
            + factor * (value + stddev * jax.random.normal(noise_key, value.shape, value.dtype))
            for (name, value), noise_key in zip(sorted(total.items()), keys, strict=True)
        }

    return update


class FedJax(protocol.System):
    """FedJAX with its jit backend on the processor."""

    def start(self, workload: Workload, threads: int) -> Mapping[str, str]:
        """See `protocol.System.start`. With one thread, XLA's pool of threads is not used."""
        if threads == 1:
            os.environ["XLA_FLAGS"] = _ONE_THREAD
        from importlib.metadata import version

        self._averaging = _FederatedAveraging(workload)
        self._averaging.compile_batch_sizes()
        return {
            "version": f"{version('fedjax')}, jax {version('jax')}",
            "note": f"for_each_client, jit backend, threads: {threads}; clip and noise by hand; "
            "batches cut in advance, not shuffled",
        }

    def run_round(self, round_number: int) -> None:
        """See `protocol.System.run_round`."""
        self._averaging.run_round(round_number)

    def check(self, workload: Workload) -> dict[str, np.ndarray]:
        """See `protocol.System.check`."""
        averaging = _FederatedAveraging(workload)
        averaging.run_round(protocol.CHECK_ROUND)
        return averaging.weights()


if __name__ == "__main__":
    protocol.serve(FedJax())
