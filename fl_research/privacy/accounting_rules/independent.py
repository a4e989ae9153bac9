"""Noise that is drawn afresh for every release, by a trusted server.

Releases add up by composition, sampled as the cohorts were; see `privacy.composition`.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import dp_accounting

from fl_research.argument_checks import require_choice
from fl_research.data.client_sampling import ClientSampling
from fl_research.privacy import composition
from fl_research.privacy.accounting_rules.rule import AccountingRule
from fl_research.privacy.releases import Release

_NOISES = {
    "gaussian": dp_accounting.GaussianDpEvent,
    "laplace": dp_accounting.LaplaceDpEvent,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule(AccountingRule):
    """Fresh noise in every release.

    Attributes:
      noise: "gaussian" or "laplace".

    Raises:
      InputError: The noise is another.
    """

    name: ClassVar[str] = "independent"
    noise: str = "gaussian"

    def __post_init__(self) -> None:
        require_choice("noise", self.noise, _NOISES)

    def release_event(self, noise_multiplier: float) -> dp_accounting.DpEvent:
        event: dp_accounting.DpEvent = _NOISES[self.noise](noise_multiplier)
        return event

    def noise_multiplier(self, release_event: dp_accounting.DpEvent) -> float:
        if self.noise == "laplace" and isinstance(release_event, dp_accounting.LaplaceDpEvent):
            return float(release_event.noise_multiplier)
        return super().noise_multiplier(release_event)

    def events(
        self, releases: Sequence[Release], sampling: ClientSampling
    ) -> list[dp_accounting.DpEvent]:
        return [composition.compose(releases, sampling)]

    def planned_events(
        self, release_event: dp_accounting.DpEvent, rounds: int, sampling: ClientSampling
    ) -> list[dp_accounting.DpEvent]:
        return [composition.repeated_event(release_event, rounds, sampling)]
