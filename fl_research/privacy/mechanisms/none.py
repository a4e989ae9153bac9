"""No privacy: the plain mean of the clients' updates.

Federated averaging as published: each client counts once, or by its number of examples. Nothing is
clipped and no noise is added; each release emits a `NonPrivateDpEvent`, for which every accountant
answers infinity.

McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data,
arXiv:1602.05629.
"""

import dataclasses
import math

from fl_research.privacy.plan import PlanSetting, PrivacyPlan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The plain mean has nothing to set; the weighting is part of the setting."""


def make_plan(config: Config, setting: PlanSetting) -> PrivacyPlan:
    """Returns the plan of a run without a guarantee.

    The query divides by the clients (or the examples) that were there; an empty cohort gives zero.
    """
    from fl_research.privacy import accounting
    from fl_research.privacy.client_record import ClientMeanQuery

    del config  # Nothing to set.
    relation, _ = accounting.relation_for(setting.sampling)
    return PrivacyPlan(
        mechanism="none",
        query=ClientMeanQuery(weighted=setting.weighting == "examples"),
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
    )
