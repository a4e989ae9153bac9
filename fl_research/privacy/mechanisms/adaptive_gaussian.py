"""DP-FedAvg with a clip norm that follows a quantile of the clients' norms.

Each client's update is clipped to the live clip norm C, and with it goes one more number: +1/2 if
its norm was at most C, -1/2 if it was clipped. Both sums get noise. The noised count gives the
fraction b of updates within C, and C becomes C * exp(-learning_rate * (b - target_quantile)).

The two noises share one budget. With a total noise multiplier z and a standard deviation s on the
count, whose sensitivity is 1/2 (so that its own multiplier is 2s), the update gets the multiplier
(z**-2 - (2s)**-2) ** (-1/2): together they cost exactly what one Gaussian with multiplier z costs.

Andrew et al. 2021, Differentially Private Learning with Adaptive Clipping, arXiv:1905.03871.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fl_research.argument_checks import require_not_negative, require_positive
from fl_research.privacy.noise_split import (
    NoiseSplit,
    check_count_stddev,
    check_quantile,
    split_noise,
)
from fl_research.privacy.noised_mean import noised_mean_plan
from fl_research.privacy.plan import AccountingSetting, PlanSetting, PrivacyPlan

if TYPE_CHECKING:
    import tensorflow_privacy as tfp

    from fl_research.privacy.accounting_rules.independent import Rule
    from fl_research.privacy.keyed_noise import NoisedPart


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the Gaussian mechanism with adaptive clipping.

    Attributes:
      clip_norm: The clip norm of the first round, above 0.
      noise_multiplier: The total, for update and count together, relative to the live clip norm; 0
        adds no noise to either, and gives no guarantee.
      target_quantile: The fraction of updates that should not be clipped, between 0 and 1.
      clip_learning_rate: How fast the clip norm moves, 0 or more; it changes by at most the factor
        exp(clip_learning_rate) a round.
      clipped_count_stddev: Standard deviation of the noise on the count, in clients; None is a
        twentieth of the expected cohort size. Must be above half of `noise_multiplier`.

    Raises:
      InputError: A value is out of range.
    """

    clip_norm: float
    noise_multiplier: float
    target_quantile: float = 0.5
    clip_learning_rate: float = 0.2
    clipped_count_stddev: float | None = None

    def __post_init__(self) -> None:
        require_positive("clip_norm", self.clip_norm)
        require_not_negative("noise_multiplier", self.noise_multiplier)
        require_not_negative("clip_learning_rate", self.clip_learning_rate)
        check_quantile(self.target_quantile)
        check_count_stddev(self.clipped_count_stddev, self.noise_multiplier)


def accounting_rule(parameters: Mapping[str, Any], setting: AccountingSetting) -> Rule:
    """Returns how the releases add up: each has noise of its own, on update and count."""
    from fl_research.privacy.accounting_rules.independent import Rule

    del parameters, setting  # Nothing of a run changes that.
    return Rule()


def make_plan(config: Config, setting: PlanSetting) -> PrivacyPlan:
    """Returns the plan of a run with adaptive clipping.

    Raises:
      InputError: The setting weights clients, or has too few of them for the noise multiplier.
    """
    expected_cohort_size = setting.sampling.expected_cohort_size
    split = split_noise(config.noise_multiplier, config.clipped_count_stddev, expected_cohort_size)
    return noised_mean_plan(
        "adaptive_gaussian",
        setting,
        rule=accounting_rule(dataclasses.asdict(config), setting),
        clipped_sum=_clipped_sum(config, expected_cohort_size),
        parts=_noised_parts(split),
        clip_norm=config.clip_norm,
        noise_multiplier=config.noise_multiplier,
        parameters={**dataclasses.asdict(config), **dataclasses.asdict(split)},
        references=[
            "Andrew et al. 2021, Differentially Private Learning with Adaptive Clipping, "
            "arXiv:1905.03871",
            "McMahan et al. 2018, Learning Differentially Private Recurrent Language Models, "
            "arXiv:1710.06963",
        ],
    )


def _clipped_sum(config: Config, expected_cohort_size: float) -> tfp.DPQuery:
    """Sums updates clipped to the live norm and counts those within it, without noise."""
    import tensorflow_privacy as tfp

    return tfp.QuantileAdaptiveClipSumQuery(
        initial_l2_norm_clip=config.clip_norm,
        noise_multiplier=0.0,
        target_unclipped_quantile=config.target_quantile,
        learning_rate=config.clip_learning_rate,
        clipped_count_stddev=0.0,
        expected_num_records=expected_cohort_size,
        geometric_update=True,
    )


def _noised_parts(split: NoiseSplit) -> list[NoisedPart]:
    """The sum of updates and the count, each with its share of the noise."""
    from fl_research.privacy.keyed_noise import NoisedPart

    def bound_on_count(state: Any) -> Any:
        below_estimate = state.numerator_state.quantile_estimator_state.below_estimate_state
        return below_estimate.numerator_state.l2_norm_clip

    update = NoisedPart(
        tensors=lambda sample_state: sample_state.sum_state,
        clip_norm=lambda state: state.numerator_state.sum_state.l2_norm_clip,
        noise_multiplier=split.value_noise_multiplier,
    )
    count = NoisedPart(
        tensors=lambda sample_state: sample_state.quantile_estimator_state,
        clip_norm=bound_on_count,
        noise_multiplier=split.count_noise_multiplier,
    )
    return [update, count]
