"""What one round let out: the record that the accounting reads.

A release is made by every call of a round, also of a round that is repeated after an interruption.
Its event is the one that the computation itself emitted, so that epsilon describes what ran.
"""

import dataclasses

import dp_accounting


@dataclasses.dataclass(frozen=True)
class Release:
    """One noised sum that left the aggregator.

    Attributes:
      round_number: The round, counted from 1.
      event: The event as emitted, relative to the clip norm and before any sampling: a Gaussian
        whose noise multiplier is the noise's standard deviation on the sum divided by the clip
        norm, several of them composed, or a non-private event.
    """

    round_number: int
    event: dp_accounting.DpEvent
