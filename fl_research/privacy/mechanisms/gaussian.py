"""DP-FedAvg with a fixed clip: clip each client's update, sum, add Gaussian noise, divide.

The L2 norm of each client's whole update is clipped to `clip_norm`; noise of standard deviation
`noise_multiplier * clip_norm` goes on the sum; the result is divided by the expected cohort size, a
constant, never by the number of clients who came.

McMahan et al. 2018, Learning Differentially Private Recurrent Language Models, arXiv:1710.06963.
"""

import dataclasses

from fl_research.privacy.plan import (
    NoiseKey,
    PlanSetting,
    PrivacyPlan,
    require_not_negative,
    require_positive,
    require_uniform_weighting,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the Gaussian mechanism.

    Attributes:
      clip_norm: Largest L2 norm of one client's update, above 0.
      noise_multiplier: Standard deviation of the noise on the sum divided by `clip_norm`; 0 adds no
        noise, and gives no guarantee.

    Raises:
      InputError: A value is out of range.
    """

    clip_norm: float
    noise_multiplier: float

    def __post_init__(self) -> None:
        require_positive("clip_norm", self.clip_norm)
        require_not_negative("noise_multiplier", self.noise_multiplier)


def make_plan(config: Config, setting: PlanSetting) -> PrivacyPlan:
    """Returns the plan of a run with a fixed clip.

    Raises:
      InputError: The setting weights clients.
    """
    import dp_accounting
    import tensorflow_privacy as tfp

    from fl_research.privacy import accounting
    from fl_research.privacy.client_record import UpdateOnlyQuery
    from fl_research.privacy.keyed_noise import KeyedGaussianNoiseQuery, NoisedPart

    require_uniform_weighting(setting.weighting, "gaussian")
    expected_cohort_size = setting.sampling.expected_cohort_size
    relation, sensitivity_in_clips = accounting.relation_for(setting.sampling)
    stddev_of_sum = config.noise_multiplier * config.clip_norm

    def query_with_key(noise_key: NoiseKey) -> tfp.DPQuery:
        """Builds the query; without the key, all of it is public."""
        mean = tfp.NormalizedQuery(
            tfp.GaussianSumQuery(l2_norm_clip=config.clip_norm, stddev=0.0),
            denominator=expected_cohort_size,
        )
        update = NoisedPart(
            tensors=lambda sample_state: sample_state,
            clip_norm=lambda state: state.numerator_state.l2_norm_clip,
            noise_multiplier=config.noise_multiplier,
        )
        return UpdateOnlyQuery(KeyedGaussianNoiseQuery(mean, parts=[update], noise_key=noise_key))

    return PrivacyPlan(
        mechanism="gaussian",
        query=query_with_key(setting.noise_key),
        query_with_key=query_with_key,
        sampling=setting.sampling,
        neighboring_relation=relation,
        sensitivity=sensitivity_in_clips * config.clip_norm,
        expected_release_event=dp_accounting.GaussianDpEvent(config.noise_multiplier),
        details={
            "clip_norm": config.clip_norm,
            "noise_multiplier": config.noise_multiplier,
            "noise_stddev_of_sum": stddev_of_sum,
            "noise_stddev_of_mean": stddev_of_sum / expected_cohort_size,
            "expected_cohort_size": expected_cohort_size,
            "parameters": dataclasses.asdict(config),
            "references": [
                "McMahan et al. 2018, Learning Differentially Private Recurrent Language Models, "
                "arXiv:1710.06963"
            ],
        },
    )
