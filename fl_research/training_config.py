"""How long a run trains, when it is evaluated, and what it may spend; without TensorFlow."""

import dataclasses

from fl_research.argument_checks import require_at_least
from fl_research.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long to train, and when to look.

    Attributes:
      rounds: Rounds planned, at least 1.
      seed: Seed of cohorts and of local shuffling, the run's cohort seed.
      num_blocks: Blocks that a cohort is cut into; the same number in every round.
      evaluate_every: Rounds between evaluations, at least 1; the last round is evaluated too.
      early_finish_patience: Finish after so many evaluations without a better primary metric;
        0 never finishes early.
      primary_metric: The metric that early finish watches; higher is better.
      target_epsilon: The budget of the gate, or None.
      delta: In (0, 1); None only without a private mechanism.

    Raises:
      InputError: A number is out of its range.
    """

    rounds: int
    seed: int
    num_blocks: int
    evaluate_every: int
    early_finish_patience: int
    target_epsilon: float | None = None
    delta: float | None = None
    primary_metric: str = "auc"

    def __post_init__(self) -> None:
        for name, lowest in (
            ("rounds", 1),
            ("num_blocks", 1),
            ("evaluate_every", 1),
            ("early_finish_patience", 0),
            ("seed", 0),
        ):
            require_at_least(name, getattr(self, name), lowest)
        if self.delta is not None and not 0 < self.delta < 1:
            raise InputError(
                f"delta={self.delta!r} does not lie between 0 and 1, both excluded; take one well "
                "below 1 / number of clients, such as 1e-5"
            )
