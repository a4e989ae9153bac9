"""A TFF context that spreads the clients of a computation over workers on other machines.

A computation over clients is split in three (`split_computation`). What the server does runs here:
the noise, and the server's optimizer with its state, never leave this machine. The clients' work
runs on the workers at the same time, each with an equal, contiguous share of the clients. Their
results come back client by client, and are aggregated here in the clients' order. So the result is,
to the bit, that of one worker with the same clients on a like processor, whichever workers take
part and whichever is done first. (Stock TFF's mergeable context adds up in the order in which the
workers finish, runs the server's part on the one that came last, and repeats what fails.)

A computation without clients, or one that cannot be split, runs on this machine as a whole.
"""

import contextlib
import dataclasses
import itertools
import warnings
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import tensorflow_federated as tff
from tensorflow_federated.python.core.environments.tensorflow_frontend import tensorflow_computation

from fl_research.runtime.identity_map import IdentityMap
from fl_research.runtime.remote_worker import RemoteWorker
from fl_research.runtime.split_computation import CannotSplitError, Part, SplitComputation, split
from fl_research.runtime.worker_executors import WorkerExecutors
from fl_research.runtime.worker_stub import RemoteStub


class SpreadContext(tff.framework.SyncContext):
    """Runs the clients' work of a computation on workers, and the rest on this machine.

    Args:
      local: Runs the server's parts, and what has no clients.
      workers: From `remote_worker.reached`; they get the clients in this order.
    """

    def __init__(self, local: tff.framework.SyncContext, workers: Sequence[RemoteWorker]) -> None:
        super().__init__()
        self._local = local
        self._splits: IdentityMap[SplitComputation | None] = IdentityMap()
        self._stubs = [RemoteStub(worker) for worker in workers]
        self._executors = [WorkerExecutors(stub) for stub in self._stubs]
        self._threads = futures.ThreadPoolExecutor(len(workers))

    def check(self) -> None:
        """Makes sure that the workers are TFF workers.

        Raises:
          WorkerError: What listens at a worker's address is something else.
        """
        for executors in self._executors:
            executors.executor(0)
            executors.close()

    def invoke(self, comp: tff.Computation, arg: Any) -> Any:
        """Runs a computation, spread over the workers where it has clients.

        Raises:
          WorkerError: A worker failed; the computation as a whole failed.
        """
        parts = self._splits.get(comp, lambda: _split(comp))
        if parts is None:
            return self._local.invoke(comp, arg)
        given = tensorflow_computation.transform_args(list(tff.structure.from_container(arg)))
        values = dict(zip(parts.arguments, given, strict=True))
        if parts.before is not None:
            sent = self._local.invoke(parts.before.computation, _inputs(parts.before, values))
            values.update(zip(parts.before.outputs, sent, strict=True))
        clients = _number_of_clients(given, comp.type_signature.parameter)
        results = self._spread(parts.work, clients, _inputs(parts.work, values))
        values.update(zip(parts.work.outputs, results, strict=True))
        return self._local.invoke(parts.after.computation, _inputs(parts.after, values))

    def close(self) -> None:
        """Leaves the workers, which free what they hold for this program."""
        for executors in self._executors:
            executors.close()
        for stub in self._stubs:
            stub.cancel()
            stub.close()
        self._threads.shutdown()

    def _spread(self, work: Part, clients: int, inputs: tff.structure.Struct) -> list[list[Any]]:
        """Runs the clients' work on the workers; returns each output as a list over all clients."""
        at_clients = [
            _has_clients(of_type) for of_type in work.computation.type_signature.parameter
        ]
        running = []
        try:
            shares = _shares(clients, len(self._executors))
            for executors, mine in zip(self._executors, shares, strict=True):
                number = mine.stop - mine.start
                if number:
                    part = [v[mine] if a else v for v, a in zip(inputs, at_clients, strict=True)]
                    argument = tff.structure.Struct.unnamed(*part)
                    running.append(
                        self._threads.submit(executors.run, work.computation, number, argument)
                    )
            futures.wait(running, return_when=futures.FIRST_EXCEPTION)
            for task in running:
                if task.done():
                    task.result()
        except grpc.RpcError:  # an error inside the computation: the workers are well
            futures.wait(running)
            raise
        except BaseException:
            for stub in self._stubs:
                stub.cancel()
            raise
        results = [task.result() for task in running]
        return [
            [value for result in results for value in result[index]]
            for index in range(len(work.outputs))
        ]


@contextlib.contextmanager
def spread_context(
    local: tff.framework.SyncContext, workers: Sequence[RemoteWorker]
) -> Iterator[tff.framework.SyncContext]:
    """Gives a `SpreadContext` and leaves the workers afterwards; without workers, `local` itself.

    Args:
      local: Runs the server's parts, and what has no clients.
      workers: From `remote_worker.reached`.

    Raises:
      WorkerError: What listens at a worker's address is no TFF worker.
    """
    if not workers:
        yield local
        return
    context = SpreadContext(local, workers)
    try:
        context.check()
        yield context
    finally:
        context.close()


def _split(comp: tff.Computation) -> SplitComputation | None:
    """Returns the parts of a computation, the work compiled; None if it runs here as a whole."""
    if not _has_clients(comp.type_signature.parameter):
        return None
    try:
        parts = split(comp)
    except CannotSplitError as error:
        warnings.warn(
            f"a computation over clients runs on this machine alone: {error}", stacklevel=2
        )
        return None
    compiled = tff.backends.native.desugar_and_transform_to_native(parts.work.computation)
    return dataclasses.replace(parts, work=dataclasses.replace(parts.work, computation=compiled))


def _shares(clients: int, workers: int) -> list[slice]:
    """Returns each worker's share of the clients; shares differ by one client at most."""
    edges = np.linspace(0, clients, workers + 1).round().astype(int)
    return [slice(int(first), int(last)) for first, last in itertools.pairwise(edges)]


def _inputs(part: Part, values: dict[str, Any]) -> tff.structure.Struct:
    """Returns what a part takes, of values by name."""
    return tff.structure.Struct.unnamed(*(values[name] for name in part.inputs))


def _number_of_clients(arguments: Sequence[Any], parameter: tff.StructType) -> int:
    """Returns the number of clients of a computation's arguments."""
    placed = zip(arguments, parameter, strict=True)
    return next(len(value) for value, value_type in placed if _has_clients(value_type))


def _has_clients(type_spec: tff.Type | None) -> bool:
    """Returns whether a type holds values at the clients."""
    return type_spec is not None and tff.types.contains(
        type_spec, lambda t: isinstance(t, tff.FederatedType) and t.placement is tff.CLIENTS
    )
