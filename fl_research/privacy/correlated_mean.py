"""The plan of a private mean whose noise is correlated over rounds.

The mechanisms differ in the strategy, which decides both how the noise of a release follows from
the noise before it and what all releases together cost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fl_research.privacy.clip_and_noise import ClipAndNoise
from fl_research.privacy.noised_mean import noised_mean_plan
from fl_research.privacy.plan import PlanSetting, PrivacyPlan

if TYPE_CHECKING:
    import numpy as np
    import tensorflow_privacy as tfp

    from fl_research.privacy.accounting_rules.correlated import Rule
    from fl_research.privacy.keyed_noise import NoisedPart
    from fl_research.privacy.noise_streams import NoiseStream


def correlated_mean_plan(
    mechanism: str,
    config: ClipAndNoise,
    setting: PlanSetting,
    *,
    rule: Rule,
    stream: NoiseStream,
    noise_covariance: Callable[[int], np.ndarray],
    parameters: Mapping[str, Any],
    references: Sequence[str],
    clipped_sum: tfp.DPQuery | None = None,
    parts: Sequence[NoisedPart] | None = None,
) -> PrivacyPlan:
    """Returns the plan of a mean with this noise.

    Args:
      mechanism: The name of the mechanism.
      config: Its clip and noise.
      setting: What the plan is for.
      rule: What all releases together cost.
      stream: The noise of one release after the other.
      noise_covariance: As `PrivacyPlan.noise_covariance`.
      parameters: The mechanism's further settings, for the report.
      references: Its papers, for the report.
      clipped_sum: Clips and sums the updates; a fixed clip if None.
      parts: What gets noise, where the clip is not fixed; together as much as the config says.

    Raises:
      InputError: The setting weights clients, or its sampler is none for this rule.
    """
    from fl_research.privacy.clipped_sum import ClippedSumQuery
    from fl_research.privacy.keyed_noise import NoisedPart

    rule.require_sampling(setting.sampling)
    squared_sensitivity = rule.squared_sensitivity(setting.rounds, setting.sampling)
    fixed = NoisedPart(
        tensors=lambda sample_state: sample_state,
        clip_norm=lambda state: state.numerator_state.l2_norm_clip,
        noise_multiplier=config.noise_multiplier,
        stream=stream,
    )
    return noised_mean_plan(
        mechanism,
        setting,
        rule=rule,
        clipped_sum=clipped_sum or ClippedSumQuery(l2_norm_clip=config.clip_norm),
        parts=parts or [fixed],
        clip_norm=config.clip_norm,
        noise_multiplier=config.noise_multiplier,
        parameters={
            **dataclasses.asdict(config),
            **parameters,
            "squared_sensitivity_of_all_rounds": squared_sensitivity,
        },
        references=references,
        noise_covariance=noise_covariance,
    )


def setting_of(config_class: type, parameters: Mapping[str, Any], name: str) -> Any:
    """Returns a parameter of a mechanism, or what its `Config` takes where it is not given."""
    if parameters.get(name) is not None:
        return parameters[name]
    return {field.name: field.default for field in dataclasses.fields(config_class)}[name]
