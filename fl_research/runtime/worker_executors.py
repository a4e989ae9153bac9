"""Runs compiled computations on one TFF worker, and keeps there what is used again.

TFF's worker computes in executors, each for one number of clients. A function is sent to its
executor once, not with each call as stock TFF does; arguments and results are freed after a call.
"""

import collections
from collections.abc import Coroutine
from typing import Any

import tensorflow_federated as tff

from fl_research.runtime.identity_map import IdentityMap
from fl_research.runtime.worker_stub import WorkerStub

_MOST_EXECUTORS = 10  # each number of clients makes one, with threads of its own
# A round's values: its arguments one by one and as one, and its result. They are freed as soon as
# so many have gathered, so that no cohort lies about in the worker's memory.
_VALUES_FREED_AT_ONCE = 4


class WorkerExecutors:
    """The executors of one worker."""

    def __init__(self, stub: WorkerStub) -> None:
        """Remembers the worker.

        Args:
          stub: Calls it.
        """
        self._stub = stub
        self._executors: collections.OrderedDict[int, _Executor] = collections.OrderedDict()

    def run(self, computation: tff.Computation, clients: int, argument: Any) -> Any:
        """Runs a computation in the worker.

        Args:
          computation: Compiled for a worker.
          clients: The number of clients; 0 without any.
          argument: Its argument, a `Struct` of several; None without any.

        Returns:
          The result, its structures as TFF's `Struct`.
        """
        return self.executor(clients).run(computation, argument)

    def executor(self, clients: int) -> "_Executor":
        """Returns the executor for a number of clients; the worker makes it the first time."""
        if clients not in self._executors:
            self._executors[clients] = _Executor(self._stub, clients)
        self._executors.move_to_end(clients)
        while len(self._executors) > _MOST_EXECUTORS:
            self._executors.popitem(last=False)[1].close()
        return self._executors[clients]

    def close(self) -> None:
        """Frees what the worker holds for this program, if it is still there."""
        while self._executors:
            self._executors.popitem()[1].close()


class _Executor:
    """An executor and the functions that it holds."""

    def __init__(self, stub: WorkerStub, clients: int) -> None:
        """Has the worker make it."""
        self._executor = tff.framework.RemoteExecutor(stub, _VALUES_FREED_AT_ONCE)
        self._executor.set_cardinalities({tff.CLIENTS: clients})
        self._functions: IdentityMap[Any] = IdentityMap()

    def run(self, computation: tff.Computation, argument: Any) -> Any:
        """Runs a computation; see `WorkerExecutors.run`."""
        create = self._executor.create_value
        parameter = computation.type_signature.parameter
        function = self._functions.get(
            computation, lambda: _done(create(computation, computation.type_signature))
        )
        value = None
        if isinstance(argument, tff.structure.Struct):
            named = zip(argument, tff.structure.iter_elements(parameter), strict=True)
            elements = [(name, _done(create(v, of_type))) for v, (name, of_type) in named]
            value = _done(self._executor.create_struct(tff.structure.Struct(elements)))
        elif parameter is not None:
            value = _done(create(argument, parameter))
        return _done(_done(self._executor.create_call(function, value)).compute())

    def close(self) -> None:
        """Has the worker drop it, with all that it holds."""
        self._functions.clear()
        self._executor.close()


def _done(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine of TFF's remote executor, which never waits: its calls block.

    An event loop would do it as well, for a hundred times the time.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("the coroutine waits for something")
