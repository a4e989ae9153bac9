"""Example-level DP: each client trains by DP-SGD on its own records, and the server averages.

The unit is one record of one client, not the client. In each local step every record is drawn with
the same probability, its gradient is clipped on its own, and the sum gets Gaussian noise, so that
what leaves the client is private for each of its records, against the server too. A client's
epsilon follows from its own number of records; the claim is that of the worst client.

Abadi et al. 2016, Deep Learning with Differential Privacy, arXiv:1607.00133.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fl_research.errors import InputError
from fl_research.learning.client_update_config import steps_and_rate
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

    from fl_research.privacy.accounting_rules.examples import Rule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ClipAndNoise):
    """Settings of DP-SGD at the clients.

    Attributes:
      clip_norm: Largest L2 norm of one record's gradient, above 0.
      noise_multiplier: Standard deviation of the noise on a step's sum of gradients divided by
        `clip_norm`; 0 adds no noise, and gives no guarantee.

    Raises:
      InputError: A value is out of range.
    """


def accounting_rule(parameters: Mapping[str, Any], setting: AccountingSetting) -> Rule:
    """Returns how the releases add up: all steps of a client, for each size of clients.

    Raises:
      InputError: The setting does not say how the clients train or how large they are.
    """
    from fl_research.privacy.accounting_rules.examples import ClientSize, Rule

    del parameters  # The clients' sizes say it all.
    if setting.client_update is None or not setting.clients_by_rows:
        raise InputError(
            "mechanism='client_dpsgd' is accounted from the clients' local training and their "
            "numbers of rows, which are not given here; plan it by starting the run"
        )
    sizes = []
    for rows, clients in sorted(setting.clients_by_rows.items()):
        steps, rate = steps_and_rate(setting.client_update, rows)
        if rows:
            size = ClientSize(rows=rows, clients=clients, steps=steps, sampling_rate=rate)
            sizes.append(size)
    return Rule(sizes=tuple(sizes))


def make_plan(config: Config, setting: PlanSetting) -> PrivacyPlan:
    """Returns the plan of a run whose clients train by DP-SGD.

    Raises:
      InputError: The setting weights clients, or does not say how they train.
    """
    import dp_accounting

    from fl_research.learning.example_privacy import ExamplePrivacy
    from fl_research.privacy.client_record import ExampleNoiseMeanQuery

    require_uniform_weighting(setting.weighting, "client_dpsgd")
    rule = accounting_rule(dataclasses.asdict(config), setting)
    relation, sensitivity_in_clips = rule.relation(setting.sampling)

    def query_for(noise_key: NoiseKey, update_specs: Any) -> tfp.DPQuery:
        """The query; it draws no noise itself."""
        del noise_key, update_specs
        return ExampleNoiseMeanQuery(
            clip_norm=config.clip_norm, noise_multiplier=config.noise_multiplier
        )

    return PrivacyPlan(
        mechanism="client_dpsgd",
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
                "Abadi et al. 2016, Deep Learning with Differential Privacy, arXiv:1607.00133"
            ],
        },
        noise_at="examples",
        example_privacy=ExamplePrivacy(
            clip_norm=config.clip_norm,
            noise_multiplier=config.noise_multiplier,
            noise_key=setting.noise_key,
        ),
    )
