"""The settings of a client's local training; without TensorFlow, so that flags can check them."""

import dataclasses

from fl_research.argument_checks import require_at_least, require_choice

WEIGHTINGS = ("uniform", "examples")
EXECUTIONS = ("auto", "loop", "stacked")


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
      execution: How the clients of a block are trained: one after the other ("loop"), many at once
        ("stacked"), or what suits the model ("auto"). The result is the same up to the order of
        floating-point sums.

    Raises:
      InputError: A value is out of its range.
    """

    local_epochs: int = 1
    local_steps: int | None = None
    batch_size: int = 32
    shuffle: bool = True
    weighting: str = "uniform"
    execution: str = "auto"

    def __post_init__(self) -> None:
        require_at_least("local_epochs", self.local_epochs, 1)
        require_at_least("batch_size", self.batch_size, 1)
        if self.local_steps is not None:
            require_at_least("local_steps", self.local_steps, 1)
        require_choice("weighting", self.weighting, WEIGHTINGS)
        require_choice("execution", self.execution, EXECUTIONS)


def steps_and_rate(config: ClientUpdateConfig, rows: int) -> tuple[int, float]:
    """Returns what DP-SGD on one client does in one round, for the accounting.

    Args:
      config: The settings of the local training.
      rows: The client's rows, 0 or more.

    Returns:
      The number of steps, and the rate at which each step takes each row on its own; 0 and 0.0 for
      a client without rows.

    Raises:
      InputError: `rows` is no whole number, or is negative.
    """
    require_at_least("rows", rows, 0)
    if rows == 0:
        return 0, 0.0
    steps = -(-rows // config.batch_size) * config.local_epochs
    if config.local_steps is not None:
        steps = min(steps, config.local_steps)
    return int(steps), float(min(config.batch_size, rows) / rows)
