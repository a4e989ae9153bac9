"""DP-FTRL: Gaussian noise on the prefix sums of the rounds, by the nodes of a binary tree.

The sum of the first t rounds gets the noise of at most log2(t) nodes, where independent noise would
have added up t times. A client's update is in as many nodes as the tree has levels, and in more of
them if it comes again: how often and how far apart the sampler lets it is counted in the
sensitivity. No guarantee rests on cohorts being random or secret. The tree is restarted every so
many rounds; the noise of finished trees stays in the model. At a restart the clip norm may follow a
quantile of the clients' norms, whose noised count shares the budget.

Kairouz, McMahan, Song, Thakkar, Thakurta, Xu 2021, Practical and Private (Deep) Learning without
Sampling or Shuffling, arXiv:2103.00039.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fl_research.argument_checks import require_at_least, require_not_negative
from fl_research.errors import InputError
from fl_research.privacy.clip_and_noise import ClipAndNoise
from fl_research.privacy.correlated_mean import correlated_mean_plan, setting_of
from fl_research.privacy.noise_split import check_count_stddev, check_quantile, split_noise
from fl_research.privacy.plan import AccountingSetting, PlanSetting, PrivacyPlan

if TYPE_CHECKING:
    from fl_research.privacy.accounting_rules.correlated import Rule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ClipAndNoise):
    """Settings of tree aggregation.

    Attributes:
      restart_every: Rounds of one tree, at least 1; None: one tree for all rounds.
      target_quantile: The fraction of updates that should not be clipped: the clip norm moves
        towards it at each restart. None: the clip stays.
      clip_learning_rate: How fast it moves, by at most the factor exp(clip_learning_rate) a
        restart; used with `target_quantile` only.
      clipped_count_stddev: Standard deviation of the noise on the count of unclipped updates, in
        clients; None is a twentieth of the expected cohort size. Likewise.

    Raises:
      InputError: A value is out of range, or the clip can never move.
    """

    restart_every: int | None = None
    target_quantile: float | None = None
    clip_learning_rate: float = 1.0
    clipped_count_stddev: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.restart_every is not None:
            require_at_least("restart_every", self.restart_every, 1)
        require_not_negative("clip_learning_rate", self.clip_learning_rate)
        check_count_stddev(self.clipped_count_stddev, self.noise_multiplier)
        if self.target_quantile is None:
            return
        check_quantile(self.target_quantile)
        if self.restart_every is None:
            raise InputError(
                f"target_quantile={self.target_quantile!r} needs restart_every: the clip moves "
                "only where a tree begins; give the rounds of one tree"
            )


def accounting_rule(parameters: Mapping[str, Any], setting: AccountingSetting) -> Rule:
    """Returns how the releases add up: as one Gaussian with the sensitivity of the tree."""
    from fl_research.privacy.accounting_rules.correlated import (
        Rule,
        require_bounded_participation,
    )

    require_bounded_participation(setting.sampling)
    restart_every = setting_of(Config, parameters, "restart_every")
    if restart_every is None or restart_every > setting.rounds:
        restart_every = setting.rounds
    return Rule(rounds=setting.rounds, restart_every=restart_every)


def make_plan(config: Config, setting: PlanSetting) -> PrivacyPlan:
    """Returns the plan of a run with tree aggregation.

    Raises:
      InputError: The setting weights clients, or its sampler does not bound participation.
    """
    from fl_research.privacy.factorization.noise_covariance import tree_covariance
    from fl_research.privacy.noise_streams import TreeNoise

    rule = accounting_rule(dataclasses.asdict(config), setting)
    assert rule.restart_every is not None, "set above"
    restart_every = rule.restart_every
    return correlated_mean_plan(
        "tree_aggregation",
        config,
        setting,
        rule=rule,
        stream=TreeNoise(restart_every),
        **_adaptive_clip(config, setting, restart_every),
        noise_covariance=lambda rounds: tree_covariance(rounds, restart_every),
        parameters={**dataclasses.asdict(config), "restart_every": restart_every},
        references=[
            "Kairouz et al. 2021, Practical and Private (Deep) Learning without Sampling or "
            "Shuffling, arXiv:2103.00039",
            "Honaker 2015, Efficient Use of Differentially Private Binary Trees",
        ],
    )


def _adaptive_clip(config: Config, setting: PlanSetting, restart_every: int) -> dict[str, Any]:
    """The sum and the noised parts of a clip that moves; nothing for one that stays."""
    if config.target_quantile is None:
        return {}
    from fl_research.privacy.keyed_noise import NoisedPart
    from fl_research.privacy.noise_streams import TreeNoise
    from fl_research.privacy.restart_clip import RestartClipSumQuery

    expected = setting.sampling.expected_cohort_size
    split = split_noise(config.noise_multiplier, config.clipped_count_stddev, expected)
    update = NoisedPart(
        tensors=lambda sample_state: sample_state.update,
        clip_norm=lambda state: state.numerator_state.clip_norm,
        noise_multiplier=split.value_noise_multiplier,
        stream=TreeNoise(restart_every),
    )
    count = NoisedPart(
        tensors=lambda sample_state: sample_state.count,
        clip_norm=lambda state: RestartClipSumQuery.COUNT_SENSITIVITY,
        noise_multiplier=split.count_noise_multiplier,
        stream=TreeNoise(restart_every),
    )
    clipped_sum = RestartClipSumQuery(
        clip_norm=config.clip_norm,
        restart_every=restart_every,
        target_quantile=config.target_quantile,
        learning_rate=config.clip_learning_rate,
        expected_cohort_size=expected,
    )
    return {"clipped_sum": clipped_sum, "parts": [update, count]}
