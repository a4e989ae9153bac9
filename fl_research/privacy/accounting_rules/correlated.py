"""Noise that is correlated over rounds, so that it cancels in the sums that the model is made of.

Per round the noise is C^-1 z, with z fresh and C the strategy: all releases together are a linear
function of one Gaussian release of C x + z, where x are the rounds' sums. A client that may be in
at most k rounds, any two at least b apart, moves C x by the sensitivity of C, so the whole run is
one Gaussian of noise multiplier z / sensitivity. What a client sends may depend on the models so
far: Denisov, McMahan, Rush, Smith, Thakurta 2022, "Improved differential privacy for SGD via
optimal private linear operators on adaptive streams", show that this costs nothing.

A round that is released again has fresh z: its row of C is there m times, which multiplies the
squared sensitivity by at most the largest such m.

Where C is banded, no wider than the separation, and clients are sampled in the turns of their
groups, sampling amplifies: a client's turns touch different numbers of C x, so that they are as
many sampled Gaussians of noise multiplier z / norm of a column (Choquette-Choo et al. 2023,
"(Amplified) Banded Matrix Factorization: A unified approach to private training", theorem 4).
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import ClassVar

import dp_accounting

from fl_research.data.client_sampling import (
    ClientSampling,
    FullParticipation,
    MinSeparationSampling,
)
from fl_research.errors import InputError
from fl_research.privacy.accounting_rules.rule import AccountingRule
from fl_research.privacy.composition import turn_rate
from fl_research.privacy.events import effective_noise_multiplier
from fl_research.privacy.factorization import toeplitz, tree
from fl_research.privacy.factorization.buffered import BufferedStrategy
from fl_research.privacy.releases import Release


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule(AccountingRule):
    """Correlated noise with one of three strategies, of which one is set.

    Attributes:
      rounds: Rounds that the strategy was made for; more cannot be released.
      restart_every: For the tree: rounds of one tree.
      coefficients: For a banded strategy: those of its Toeplitz matrix.
      buffers: For a buffered one: pairs of output weight and decay.

    Raises:
      InputError: Not exactly one strategy is set, or it is impossible.
    """

    name: ClassVar[str] = "correlated"
    rounds: int
    restart_every: int | None = None
    coefficients: tuple[float, ...] | None = None
    buffers: tuple[tuple[float, float], ...] | None = None

    def __post_init__(self) -> None:
        if self.coefficients is not None:
            object.__setattr__(self, "coefficients", tuple(self.coefficients))
        if self.buffers is not None:
            pairs = tuple((float(weight), float(decay)) for weight, decay in self.buffers)
            object.__setattr__(self, "buffers", pairs)
        given = [self.restart_every, self.coefficients, self.buffers]
        if sum(value is not None for value in given) != 1:
            raise InputError(
                f"restart_every={self.restart_every}, coefficients and buffers: exactly one of "
                "them makes a strategy"
            )

    def require_sampling(self, sampling: ClientSampling) -> None:
        require_bounded_participation(sampling)

    def squared_sensitivity(self, rounds: int, sampling: ClientSampling) -> float:
        """Returns the square of how far one client can move C x, in clip norms.

        Args:
          rounds: The rounds 1 to this one were released.
          sampling: Says how often, and how far apart, a client takes part.

        Raises:
          InputError: There are more rounds than the strategy was made for.
        """
        self._require_rounds(rounds)
        return _squared_sensitivity(
            self, rounds, max(1, sampling.most_participations(rounds)), sampling.separation
        )

    def events(
        self, releases: Sequence[Release], sampling: ClientSampling
    ) -> list[dp_accounting.DpEvent]:
        self.require_sampling(sampling)
        if not releases:
            return [dp_accounting.NoOpDpEvent()]
        noise = min(effective_noise_multiplier(release.event) for release in releases)
        if noise == 0:
            return [dp_accounting.NonPrivateDpEvent()]
        times = collections.Counter(release.round_number for release in releases)
        self._require_rounds(max(times))
        noise /= math.sqrt(max(times.values()))
        rounds = max(times)
        if self._is_amplified(sampling):
            assert self.coefficients is not None, "only banded strategies are"
            column = math.sqrt(sum(value * value for value in self.coefficients))
            turn = dp_accounting.PoissonSampledDpEvent(
                turn_rate(sampling), dp_accounting.GaussianDpEvent(noise / column)
            )
            turns = sampling.most_participations(rounds)
            return [dp_accounting.SelfComposedDpEvent(turn, turns)]
        sensitivity = math.sqrt(self.squared_sensitivity(rounds, sampling))
        return [dp_accounting.GaussianDpEvent(noise / sensitivity)]

    def planned_events(
        self, release_event: dp_accounting.DpEvent, rounds: int, sampling: ClientSampling
    ) -> list[dp_accounting.DpEvent]:
        return self.events([Release(rounds, release_event)] if rounds else [], sampling)

    def _require_rounds(self, rounds: int) -> None:
        """Raises InputError for more rounds than the strategy was made for."""
        if rounds > self.rounds:
            raise InputError(
                f"rounds={rounds} is more than the {self.rounds} that the strategy was made for; "
                "plan for as many as will run"
            )

    def _is_amplified(self, sampling: ClientSampling) -> bool:
        """Whether the theory of banded strategies under sampling by turns applies."""
        return (
            self.coefficients is not None
            and len(self.coefficients) <= sampling.separation
            and turn_rate(sampling) < 1
        )


def require_bounded_participation(sampling: ClientSampling) -> None:
    """Raises InputError for a sampler that lets a client take part in any rounds."""
    if not isinstance(sampling, MinSeparationSampling | FullParticipation):
        raise InputError(
            f"sampling={sampling.name!r} does not go with noise that is correlated over rounds: it "
            "lets a client take part in any rounds, and nothing is known of what sampling is worth "
            "then; use sampling='min_separation' (or 'full')"
        )


@functools.lru_cache(maxsize=256)
def _squared_sensitivity(
    rule: Rule, rounds: int, max_participations: int, min_separation: int
) -> float:
    """The squared sensitivity of the first rounds of a rule's strategy."""
    pattern = {"max_participations": max_participations, "min_separation": min_separation}
    if rule.restart_every is not None:
        return float(
            tree.squared_tree_sensitivity(
                rounds=rounds, restart_every=rule.restart_every, **pattern
            ).squared
        )
    if rule.coefficients is not None:
        coefficients: toeplitz.Coefficients = rule.coefficients
    else:
        assert rule.buffers is not None, "checked when it was made"
        weights, decays = zip(*rule.buffers, strict=True)
        strategy = BufferedStrategy(output_weights=weights, decays=decays)
        coefficients = strategy.coefficients(rounds)
    return toeplitz.squared_sensitivity(coefficients, rounds=rounds, **pattern)
