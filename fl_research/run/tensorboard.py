"""TensorBoard events of a run: each figure of a metrics row as a scalar over rounds."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import tensorflow as tf

_NOT_SCALARS = ("round", "attempt")


class TensorBoardWriter:
    """A listener of the training loop that writes TensorBoard events; also a context manager.

    Args:
      folder: Where the event files go.
    """

    def __init__(self, folder: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(folder))

    def __enter__(self) -> "TensorBoardWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()

    def round_done(self, row: Mapping[str, Any]) -> None:
        """Writes the figures of one finished round."""
        with self._writer.as_default(step=row["round"]):
            for name, value in row.items():
                if value is not None and name not in _NOT_SCALARS:
                    tf.summary.scalar(name.replace("validation_", "validation/"), value)

    def note(self, message: str) -> None:
        """TensorBoard takes no notes."""
