"""MF-DP-FTRL: Gaussian noise correlated over rounds by a banded Toeplitz strategy.

Of all strategies with so many bands the one is used whose noise on the prefix sums of the rounds is
least at equal privacy, found by optimisation for the rounds, the separation and the participations
of the run. With as many bands as the rounds from one participation of a client to its next, its
participations do not meet in one release, and sampling within the clients' turns amplifies.

Choquette-Choo, Ganesh, McKenna, McMahan, Rush, Thakurta, Xu 2023, (Amplified) Banded Matrix
Factorization: A unified approach to private training, arXiv:2306.08153.
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
    """Settings of banded matrix factorization.

    Attributes:
      bands: Bands of the strategy, at least 1 (which is independent noise); None: as many as the
        rounds from one participation of a client to its next. The noise takes the memory of so many
        models.

    Raises:
      InputError: A value is out of range.
    """

    bands: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bands is not None:
            require_at_least("bands", self.bands, 1)


def accounting_rule(parameters: Mapping[str, Any], setting: AccountingSetting) -> Rule:
    """Returns how the releases add up: as one Gaussian, or as one sampled Gaussian a turn."""
    from fl_research.privacy.accounting_rules.correlated import (
        Rule,
        require_bounded_participation,
    )
    from fl_research.privacy.factorization.banded import optimal_banded_coefficients

    rounds, sampling = setting.rounds, setting.sampling
    require_bounded_participation(sampling)
    bands = setting_of(Config, parameters, "bands") or sampling.separation
    coefficients = optimal_banded_coefficients(
        rounds=rounds,
        bands=min(bands, rounds),
        max_participations=sampling.most_participations(rounds),
        min_separation=sampling.separation,
    )
    return Rule(rounds=rounds, coefficients=coefficients)


def make_plan(config: Config, setting: PlanSetting) -> PrivacyPlan:
    """Returns the plan of a run with a banded strategy.

    Raises:
      InputError: The setting weights clients, or its sampler does not bound participation.
    """
    from fl_research.privacy.factorization.noise_covariance import toeplitz_covariance
    from fl_research.privacy.noise_streams import BandedNoise

    rule = accounting_rule(dataclasses.asdict(config), setting)
    assert rule.coefficients is not None, "set above"
    coefficients = rule.coefficients
    return correlated_mean_plan(
        "banded_matrix_factorization",
        config,
        setting,
        rule=rule,
        stream=BandedNoise(coefficients),
        noise_covariance=lambda rounds: toeplitz_covariance(coefficients, rounds),
        parameters={"bands": len(coefficients)},
        references=[
            "Choquette-Choo et al. 2023, (Amplified) Banded Matrix Factorization: A unified "
            "approach to private training, arXiv:2306.08153"
        ],
    )
