"""The one-shot audit of a training run: who the canaries are, when they take part, what they show.

Before the run: `plan_canaries` draws, from the seed of the run's cohorts, a key for the canaries'
directions and the rounds in which each takes part. A canary takes part as one more client under the
run's sampler would: each round with the sampler's rate, on its own draw, or in the turns of its
group where participations keep a distance. After the run: `audit_release` takes the final model
minus the initial one, and estimates epsilon from the canaries' cosines with it (`one_shot`).

The lower bound holds for whoever sees the final model. If it lies above the claimed epsilon, then
noise or accounting is broken, but for the probability that the bound itself is wrong.

Andrew et al. 2023, One-shot Empirical Privacy Estimation for Federated Learning (arXiv:2302.03098).
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fl_research import randomness
from fl_research.argument_checks import require_at_least
from fl_research.audit.one_shot import cosines, one_shot_estimate
from fl_research.data.client_sampling import (
    ClientSampling,
    FixedSizeSampling,
    FullParticipation,
    MinSeparationSampling,
    PoissonSampling,
)
from fl_research.errors import InputError
from fl_research.privacy.plan import NoiseKey, PrivacyPlan, checked_noise_key

CONFIDENCE = 0.95
DELTA_WITHOUT_CLAIM = 1e-5
"""The delta of the estimate where a run has none."""

_PURPOSE = "audit_canaries"
# Canaries hide each other by so much of the mechanism's own noise, in variance.
_CROWDED = 0.1


class AuditFailedError(InputError):
    """The lower bound of epsilon from a run's canaries lies above the claimed epsilon."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Canaries:
    """The canaries of a run.

    Attributes:
      key: Two signed 64-bit integers that the directions are drawn from. Secret: whoever knows it
        can take the canaries off.
      participations: bool[rounds, canaries], whether a canary takes part in a round.
      clipped: Whether the run's query clips; else a canary's update has length 1.

    Raises:
      InputError: The key is no such pair, or there is no round or no canary.
    """

    key: NoiseKey = dataclasses.field(repr=False)
    participations: np.ndarray = dataclasses.field(repr=False)
    clipped: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", checked_noise_key(self.key))
        shape = np.shape(self.participations)
        if len(shape) != 2 or 0 in shape:
            raise InputError(
                f"participations has shape {list(shape)}; give a row a round and a column a canary"
            )

    @property
    def number(self) -> int:
        """How many canaries there are."""
        return int(self.participations.shape[1])


def require_canaries(canaries: int) -> None:
    """Raises InputError unless a run can be asked for so many canaries; 0 is none."""
    require_at_least("audit_canaries", canaries, 0)
    if canaries == 1:
        raise InputError(
            "audit_canaries=1 has no spread to estimate epsilon from; give 2 or more, such as 100"
        )


def plan_canaries(plan: PrivacyPlan, *, canaries: int, rounds: int, seed: int) -> Canaries:
    """Draws the key of the directions, and who takes part when.

    Args:
      plan: The plan of the run, of which the sampler and whether it clips count.
      canaries: How many, 1 or more.
      rounds: Rounds planned, 1 or more.
      seed: The seed that the run's cohorts are drawn from.

    Raises:
      InputError: A number is out of its range, or canaries say nothing of this plan's epsilon.
    """
    require_at_least("audit_canaries", canaries, 1)
    require_at_least("rounds", rounds, 1)
    _require_auditable(plan, canaries)
    own = sampling_of_canaries(plan.sampling, canaries)
    words = randomness.key(seed, _PURPOSE)
    own_seed = int(randomness.generator(seed, f"{_PURPOSE}_cohorts").integers(2**62))
    participations = np.zeros((rounds, canaries), bool)
    for row in range(rounds):
        participations[row, own.cohort(own_seed, row + 1)] = True
    return Canaries(
        key=(int(words[0]), int(words[1])),
        participations=participations,
        clipped=plan.details["clip_norm"] is not None,
    )


def sampling_of_canaries(sampling: ClientSampling, canaries: int) -> ClientSampling:
    """Returns the sampler of the canaries: each is drawn as often as a client of the run.

    Under fixed-size sampling a client is in each cohort with the probability cohort / population,
    independently over the rounds; so is a canary, but independently of the other canaries.

    Args:
      sampling: The run's sampler.
      canaries: How many.

    Raises:
      InputError: The sampler is of no known kind, or there are more groups than canaries.
    """
    if isinstance(sampling, FullParticipation):
        return FullParticipation(population=canaries)
    if isinstance(sampling, MinSeparationSampling):
        return dataclasses.replace(sampling, population=canaries)
    if isinstance(sampling, PoissonSampling | FixedSizeSampling):
        rate = sampling.expected_cohort_size / sampling.population
        return PoissonSampling(population=canaries, sampling_rate=rate)
    raise InputError(f"sampling={sampling.name!r} is no sampler that canaries can follow")


def crowding_warning(
    canaries: int, *, dimension: int, noise_multiplier: float | None
) -> str | None:
    """Returns what is wrong with so many canaries for a model of this size; None if nothing is.

    Args:
      canaries: How many.
      dimension: Trainable numbers of the model.
      noise_multiplier: Of the noise on a sum; None or 0 without noise.
    """
    if not noise_multiplier:
        return None
    room = dimension * noise_multiplier**2
    if canaries - 1 <= _CROWDED * room:
        return None
    return (
        f"--audit_canaries={canaries} is not small against the model's {dimension:,} numbers times "
        f"the squared noise multiplier ({room:.4g}): canaries hide each other, and the audit will "
        "come out too low"
    )


def audit_release(
    released: Sequence[np.ndarray],
    directions: Iterable[np.ndarray],
    *,
    participations: np.ndarray,
    delta: float | None,
    claimed_epsilon: float,
) -> dict[str, Any]:
    """Returns the audit of a finished run, as evaluation.json holds it.

    Args:
      released: Final minus initial trainable weights, in the order of the canaries' coordinates.
      directions: Unit directions of all canaries, float32[some, dimension] at a time.
      participations: bool[rounds that ran, canaries].
      delta: Of the claim; None without a claim.
      claimed_epsilon: Infinite without a claim.

    Raises:
      InputError: Nothing was released, or it is not finite.
    """
    vector = np.concatenate([np.ravel(np.asarray(part, np.float64)) for part in released])
    found = cosines(vector, directions)
    delta = DELTA_WITHOUT_CLAIM if delta is None else delta
    estimate = one_shot_estimate(found, dimension=len(vector), delta=delta, confidence=CONFIDENCE)
    each = participations.sum(axis=0)
    return {
        "canaries": estimate.canaries,
        "dimension": estimate.dimension,
        "statistic": "final model",
        "directions": estimate.directions,
        "participations": {
            "mean": float(each.mean()),
            "least": int(each.min()),
            "most": int(each.max()),
        },
        "delta": delta,
        "claimed_epsilon": claimed_epsilon if math.isfinite(claimed_epsilon) else None,
        "epsilon_estimate": estimate.epsilon,
        "epsilon_lower": estimate.epsilon_lower,
        "epsilon_lower_if_normal": estimate.epsilon_lower_if_normal,
        "confidence": estimate.confidence,
        "bounded_by": estimate.bounded_by,
        "cosines": {"mean": estimate.mean, "std": estimate.std, "null_std": estimate.null_std},
        "exceeds_claim": estimate.epsilon_lower > claimed_epsilon,
    }


def require_within_claim(evaluation: Mapping[str, Any]) -> None:
    """Raises AuditFailedError if the canaries refute the claimed epsilon.

    Args:
      evaluation: evaluation.json.
    """
    audit = evaluation.get("audit")
    if not audit or not audit["exceeds_claim"]:
        return
    raise AuditFailedError(
        f"the privacy audit refutes this run's claim: its {audit['canaries']} canaries show an "
        f"epsilon of at least {audit['epsilon_lower']:.4g} at delta={audit['delta']:g} "
        f"(confidence {audit['confidence']:.0%}), but {audit['claimed_epsilon']:.4g} is claimed. "
        "The noise or the accounting of this run is broken: do not rely on its epsilon. (By chance "
        "alone this happens to at most 1 right run in "
        f"{1 / (1 - audit['confidence']):.0f}: repeat it under another --run_name.)"
    )


def _require_auditable(plan: PrivacyPlan, canaries: int) -> None:
    """Raises InputError, with the reason, where canaries say nothing of the plan's epsilon."""
    if plan.rule.unit == "record":
        raise InputError(
            f"audit_canaries={canaries} does not go with mechanism={plan.mechanism!r}: its epsilon "
            "is for one record of a client, and a canary client whose whole update is random would "
            "be bounded by nothing; leave it out or take another mechanism"
        )
    sampling = plan.sampling
    if isinstance(sampling, MinSeparationSampling) and canaries < sampling.min_separation:
        raise InputError(
            f"audit_canaries={canaries} leaves some of the min_separation="
            f"{sampling.min_separation} groups without a canary; give at least as many"
        )
