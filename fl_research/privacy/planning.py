"""Answers about a run that has not happened: what it would cost, need or leave.

Noise and rounds give epsilon; rounds and a target give the noise; noise and a target give the
rounds that fit, and with rounds too what is left after them.
"""

import dataclasses
import math
from typing import Any

import dp_accounting

from fl_research.data.client_sampling import ClientSampling
from fl_research.errors import InputError
from fl_research.privacy import accounting
from fl_research.privacy.accountants import check_delta
from fl_research.privacy.calibration import max_releases
from fl_research.run.record_files import plain_json

MOST_ROUNDS = 1_000_000
"""Rounds that fit are counted up to here."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """Settings of a run, of which one may be asked for.

    Attributes:
      sampling: The sampler of all cohorts.
      delta: In (0, 1).
      rounds: Releases, at least 1; None asks how many fit.
      noise_multiplier: At least 0; None asks for the noise.
      target_epsilon: The epsilon not to pass, above 0; None: there is no target.

    Raises:
      InputError: If a value is out of range, or too little is given.
    """

    sampling: ClientSampling
    delta: float
    rounds: int | None
    noise_multiplier: float | None
    target_epsilon: float | None

    def __post_init__(self) -> None:
        check_delta(self.delta)
        noise = self.noise_multiplier
        if noise is None and self.target_epsilon is None:
            raise InputError("nothing is asked; give noise_multiplier or target_epsilon, or both")
        if noise is not None and not (math.isfinite(noise) and noise >= 0):
            raise InputError(f"noise_multiplier={noise} is no amount of noise; give 0 or more")
        if self.rounds is None and (noise is None or self.target_epsilon is None):
            raise InputError("rounds is not given; give it, 1 or more")
        if self.rounds is not None and self.rounds < 1:
            raise InputError(f"rounds={self.rounds} releases nothing; give 1 or more")


def answer_to(question: Question) -> dict[str, Any]:
    """Returns the answer as plain JSON.

    Null stands for an infinite epsilon and for an accountant that does not apply. Where rounds were
    asked for, epsilon is that of all rounds that fit.

    Raises:
      InputError: If no noise meets the target; the message says what is possible.
    """
    sampling, delta, target = question.sampling, question.delta, question.target_epsilon
    noise, fitting = question.noise_multiplier, None
    if noise is None:
        assert target is not None and question.rounds is not None, "checked when it was made"
        noise = accounting.calibrate_noise_multiplier(
            target_epsilon=target, delta=delta, sampling=sampling, rounds=question.rounds
        )
    elif target is not None:
        fitting = max_releases(
            noise_multiplier=noise,
            target_epsilon=target,
            delta=delta,
            sampling=sampling,
            limit=MOST_ROUNDS,
        )
    rounds = fitting if question.rounds is None else question.rounds
    assert rounds is not None, "checked when it was made"
    relation, sensitivity_in_clips = accounting.relation_for(sampling)
    event = accounting.repeated_event(dp_accounting.GaussianDpEvent(noise), rounds, sampling)
    epsilons = accounting.epsilon_by_accountant(event, delta, relation)
    claim = accounting.claimed_epsilon(epsilons)
    unsampled = accounting.epsilon_without_amplification(event, delta, relation)
    return plain_json(
        {
            "epsilon": epsilons,
            "noise_multiplier": noise,
            "neighboring_relation": accounting.relation_name(relation),
            "sensitivity_in_clips": sensitivity_in_clips,
            "epsilon_without_amplification": unsampled,
            "claim": dataclasses.asdict(claim),
            "delta": delta,
            "target_epsilon": target,
            "sampling": sampling.name,
            "rounds": rounds,
            "rounds_within_target": fitting,
            "rounds_left": None if fitting is None else max(0, fitting - (question.rounds or 0)),
        }
    )
