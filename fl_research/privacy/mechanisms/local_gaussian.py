"""Local DP: each client clips its update and adds Gaussian noise to it before it leaves.

The server is not trusted with any client's update. The price is noise from every client, where a
trusted server adds it once: for a cohort of n clients the noise of the mean is sqrt(n) times as
large.

Duchi, Jordan, Wainwright 2013, Local Privacy and Statistical Minimax Rates, arXiv:1302.3203.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fl_research.privacy.clip_and_noise import ClipAndNoise
from fl_research.privacy.plan import (
    AccountingSetting,
    NoiseKey,
    PlanSetting,
    PrivacyPlan,
    require_uniform_weighting,
)

if TYPE_CHECKING:
    import tensorflow_privacy as tfp

    from fl_research.privacy.accounting_rules.local import Rule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ClipAndNoise):
    """Settings of the local Gaussian mechanism.

    Attributes:
      clip_norm: Largest L2 norm of one client's update, above 0.
      noise_multiplier: Standard deviation of the noise on each client's update divided by
        `clip_norm`; 0 adds no noise, and gives no guarantee.

    Raises:
      InputError: A value is out of range.
    """


def accounting_rule(parameters: Mapping[str, Any], setting: AccountingSetting) -> Rule:
    """Returns how the releases add up: a Gaussian for each round that a client can be in."""
    from fl_research.privacy.accounting_rules.local import Rule

    del parameters, setting  # The sampler says it all.
    return Rule()


def make_plan(config: Config, setting: PlanSetting) -> PrivacyPlan:
    """Returns the plan of a run with noise at the clients.

    Raises:
      InputError: The setting weights clients.
    """
    import dp_accounting

    from fl_research.privacy.local_noise import LocalNoiseQuery

    require_uniform_weighting(setting.weighting, "local_gaussian")
    rule = accounting_rule(dataclasses.asdict(config), setting)
    relation, sensitivity_in_clips = rule.relation(setting.sampling)

    def query_for(noise_key: NoiseKey, update_specs: Any) -> tfp.DPQuery:
        """The query with another key than the run's, or for another model."""
        del update_specs  # Nothing is kept from one release to the next.
        return LocalNoiseQuery(
            clip_norm=config.clip_norm,
            noise_multiplier=config.noise_multiplier,
            expected_cohort_size=setting.sampling.expected_cohort_size,
            noise_key=noise_key,
        )

    return PrivacyPlan(
        mechanism="local_gaussian",
        query_for=query_for,
        noise_key=setting.noise_key,
        rule=rule,
        sampling=setting.sampling,
        neighboring_relation=relation,
        sensitivity=sensitivity_in_clips * config.clip_norm,
        expected_release_event=dp_accounting.GaussianDpEvent(config.noise_multiplier),
        details={
            "clip_norm": config.clip_norm,
            "noise_multiplier": config.noise_multiplier,
            "noise_stddev_of_sum": config.noise_multiplier * config.clip_norm,
            "parameters": dataclasses.asdict(config),
            "references": [
                "Duchi, Jordan and Wainwright 2013, Local Privacy and Statistical Minimax Rates, "
                "arXiv:1302.3203"
            ],
        },
        noise_at="clients",
    )
