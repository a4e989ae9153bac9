"""Laplace noise: pure epsilon, for small models and counts.

The L1 norm of each client's whole update is clipped to `clip_norm`, and each number of the sum gets
Laplace noise of scale `noise_multiplier * clip_norm`. A release is then (1 / noise_multiplier)-DP
with a delta of zero. The L1 norm of a model of d numbers can be sqrt(d) times its L2 norm, which is
why this is for small ones.

Dwork, McSherry, Nissim, Smith 2006, Calibrating Noise to Sensitivity in Private Data Analysis.
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
    """Settings of the Laplace mechanism.

    Attributes:
      clip_norm: Largest L1 norm of one client's update, above 0.
      noise_multiplier: Scale of the noise on the sum divided by `clip_norm`; 0 adds no noise, and
        gives no guarantee.

    Raises:
      InputError: A value is out of range.
    """


def accounting_rule(parameters: Mapping[str, Any], setting: AccountingSetting) -> Rule:
    """Returns how the releases add up: independently, as Laplace events."""
    from fl_research.privacy.accounting_rules.independent import Rule

    del parameters, setting  # The noise says it all.
    return Rule(noise="laplace")


def make_plan(config: Config, setting: PlanSetting) -> PrivacyPlan:
    """Returns the plan of a run with Laplace noise.

    Raises:
      InputError: The setting weights clients.
    """
    from fl_research.privacy.clipped_sum import L1ClippedSumQuery
    from fl_research.privacy.keyed_noise import NoisedPart

    update = NoisedPart(
        tensors=lambda sample_state: sample_state,
        clip_norm=lambda state: state.numerator_state,
        noise_multiplier=config.noise_multiplier,
        distribution="laplace",
    )
    return noised_mean_plan(
        "laplace",
        setting,
        rule=accounting_rule(dataclasses.asdict(config), setting),
        clipped_sum=L1ClippedSumQuery(l1_norm_clip=config.clip_norm),
        parts=[update],
        clip_norm=config.clip_norm,
        noise_multiplier=config.noise_multiplier,
        parameters=dataclasses.asdict(config) | {"norm_of_clip": "L1"},
        references=[
            "Dwork, McSherry, Nissim and Smith 2006, Calibrating Noise to Sensitivity in Private "
            "Data Analysis, TCC"
        ],
    )
