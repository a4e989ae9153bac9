"""A progress that shows nothing."""

from collections.abc import Iterator, Mapping
from typing import Any


class SilentProgress:
    """Takes what a run tells and shows nothing."""

    def round_done(self, row: Mapping[str, Any]) -> None:
        """Takes the row."""

    def steps(self, label: str, total: int) -> Iterator[int]:
        """Yields 1 to `total`."""
        del label
        yield from range(1, total + 1)

    def note(self, message: str) -> None:
        """Takes the line."""
