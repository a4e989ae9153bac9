"""Noise that each client adds to its own update before it leaves: the server is not trusted.

What a client sends in one round is a Gaussian mechanism on this client's data alone. Two data sets
of the client, whatever they are, give clipped updates at most two clip norms apart, so that the
accountants get half of the noise multiplier. The rounds in which the client takes part add up. Who
was drawn when is seen by the server, so sampling amplifies nothing; where the sampler sets no
limit, a client is counted as present in every round.

Kasiviswanathan, Lee, Nissim, Raskhodnikova, Smith 2011, "What can we learn privately?"; Duchi,
Jordan, Wainwright 2013, "Local privacy and statistical minimax rates".
"""

import collections
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import dp_accounting

from fl_research.data.client_sampling import ClientSampling
from fl_research.privacy.accounting_rules.rule import AccountingRule
from fl_research.privacy.composition import composed, multipliers_of_one_unit
from fl_research.privacy.releases import Release

_SENSITIVITY_IN_CLIPS = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule(AccountingRule):
    """Gaussian noise at each client, counted for each of its rounds."""

    name: ClassVar[str] = "local"
    trust: ClassVar[str] = "local"

    def relation(self, sampling: ClientSampling) -> tuple[dp_accounting.NeighboringRelation, float]:
        del sampling  # Whoever is drawn: a client's data is replaced by any other.
        return dp_accounting.NeighboringRelation.REPLACE_ONE, _SENSITIVITY_IN_CLIPS

    def events(
        self, releases: Sequence[Release], sampling: ClientSampling
    ) -> list[dp_accounting.DpEvent]:
        rounds: dict[int, list[dp_accounting.DpEvent]] = collections.defaultdict(list)
        for release in releases:
            rounds[release.round_number].append(release.event)
        counts = collections.Counter(multipliers_of_one_unit(rounds, sampling))
        return [
            composed(
                [
                    dp_accounting.SelfComposedDpEvent(
                        dp_accounting.GaussianDpEvent(multiplier / _SENSITIVITY_IN_CLIPS), count
                    )
                    for multiplier, count in sorted(counts.items())
                ]
            )
        ]
