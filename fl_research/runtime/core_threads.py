"""One thread a core, for work that spends its time in TensorFlow, outside the interpreter's lock.

Whoever waits for a task here can be interrupted: in Python a signal reaches a thread that waits in
Python, not one that is inside TensorFlow. The threads are daemons: a program that ends does not
wait for an operation that cannot be cancelled.
"""

import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any


class Task:
    """Something that a thread does; see `CoreThreads.start`."""

    def __init__(self, work: Callable[[], Any]) -> None:
        """Remembers what to do."""
        self._work = work
        self._outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run(self) -> None:
        """Does it."""
        try:
            self._outcome.put((self._work(), None))
        except BaseException as error:  # raised again where the result is asked for
            self._outcome.put((None, error))

    def result(self, timeout_seconds: float | None = None) -> Any:
        """Waits for the task, once; returns what it returned, or raises what it raised.

        Args:
          timeout_seconds: Longest time to wait; None for no limit.

        Raises:
          queue.Empty: It takes longer.
        """
        value, error = self._outcome.get(timeout=timeout_seconds)
        if error is not None:
            raise error
        return value


class CoreThreads:
    """The threads; `stop` ends them."""

    def __init__(self, count: int | None = None) -> None:
        """Starts the threads.

        Args:
          count: How many; None for one for each core that this process may use.
        """
        self.count = count or _usable_cores()
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"fl_research_core_{number}", daemon=True)
            for number in range(self.count)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, work: Callable[[], Any]) -> Task:
        """Gives work to the next free thread."""
        task = Task(work)
        self._tasks.put(task)
        return task

    def for_each(
        self,
        number: int,
        work: Callable[[int], Any],
        *,
        consequence: type[BaseException] | tuple[()] = (),
    ) -> list[Any]:
        """Returns `[work(0), ..., work(number - 1)]`, computed side by side.

        The calling thread works too. After a failure what has not begun is left out.

        Args:
          number: How many.
          work: Takes the index.
          consequence: What work raises because other work failed.

        Raises:
          Exception: What the first one (by index) that failed by itself raised.
        """
        if number < 2:
            return [work(index) for index in range(number)]
        indices = iter(range(number))
        results: list[Any] = [None] * number
        errors: dict[int, BaseException] = {}
        done: queue.SimpleQueue[int] = queue.SimpleQueue()

        def take() -> None:
            """Works as long as there is something left."""
            for index in indices:
                if not errors:
                    try:
                        results[index] = work(index)
                    except BaseException as error:
                        errors[index] = error
                done.put(index)

        for _ in range(min(number, self.count) - 1):
            self.start(take)
        take()
        # Counts what was done, not the helpers: a helper that comes late finds nothing to do.
        for _ in range(number):
            done.get()
        if errors:
            raise errors[min(errors, key=lambda i: (isinstance(errors[i], consequence), i))]
        return results

    def stop(self, timeout_seconds: float) -> None:
        """Ends the threads, as soon as they are done with what they do.

        Args:
          timeout_seconds: Longest time to wait for them.
        """
        for _ in self._threads:
            self._tasks.put(None)
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        """Does task after task."""
        while (task := self._tasks.get()) is not None:
            task.run()
            del task  # it holds arguments and results


def _usable_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
