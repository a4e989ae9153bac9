"""The plan of a private mean: clip each client's update, sum, add keyed noise, divide.

The mechanisms differ in how they clip, in which sums get how much noise, and in how noise follows
from that of earlier releases; the rest is here. Query and accounting event come from the same
parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fl_research.privacy.plan import (
    NoiseKey,
    PlanSetting,
    PrivacyPlan,
    require_uniform_weighting,
)

if TYPE_CHECKING:
    import numpy as np
    import tensorflow_privacy as tfp

    from fl_research.privacy.accounting_rules.rule import AccountingRule
    from fl_research.privacy.keyed_noise import NoisedPart


def noised_mean_plan(
    mechanism: str,
    setting: PlanSetting,
    *,
    rule: AccountingRule,
    clipped_sum: tfp.DPQuery,
    parts: Sequence[NoisedPart],
    clip_norm: float,
    noise_multiplier: float,
    parameters: Mapping[str, Any],
    references: Sequence[str],
    noise_covariance: Callable[[int], np.ndarray] | None = None,
) -> PrivacyPlan:
    """Returns the plan that adds noise to the parts of a sum and divides by the expected cohort.

    Args:
      mechanism: The name of the mechanism.
      setting: What the plan is for.
      rule: How the releases add up.
      clipped_sum: Clips and sums the updates, and adds no noise.
      parts: What gets noise: the sum of updates first, then whatever else is released.
      clip_norm: The clip norm of the first round.
      noise_multiplier: Of all parts together.
      parameters: The mechanism's settings, for the report.
      references: The mechanism's papers, for the report.
      noise_covariance: As `PrivacyPlan.noise_covariance`.

    Raises:
      InputError: The setting weights clients, or its sampler is none for this rule.
    """
    import dp_accounting
    import tensorflow_privacy as tfp

    from fl_research.privacy.client_record import UpdateOnlyQuery
    from fl_research.privacy.keyed_noise import KeyedNoiseQuery, event_of

    require_uniform_weighting(setting.weighting, mechanism)
    rule.require_sampling(setting.sampling)
    relation, sensitivity_in_clips = rule.relation(setting.sampling)
    mean = tfp.NormalizedQuery(clipped_sum, denominator=setting.sampling.expected_cohort_size)
    events = [event_of(part.distribution, part.noise_multiplier) for part in parts]
    stddev_over_scale = 2**0.5 if parts[0].distribution == "laplace" else 1.0

    def query_for(noise_key: NoiseKey, update_specs: Any) -> tfp.DPQuery:
        """The query with another key than the run's, or for another model."""
        noised = KeyedNoiseQuery(mean, parts=parts, noise_key=noise_key, update_specs=update_specs)
        return UpdateOnlyQuery(noised)

    return PrivacyPlan(
        mechanism=mechanism,
        query_for=query_for,
        noise_key=setting.noise_key,
        rule=rule,
        sampling=setting.sampling,
        neighboring_relation=relation,
        sensitivity=sensitivity_in_clips * clip_norm,
        expected_release_event=(
            events[0] if len(events) == 1 else dp_accounting.ComposedDpEvent(events)
        ),
        details={
            "clip_norm": clip_norm,
            "noise_multiplier": noise_multiplier,
            "noise_stddev_of_sum": stddev_over_scale * parts[0].noise_multiplier * clip_norm,
            "parameters": dict(parameters),
            "references": list(references),
        },
        noise_covariance=noise_covariance,
    )
