"""The settings of a client's local training; without TensorFlow, so that flags can check them."""

import dataclasses

from fl_research.errors import InputError

_WEIGHTINGS = ("uniform", "examples")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientUpdateConfig:
    """How a client trains.

    Attributes:
      local_epochs: Passes over the client's rows, at least 1.
      local_steps: At most this many batches a client in all, at least 1; None: no cap.
      batch_size: Rows a batch, at least 1; the last batch of an epoch may be smaller.
      shuffle: Whether each epoch visits the rows in an order drawn from the client's seed.
      weighting: Weight of a client in the mean: "uniform" (1) or "examples" (the number of
        examples that it trained on, repeats counted).
    """

    local_epochs: int = 1
    local_steps: int | None = None
    batch_size: int = 32
    shuffle: bool = True
    weighting: str = "uniform"

    def __post_init__(self) -> None:
        """Checks every setting; a configuration that exists is valid."""
        for name in ("local_epochs", "batch_size", "local_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}: {value!r} must be 1 or more")
        if self.weighting not in _WEIGHTINGS:
            raise InputError(
                f"weighting: {self.weighting!r} is unknown; choose one of {', '.join(_WEIGHTINGS)}"
            )
