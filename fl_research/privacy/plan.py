"""The privacy plan: query, sampler and accounting event of a run, made from the same numbers.

Each file of `fl_research.privacy.mechanisms` turns its `Config` and a `PlanSetting` into one
`PrivacyPlan`. The training loop takes the query and the sampler from the plan; the accounting
composes what the query emitted under that same sampler, and checks it against the event that the
plan expects, so that no epsilon can describe another run.

This module imports neither TensorFlow nor an accounting library: flags can read the mechanisms'
`Config` classes at no cost.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fl_research.argument_checks import require_choice
from fl_research.errors import InputError
from fl_research.learning.client_update_config import WEIGHTINGS

if TYPE_CHECKING:
    import dp_accounting
    import tensorflow_privacy as tfp

    from fl_research.data.client_sampling import ClientSampling

NoiseKey = tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanSetting:
    """What every mechanism needs to know of the run.

    Attributes:
      sampling: The client sampler of the run.
      noise_key: Two signed 64-bit integers that the noise is derived from. Secret: whoever knows it
        can take the noise off.
      weighting: `"uniform"` (each client counts the same) or `"examples"` (by number of examples).

    Raises:
      InputError: The key is not a pair of 64-bit integers, or the weighting is unknown.
    """

    sampling: ClientSampling
    noise_key: NoiseKey
    weighting: str = "uniform"

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise_key", checked_noise_key(self.noise_key))
        require_choice("weighting", self.weighting, WEIGHTINGS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """What is released, how often a client takes part, and what that costs.

    Attributes:
      mechanism: The name of the mechanism, which is the name of its file.
      query: Aggregates the records `OrderedDict(update, weight)` of the clients of a cohort.
      sampling: The client sampler that the accounting is for.
      neighboring_relation: Which two data sets the guarantee compares.
      sensitivity: L2 distance that one client can move the sum by, before noise, at the initial
        clip norm and under `neighboring_relation`; infinite without clipping.
      expected_release_event: The event that each release must emit, relative to the clip norm; None
        if the mechanism gives no guarantee, and emits a `NonPrivateDpEvent`.
      details: What the report prints of the mechanism: plain JSON, no infinity.
      query_with_key: Builds the same query with another noise key; None where no noise is drawn.
    """

    mechanism: str
    query: tfp.DPQuery
    sampling: ClientSampling
    neighboring_relation: dp_accounting.NeighboringRelation
    sensitivity: float
    expected_release_event: dp_accounting.DpEvent | None
    details: dict[str, Any]
    query_with_key: Callable[[NoiseKey], tfp.DPQuery] | None = None


def checked_noise_key(key: Sequence[int]) -> NoiseKey:
    """Returns the key as two Python integers.

    Args:
      key: Two integers in [-2**63, 2**63), such as `randomness.key(...)` gives.

    Raises:
      InputError: It is anything else. The message never shows the key.
    """
    try:
        words = tuple(operator.index(word) for word in key)
    except TypeError:
        words = ()
    if len(words) != 2 or not all(-(2**63) <= word < 2**63 for word in words):
        raise InputError(
            "noise_key=(not shown) is not a pair of signed 64-bit integers; make one with "
            "fl_research.randomness.key(noise_seed, purpose)"
        )
    return words[0], words[1]


def require_uniform_weighting(weighting: str, mechanism: str) -> None:
    """Raises InputError where clients are weighted, which no private mean here can bound."""
    if weighting != "uniform":
        raise InputError(
            f"weighting={weighting!r} does not go with mechanism={mechanism!r}, since the number "
            "of examples of a client is private and would scale its influence past the clip norm; "
            "use weighting='uniform', or mechanism='none'"
        )
