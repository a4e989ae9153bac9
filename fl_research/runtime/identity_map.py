"""What was made of an object, kept by the object's identity and dropped with it."""

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

_Made = TypeVar("_Made")


class IdentityMap(Generic[_Made]):
    """Remembers what was made of each object.

    For TFF computations: an ordinary dictionary would serialise the whole computation for its hash,
    each time that it is looked up.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[object], _Made]] = {}

    def get(self, key: object, make: Callable[[], _Made]) -> _Made:
        """Returns what was made of an object, and makes it the first time.

        Args:
          key: The object; it can be weakly referenced.
          make: Makes it; what it makes must not hold the object.
        """
        entry = self._entries.get(id(key))
        if entry is None or entry[0]() is not key:
            forget, number = self._entries.pop, id(key)
            entry = (weakref.ref(key, lambda _: forget(number, None)), make())
            self._entries[number] = entry
        return entry[1]

    def clear(self) -> None:
        """Forgets everything."""
        self._entries.clear()
