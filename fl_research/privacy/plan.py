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
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fl_research.argument_checks import require_at_least, require_choice
from fl_research.errors import InputError
from fl_research.learning.client_update_config import WEIGHTINGS, ClientUpdateConfig

if TYPE_CHECKING:
    import dp_accounting
    import numpy as np
    import tensorflow_privacy as tfp

    from fl_research.data.client_sampling import ClientSampling
    from fl_research.learning.example_privacy import ExamplePrivacy
    from fl_research.privacy.accounting_rules.rule import AccountingRule

NoiseKey = tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AccountingSetting:
    """What the accounting of every mechanism needs to know of the run.

    Attributes:
      sampling: The client sampler of the run.
      rounds: Rounds planned, at least 1; noise that is correlated over rounds is made for them.
      client_update: How a client trains; None where it is not known yet.
      clients_by_rows: How many training clients have so many rows; empty where not known yet.

    Raises:
      InputError: There is no round.
    """

    sampling: ClientSampling
    rounds: int = 1
    client_update: ClientUpdateConfig | None = None
    clients_by_rows: Mapping[int, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        require_at_least("rounds", self.rounds, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanSetting(AccountingSetting):
    """What every mechanism needs to know of the run.

    Attributes:
      noise_key: Two signed 64-bit integers that the noise is derived from. Secret: whoever knows it
        can take the noise off.
      weighting: `"uniform"` (each client counts the same) or `"examples"` (by number of examples).

    Raises:
      InputError: The key is not a pair of 64-bit integers, or the weighting is unknown.
    """

    noise_key: NoiseKey = dataclasses.field(repr=False)
    weighting: str = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "noise_key", checked_noise_key(self.noise_key))
        require_choice("weighting", self.weighting, WEIGHTINGS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """What is released, how often a client takes part, and what that costs.

    Attributes:
      mechanism: The name of the mechanism, which is the name of its file.
      query_for: Builds the query that aggregates the records of a cohort, for a noise key and
        updates of given tensor specs; see `learning.aggregation.record_template` for a record.
      noise_key: The run's.
      rule: How the releases add up.
      sampling: The client sampler that the accounting is for.
      neighboring_relation: Which two data sets the guarantee compares.
      sensitivity: L2 distance that one client can move the sum of one release by (L1 under Laplace
        noise), before noise, at the initial clip norm; infinite without clipping.
      expected_release_event: The event that each release must emit, relative to the clip norm; None
        if the mechanism gives no guarantee, and emits a `NonPrivateDpEvent`.
      details: What the report prints of the mechanism: plain JSON, no infinity.
      noise_covariance: For a number of rounds, how the noise at the server is correlated over them:
        float64[rounds, rounds], in squares of the fresh noise's standard deviation; None where the
        noise of each release is its own.
      noise_at: Who draws the noise: "server", "clients" for their updates, "examples" for the
        steps of their training; None for nobody.
      example_privacy: DP-SGD's settings for the clients' training, where noise is at "examples".
    """

    mechanism: str
    query_for: Callable[[NoiseKey, Any], tfp.DPQuery]
    noise_key: NoiseKey = dataclasses.field(repr=False)
    rule: AccountingRule
    sampling: ClientSampling
    neighboring_relation: dp_accounting.NeighboringRelation
    sensitivity: float
    expected_release_event: dp_accounting.DpEvent | None
    details: dict[str, Any]
    noise_covariance: Callable[[int], np.ndarray] | None = None
    noise_at: str | None = "server"
    example_privacy: ExamplePrivacy | None = None

    def query(self, update_specs: Any) -> tfp.DPQuery:
        """Returns the query of the run, for updates of these tensor specs."""
        return self.query_for(self.noise_key, update_specs)


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
