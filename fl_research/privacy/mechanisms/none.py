"""No privacy: the plain mean of the clients' updates.

Federated averaging as published: each client counts once, or by its number of examples. Nothing is
clipped and no noise is added; each release emits a `NonPrivateDpEvent`, for which every accountant
answers infinity.

McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data,
arXiv:1602.05629.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fl_research.privacy.plan import AccountingSetting, NoiseKey, PlanSetting, PrivacyPlan

if TYPE_CHECKING:
    import tensorflow_privacy as tfp

    from fl_research.privacy.accounting_rules.independent import Rule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The plain mean has nothing to set; the weighting is part of the setting."""


def accounting_rule(parameters: Mapping[str, Any], setting: AccountingSetting) -> Rule:
    """Returns how the releases add up: none of them is private."""
    from fl_research.privacy.accounting_rules.independent import Rule

    del parameters, setting  # Nothing of a run changes that.
    return Rule()


def make_plan(config: Config, setting: PlanSetting) -> PrivacyPlan:
    """Returns the plan of a run without a guarantee.

    The query divides by the clients (or the examples) that were there; an empty cohort gives zero.
    """
    from fl_research.privacy.client_record import ClientMeanQuery

    rule = accounting_rule(dataclasses.asdict(config), setting)
    relation, _ = rule.relation(setting.sampling)

    def query_for(noise_key: NoiseKey, update_specs: Any) -> tfp.DPQuery:
        """The plain mean."""
        del noise_key, update_specs
        return ClientMeanQuery(weighted=setting.weighting == "examples")

    return PrivacyPlan(
        mechanism="none",
        query_for=query_for,
        noise_key=setting.noise_key,
        rule=rule,
        sampling=setting.sampling,
        neighboring_relation=relation,
        sensitivity=math.inf,
        expected_release_event=None,
        details={
            "clip_norm": None,
            "noise_multiplier": 0.0,
            "noise_stddev_of_sum": 0.0,
            "parameters": {"weighting": setting.weighting},
            "references": [
                "McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from "
                "Decentralized Data, arXiv:1602.05629"
            ],
        },
        noise_at=None,
    )
