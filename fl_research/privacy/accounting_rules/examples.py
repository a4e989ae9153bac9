"""DP-SGD at each client: one record of one client is protected, against the server too.

In each round that it takes part in, a client of n records takes so many steps; in each step every
record is drawn with the same probability, and the sum of clipped gradients gets Gaussian noise. So
a client's guarantee follows from its own size, batch and steps, and from how many rounds it can
take part in. The claim is that of the worst client. Who was drawn when is seen by the server:
sampling of clients amplifies nothing. A client's number of records is taken to be known.

Abadi et al. 2016, "Deep learning with differential privacy".
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import dp_accounting

from fl_research.data.client_sampling import ClientSampling
from fl_research.errors import InputError
from fl_research.privacy.accounting_rules.rule import AccountingRule
from fl_research.privacy.composition import rounds_by_group
from fl_research.privacy.events import effective_noise_multiplier
from fl_research.privacy.releases import Release


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientSize:
    """Clients with equally many rows.

    Attributes:
      rows: Rows of each of them.
      clients: How many they are.
      steps: Steps of one participation.
      sampling_rate: A row's probability to be in a step's batch, in (0, 1].

    Raises:
      InputError: A number is impossible.
    """

    rows: int
    clients: int
    steps: int
    sampling_rate: float

    def __post_init__(self) -> None:
        if not (self.steps >= 0 and 0 < self.sampling_rate <= 1):
            raise InputError(
                f"steps={self.steps} and sampling_rate={self.sampling_rate} of clients with "
                f"{self.rows} rows are impossible; give 0 or more, and a rate in (0, 1]"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule(AccountingRule):
    """DP-SGD at clients of several sizes.

    Attributes:
      sizes: Each number of rows that a client has.

    Raises:
      InputError: There is no size.
    """

    name: ClassVar[str] = "examples"
    trust: ClassVar[str] = "local"
    unit: ClassVar[str] = "record"
    sizes: tuple[ClientSize, ...]

    def __post_init__(self) -> None:
        given: Sequence[Any] = self.sizes
        sizes = [s if isinstance(s, ClientSize) else ClientSize(**s) for s in given]
        object.__setattr__(self, "sizes", tuple(sizes))
        if not self.sizes:
            raise InputError("sizes=() names no client; give the rows of the training clients")

    def relation(self, sampling: ClientSampling) -> tuple[dp_accounting.NeighboringRelation, float]:
        # A record's data is taken out, at whichever client. Its place stays: steps, rates and the
        # divisor follow from a client's number of rows, which is taken to be known.
        del sampling
        return dp_accounting.NeighboringRelation.REPLACE_SPECIAL, 1.0

    def events(
        self, releases: Sequence[Release], sampling: ClientSampling
    ) -> list[dp_accounting.DpEvent]:
        participations, multiplier = self._participations(releases, sampling)
        return [
            example_event(size, multiplier, participations) for size in self._undominated_sizes()
        ]

    def event_of_size(
        self, size: ClientSize, releases: Sequence[Release], sampling: ClientSampling
    ) -> dp_accounting.DpEvent:
        """Returns the event of the clients of one of `sizes`."""
        participations, multiplier = self._participations(releases, sampling)
        return example_event(size, multiplier, participations)

    def _participations(
        self, releases: Sequence[Release], sampling: ClientSampling
    ) -> tuple[int, float]:
        """The most releases that one client can have trained for, and the least noise multiplier.

        A repeated round draws other batches and other noise: it counts as a further round.
        """
        rounds: dict[int, list[dp_accounting.DpEvent]] = {}
        for release in releases:
            rounds.setdefault(release.round_number, []).append(release.event)
        limit = getattr(sampling, "max_participations", None)
        most = max(
            sum(sorted(map(len, group.values()), reverse=True)[:limit])
            for group in rounds_by_group(rounds, sampling) or [{}]
        )
        noise = [effective_noise_multiplier(release.event) for release in releases]
        return most, min(noise, default=1.0)

    def _undominated_sizes(self) -> list[ClientSize]:
        """The sizes of which no other has as many steps and as large a sampling rate."""
        kept: list[ClientSize] = []
        for size in sorted(self.sizes, key=lambda s: (-s.sampling_rate, -s.steps)):
            if not kept or size.steps > kept[-1].steps:
                kept.append(size)
        return kept


def example_event(
    size: ClientSize, noise_multiplier: float, participations: int
) -> dp_accounting.DpEvent:
    """Returns the event of all steps of a client of one size.

    Args:
      size: One of `Rule.sizes`.
      noise_multiplier: Standard deviation of the noise on a step's sum over the clip norm.
      participations: Rounds that the client takes part in.
    """
    steps = size.steps * participations
    if steps == 0:
        return dp_accounting.NoOpDpEvent()
    step = dp_accounting.GaussianDpEvent(noise_multiplier)
    if noise_multiplier == 0:
        step = dp_accounting.NonPrivateDpEvent()
    elif size.sampling_rate < 1:
        step = dp_accounting.PoissonSampledDpEvent(size.sampling_rate, step)
    return dp_accounting.SelfComposedDpEvent(step, steps)
