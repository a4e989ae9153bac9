"""Flower's simulation of a workload, run round by round when the driver says so.

`flwr.simulation.start_simulation` runs in a thread. Its server waits for the number of a round,
takes that round's cohort from a client manager of its own and runs `Server.fit_round`. The strategy
is Flower's wrapper for clipping at the client, around FedAvg with a weight of one a client; clients
send their update. Each of Ray's actors keeps the data and one model in memory and trains client
after client with it.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import tempfile
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import ray
from flwr.client import Client
from flwr.common import (
    Code,
    Context,
    FitIns,
    FitRes,
    Parameters,
    Scalar,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.server import History, Server, ServerConfig, SimpleClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.criterion import Criterion
from flwr.server.strategy import DifferentialPrivacyClientSideFixedClipping, FedAvg
from flwr.simulation import start_simulation

from benchmarks import workloads
from benchmarks.systems.flower_weights import to_canonical, to_vector
from benchmarks.workloads import Workload

if TYPE_CHECKING:
    from benchmarks.systems.flower_models import LocalTraining

_OBJECT_STORE_BYTES = 256 << 20
_TRIES = 3


@functools.cache
def _local_training(name: str) -> LocalTraining:
    """Returns what trains a workload's clients in this process, an actor's."""
    import torch

    from benchmarks.systems.flower_models import LocalTraining

    torch.set_num_threads(1)
    return LocalTraining(workloads.load(name))


class _Client(Client):
    """A client that trains on its rows and clips its update."""

    def __init__(self, index: int) -> None:
        self._index = index

    def fit(self, ins: FitIns) -> FitRes:
        """Returns the clipped update."""
        (weights,) = parameters_to_ndarrays(ins.parameters)
        training = _local_training(str(ins.config["workload"]))
        update = training.train(weights, self._index, float(ins.config["clipping_norm"]))
        return FitRes(
            Status(Code.OK, ""), ndarrays_to_parameters([update]), num_examples=1, metrics={}
        )


def make_client(context: Context) -> Client:
    """Returns the client of a context, as Flower asks for it in an actor for every message."""
    return _Client(int(context.node_config["partition-id"]))


class _CohortManager(SimpleClientManager):
    """Gives the cohort of the round instead of a random sample."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self._workload = workload
        self._by_index: dict[int, Any] = {}
        self.round_number = 0

    def register(self, client: Any) -> bool:
        """Adds a client of the simulation."""
        self._by_index[client.partition_id] = client
        return super().register(client)

    def sample(
        self,
        num_clients: int,
        min_num_clients: int | None = None,
        criterion: Criterion | None = None,
    ) -> list[ClientProxy]:
        """Returns the clients of the round, whatever number is asked for."""
        del num_clients, min_num_clients, criterion
        cohort = self._workload.cohort(self.round_number).tolist()
        return [self._by_index[index] for index in cohort]


class _UpdateFedAvg(FedAvg):
    """FedAvg of updates, whose sum over the expected cohort size is added to the weights.

    Flower's own average of weights loses too much in float32: a text round's update was off by
    5e-4 of its norm.
    """

    def __init__(self, workload: Workload) -> None:
        super().__init__(
            fraction_evaluate=0.0, on_fit_config_fn=lambda _: {"workload": workload.name}
        )
        self._expected = workload.expected_cohort_size
        self._weights: Parameters | None = None

    def configure_fit(self, server_round: int, parameters: Parameters, client_manager: Any) -> Any:
        """Keeps the global weights of the round."""
        self._weights = parameters
        return super().configure_fit(server_round, parameters, client_manager)

    def aggregate_fit(
        self, server_round: int, results: Any, failures: Any
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        """Returns the new global weights, which Flower's wrapper adds noise to."""
        mean, metrics = super().aggregate_fit(server_round, results, failures)
        if mean is None or self._weights is None:
            return None, metrics
        (weights,) = parameters_to_ndarrays(self._weights)
        (update,) = parameters_to_ndarrays(mean)
        update *= np.float32(len(results) / self._expected)
        return ndarrays_to_parameters([weights + update]), metrics


class _RoundServer(Server):
    """Runs a round for each number in `requests`, until None, and says in `answers` when."""

    def __init__(self, workload: Workload, actors: int) -> None:
        strategy = DifferentialPrivacyClientSideFixedClipping(
            _UpdateFedAvg(workload),
            noise_multiplier=workload.noise_multiplier,
            clipping_norm=workload.clip_norm,
            num_sampled_clients=workload.expected_cohort_size,
        )
        self._manager = _CohortManager(workload)
        super().__init__(client_manager=self._manager, strategy=strategy)
        # With more threads than actors, the threads' race in Flower's pool loses clients.
        self.set_max_workers(actors)
        self.parameters = ndarrays_to_parameters([to_vector(workload)])
        self.requests: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def fit(self, num_rounds: int, timeout: float | None) -> tuple[History, float]:
        """Serves requests; called by the simulation when its actors exist."""
        del num_rounds
        self.answers.put(None)
        while (round_number := self.requests.get()) is not None:
            self._manager.round_number = round_number
            self.parameters = self._new_parameters(round_number, timeout)
            self.answers.put(None)
        return History(), 0.0

    def _new_parameters(self, round_number: int, timeout: float | None) -> Parameters:
        """Runs a round, again if Flower's pool loses a client, which it hardly ever does."""
        failures: list[Any] = []
        for _ in range(_TRIES):
            result = self.fit_round(round_number, timeout)
            if result is not None:
                parameters, _, (_, failures) = result
                if parameters is not None:
                    return parameters
        raise RuntimeError(f"round {round_number} has no result: {failures[:1]}")


class Simulation:
    """A workload in Flower's simulation, at its initial weights.

    Only one lives at a time in a process. Always `stop` it.

    Args:
      workload: What to run.
      actors: Number of Ray's actors, of one core each.
    """

    def __init__(self, workload: Workload, actors: int) -> None:
        """Starts Ray and the actors."""
        if workload.server_learning_rate != 1.0:
            raise ValueError("FedAvg of Flower has no server learning rate other than 1")
        self._workload = workload
        self._actors = actors
        self._server = _RoundServer(workload, actors)
        self._folder = tempfile.TemporaryDirectory(prefix="flower_")
        self._thread = threading.Thread(target=self._simulate, daemon=True)
        self._thread.start()
        self._wait()

    def run_round(self, round_number: int) -> None:
        """Runs a round on its cohort and waits for the new weights."""
        self._server.requests.put(round_number)
        self._wait()

    def weights(self) -> dict[str, np.ndarray]:
        """Returns the global weights by canonical name."""
        (vector,) = parameters_to_ndarrays(self._server.parameters)
        return to_canonical(self._workload, vector)

    def stop(self) -> None:
        """Ends Ray's processes and the threads."""
        processes = psutil.Process().children(recursive=True)
        self._server.requests.put(None)
        self._thread.join()
        for thread in threading.enumerate():
            # Flower looks at Ray's resources every ten seconds, once more after the end.
            if isinstance(thread, threading.Timer):
                thread.cancel()
        # Ray's agents would only leave later, and without their logs much later.
        _, alive = psutil.wait_procs(processes, timeout=1)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=10)
        self._folder.cleanup()

    def _wait(self) -> None:
        """Waits for the server's answer and raises what it raised."""
        error = self._server.answers.get()
        if error is not None:
            raise RuntimeError(f"Flower's simulation ended: {error}") from error

    def _simulate(self) -> None:
        """Runs the simulation, to be called in a thread of its own."""
        try:
            start_simulation(
                client_fn=make_client,
                num_clients=self._workload.num_clients,
                server=self._server,
                config=ServerConfig(num_rounds=1),
                client_resources={"num_cpus": 1, "num_gpus": 0.0},
                ray_init_args={
                    "address": "local",
                    "num_cpus": self._actors,
                    "object_store_memory": _OBJECT_STORE_BYTES,
                    "include_dashboard": False,
                    "log_to_driver": False,
                    "logging_level": "error",
                    "_temp_dir": self._folder.name,
                },
            )
        except BaseException as error:
            self._server.answers.put(error)
        finally:
            ray.shutdown()  # in this thread, whose end ends what Ray started from it
