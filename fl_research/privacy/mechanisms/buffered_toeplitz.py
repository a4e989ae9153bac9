"""BLT: Gaussian noise correlated over rounds by a Toeplitz strategy of a few geometric series.

Nearly as little noise as the best strategy, for the memory of a few models, whatever the number of
rounds. Weights and decays of the series are found by optimisation for the rounds, the separation
and the participations of the run.

Dvijotham, McMahan, Pillutla, Steinke, Thakurta 2024, Efficient and Near-Optimal Noise Generation
for Streaming Differential Privacy, arXiv:2404.16706; McMahan, Xu, Zhang 2024, A Hassle-free
Algorithm for Private Learning in Practice, arXiv:2408.08868.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fl_research.argument_checks import require_at_least
from fl_research.privacy.clip_and_noise import ClipAndNoise
from fl_research.privacy.correlated_mean import correlated_mean_plan, setting_of
from fl_research.privacy.plan import AccountingSetting, PlanSetting, PrivacyPlan

if TYPE_CHECKING:
    from fl_research.privacy.accounting_rules.correlated import Rule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ClipAndNoise):
    """Settings of buffered linear Toeplitz noise.

    Attributes:
      buffers: Series, 1 to 5; the noise takes the memory of so many models.

    Raises:
      InputError: A value is out of range.
    """

    buffers: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("buffers", self.buffers, 1)


def accounting_rule(parameters: Mapping[str, Any], setting: AccountingSetting) -> Rule:
    """Returns how the releases add up: as one Gaussian with the sensitivity of the strategy."""
    from fl_research.privacy.accounting_rules.correlated import (
        Rule,
        require_bounded_participation,
    )
    from fl_research.privacy.factorization.buffered import optimal_buffers

    rounds, sampling = setting.rounds, setting.sampling
    require_bounded_participation(sampling)
    strategy = optimal_buffers(
        rounds=rounds,
        buffers=setting_of(Config, parameters, "buffers"),
        max_participations=sampling.most_participations(rounds),
        min_separation=sampling.separation,
    )
    pairs = zip(strategy.output_weights, strategy.decays, strict=True)
    return Rule(rounds=rounds, buffers=tuple(pairs))


def make_plan(config: Config, setting: PlanSetting) -> PrivacyPlan:
    """Returns the plan of a run with a buffered strategy.

    Raises:
      InputError: The setting weights clients, or its sampler does not bound participation.
    """
    from fl_research.privacy.factorization.buffered import BufferedStrategy
    from fl_research.privacy.factorization.noise_covariance import toeplitz_covariance
    from fl_research.privacy.noise_streams import BufferedNoise

    rule = accounting_rule(dataclasses.asdict(config), setting)
    assert rule.buffers is not None, "set above"
    weights, decays = zip(*rule.buffers, strict=True)
    strategy = BufferedStrategy(output_weights=weights, decays=decays)
    return correlated_mean_plan(
        "buffered_toeplitz",
        config,
        setting,
        rule=rule,
        stream=BufferedNoise(weights, decays),
        noise_covariance=lambda rounds: toeplitz_covariance(strategy.coefficients(rounds), rounds),
        parameters={"output_weights": list(weights), "decays": list(decays)},
        references=[
            "Dvijotham et al. 2024, Efficient and Near-Optimal Noise Generation for Streaming "
            "Differential Privacy, arXiv:2404.16706",
            "McMahan, Xu and Zhang 2024, A Hassle-free Algorithm for Private Learning in "
            "Practice, arXiv:2408.08868",
        ],
    )
