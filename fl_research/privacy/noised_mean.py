"""The plan of a private mean: clip each client's update, sum, add keyed noise, divide.

The mechanisms differ in how they clip and in which sums get how much noise; the rest is here. Query
and accounting event come from the same parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fl_research.privacy.plan import (
    NoiseKey,
    PlanSetting,
    PrivacyPlan,
    require_uniform_weighting,
)

if TYPE_CHECKING:
    import tensorflow_privacy as tfp

    from fl_research.privacy.keyed_noise import NoisedPart


def noised_mean_plan(
    mechanism: str,
    setting: PlanSetting,
    *,
    clipped_sum: tfp.DPQuery,
    parts: Sequence[NoisedPart],
    clip_norm: float,
    noise_multiplier: float,
    parameters: Mapping[str, Any],
    references: Sequence[str],
) -> PrivacyPlan:
    """Returns the plan that adds noise to the parts of a sum and divides by the expected cohort.

    Args:
      mechanism: The name of the mechanism.
      setting: What the plan is for.
      clipped_sum: Clips and sums the updates, and adds no noise.
      parts: What gets noise: the sum of updates first, then whatever else is released.
      clip_norm: The clip norm of the first round.
      noise_multiplier: Of all parts together.
      parameters: The mechanism's settings, for the report.
      references: The mechanism's papers, for the report.

    Raises:
      InputError: The setting weights clients.
    """
    import dp_accounting
    import tensorflow_privacy as tfp

    from fl_research.privacy import accounting
    from fl_research.privacy.client_record import UpdateOnlyQuery
    from fl_research.privacy.keyed_noise import KeyedGaussianNoiseQuery

    require_uniform_weighting(setting.weighting, mechanism)
    relation, sensitivity_in_clips = accounting.relation_for(setting.sampling)
    mean = tfp.NormalizedQuery(clipped_sum, denominator=setting.sampling.expected_cohort_size)
    events = [dp_accounting.GaussianDpEvent(part.noise_multiplier) for part in parts]

    def query_with_key(noise_key: NoiseKey) -> tfp.DPQuery:
        return UpdateOnlyQuery(KeyedGaussianNoiseQuery(mean, parts=parts, noise_key=noise_key))

    return PrivacyPlan(
        mechanism=mechanism,
        query=query_with_key(setting.noise_key),
        query_with_key=query_with_key,
        sampling=setting.sampling,
        neighboring_relation=relation,
        sensitivity=sensitivity_in_clips * clip_norm,
        expected_release_event=(
            events[0] if len(events) == 1 else dp_accounting.ComposedDpEvent(events)
        ),
        details={
            "clip_norm": clip_norm,
            "noise_multiplier": noise_multiplier,
            "noise_stddev_of_sum": parts[0].noise_multiplier * clip_norm,
            "parameters": dict(parameters),
            "references": list(references),
        },
    )
