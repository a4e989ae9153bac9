"""What an accounting rule is: how the releases of a mechanism add up, and for whom.

A mechanism's noise may be fresh in every release or correlated over them, drawn by the server or
by the clients. The ledger's plan holds the rule as plain JSON, so that epsilon can be recomputed
from a ledger by anybody, without the mechanism's code or TensorFlow.
"""

import abc
import dataclasses
import json
from collections.abc import Sequence
from typing import Any, ClassVar

import dp_accounting

from fl_research.data.client_sampling import ClientSampling
from fl_research.privacy.composition import relation_for
from fl_research.privacy.events import effective_noise_multiplier
from fl_research.privacy.releases import Release


@dataclasses.dataclass(frozen=True, kw_only=True)
class AccountingRule(abc.ABC):
    """How releases add up.

    Attributes:
      name: The name of the rule's file.
      trust: "central" where the server is trusted with the clients' updates, "local" where it is
        not.
      unit: What the guarantee is for: a "client", or one "record" of a client.
    """

    name: ClassVar[str]
    trust: ClassVar[str] = "central"
    unit: ClassVar[str] = "client"

    def require_sampling(self, sampling: ClientSampling) -> None:
        """Raises InputError, with the reason, for a sampler that the theory does not allow."""
        relation_for(sampling)

    def relation(self, sampling: ClientSampling) -> tuple[dp_accounting.NeighboringRelation, float]:
        """Returns the neighbouring relation, and the sensitivity of one release in clip norms."""
        return relation_for(sampling)

    def release_event(self, noise_multiplier: float) -> dp_accounting.DpEvent:
        """Returns what one release with this noise emits, relative to the clip norm."""
        return dp_accounting.GaussianDpEvent(noise_multiplier)

    def noise_multiplier(self, release_event: dp_accounting.DpEvent) -> float:
        """Returns the noise of a release, all of its parts together, from what it emitted."""
        return effective_noise_multiplier(release_event)

    @abc.abstractmethod
    def events(
        self, releases: Sequence[Release], sampling: ClientSampling
    ) -> list[dp_accounting.DpEvent]:
        """Returns the event of all releases for each kind of unit; the worst of them counts.

        Args:
          releases: In any order; a repeated round is there once for each release.
          sampling: The sampler of all cohorts.
        """

    def planned_events(
        self, release_event: dp_accounting.DpEvent, rounds: int, sampling: ClientSampling
    ) -> list[dp_accounting.DpEvent]:
        """Returns the events of the rounds 1 to `rounds`, each released once.

        Args:
          release_event: What each round emits.
          rounds: How many, at least 0.
          sampling: The sampler of all cohorts.
        """
        numbers = range(1, rounds + 1)
        return self.events([Release(number, release_event) for number in numbers], sampling)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values from which `registry.rule_from_dict` makes the same rule."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return {"name": self.name, **values}
