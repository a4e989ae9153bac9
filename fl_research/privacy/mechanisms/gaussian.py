"""DP-FedAvg with a fixed clip: clip each client's update, sum, add Gaussian noise, divide.

The L2 norm of each client's whole update is clipped to `clip_norm`; noise of standard deviation
`noise_multiplier * clip_norm` goes on the sum; the result is divided by the expected cohort size, a
constant, never by the number of clients who came.

McMahan et al. 2018, Learning Differentially Private Recurrent Language Models, arXiv:1710.06963.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fl_research.privacy.clip_and_noise import ClipAndNoise
from fl_research.privacy.noised_mean import noised_mean_plan
from fl_research.privacy.plan import AccountingSetting, PlanSetting, PrivacyPlan

if TYPE_CHECKING:
    from fl_research.privacy.accounting_rules.independent import Rule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ClipAndNoise):
    """Settings of the Gaussian mechanism.

    Attributes:
      clip_norm: Largest L2 norm of one client's update, above 0.
      noise_multiplier: Standard deviation of the noise on the sum divided by `clip_norm`; 0 adds no
        noise, and gives no guarantee.

    Raises:
      InputError: A value is out of range.
    """


def accounting_rule(parameters: Mapping[str, Any], setting: AccountingSetting) -> Rule:
    """Returns how the releases add up: each has noise of its own."""
    from fl_research.privacy.accounting_rules.independent import Rule

    del parameters, setting  # Nothing of a run changes that.
    return Rule()


def make_plan(config: Config, setting: PlanSetting) -> PrivacyPlan:
    """Returns the plan of a run with a fixed clip.

    Raises:
      InputError: The setting weights clients.
    """
    from fl_research.privacy.clipped_sum import ClippedSumQuery
    from fl_research.privacy.keyed_noise import NoisedPart

    update = NoisedPart(
        tensors=lambda sample_state: sample_state,
        clip_norm=lambda state: state.numerator_state.l2_norm_clip,
        noise_multiplier=config.noise_multiplier,
    )
    return noised_mean_plan(
        "gaussian",
        setting,
        rule=accounting_rule(dataclasses.asdict(config), setting),
        clipped_sum=ClippedSumQuery(l2_norm_clip=config.clip_norm),
        parts=[update],
        clip_norm=config.clip_norm,
        noise_multiplier=config.noise_multiplier,
        parameters=dataclasses.asdict(config),
        references=[
            "McMahan et al. 2018, Learning Differentially Private Recurrent Language Models, "
            "arXiv:1710.06963"
        ],
    )
