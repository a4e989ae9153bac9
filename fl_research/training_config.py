"""How long a run trains, when it is evaluated, and what it may spend; without TensorFlow.

Where the user does not say how often to evaluate, every tenth round is evaluated, less often where
evaluations would take more than a tenth of the training time. What is built once for all of them is
no part of their time, since the last round's evaluation needs it in any case. The times are those
of the rows of metrics.csv, so that a resumed run goes on as the uninterrupted one would. Which
rounds are evaluated then depends on the machine, the model never does: where evaluations decide
when training ends, they come every tenth round whatever they take.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from fl_research.argument_checks import require_at_least
from fl_research.errors import InputError

EVALUATION_SECONDS = "evaluation_seconds"
"""Column of metrics.csv: how long a row's validation metrics and epsilon took."""

_EVALUATE_EVERY = 10
_LARGEST_SHARE = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long to train, and when to look.

    Attributes:
      rounds: Rounds planned, at least 1.
      seed: Seed of cohorts and of local shuffling, the run's cohort seed.
      num_blocks: Blocks that a cohort is cut into; the same number in every round.
      evaluate_every: Rounds between evaluations, at least 1; the last round is evaluated too.
        None: as often as a tenth of the training time allows.
      early_finish_patience: Finish after so many evaluations without a better primary metric;
        0 never finishes early.
      primary_metric: The metric that early finish watches, a name of `metric_table`.
      target_epsilon: The budget of the gate, or None.
      delta: In (0, 1); None only without a private mechanism.

    Raises:
      InputError: A number is out of its range.
    """

    rounds: int
    seed: int
    num_blocks: int
    evaluate_every: int | None
    early_finish_patience: int
    target_epsilon: float | None = None
    delta: float | None = None
    primary_metric: str = "auc"

    def __post_init__(self) -> None:
        for name, lowest in (
            ("rounds", 1),
            ("num_blocks", 1),
            ("early_finish_patience", 0),
            ("seed", 0),
        ):
            require_at_least(name, getattr(self, name), lowest)
        if self.evaluate_every is not None:
            require_at_least("evaluate_every", self.evaluate_every, 1)
        if self.delta is not None and not 0 < self.delta < 1:
            raise InputError(
                f"delta={self.delta!r} does not lie between 0 and 1, both excluded; take one well "
                "below 1 / number of clients, such as 1e-5"
            )

    @property
    def evaluation_schedule(self) -> str:
        """When rounds are evaluated, in words."""
        every = f"every {self.evaluate_every or _EVALUATE_EVERY} rounds"
        if self._is_fixed:
            return every
        return f"{every}, less often where that would take more than a tenth of the training time"

    def is_evaluation_due(
        self, row: Mapping[str, Any], rows_before: Sequence[Mapping[str, Any]]
    ) -> bool:
        """Returns whether a round should be evaluated.

        Args:
          row: The round's row of metrics.csv, with `round` and `seconds`.
          rows_before: The rows of the rounds before it.
        """
        if row["round"] == self.rounds:
            return True
        if row["round"] % (self.evaluate_every or _EVALUATE_EVERY):
            return False
        evaluations = [r[EVALUATION_SECONDS] for r in rows_before if r.get(EVALUATION_SECONDS)]
        if self._is_fixed or not evaluations:
            return True
        # What was spent, this evaluation, and the last round's.
        expected = sum(evaluations) + 2 * evaluations[-1]
        return expected <= _LARGEST_SHARE * sum(r["seconds"] for r in (*rows_before, row))

    @property
    def _is_fixed(self) -> bool:
        """Whether evaluations come at fixed rounds, whatever they take."""
        return self.evaluate_every is not None or self.early_finish_patience > 0
