"""Client sampling: which clients take part in a round, a pure function of (seed, round).

Poisson sampling takes each client with the same probability, independently. It is drawn exactly
and in the cost of the cohort: the cohort's size is binomial, and given its size every subset is
equally likely. Fixed-size sampling takes a uniform subset without replacement. Both are
independent over rounds, which is what amplification by sampling rests on (Mironov, Talwar and
Zhang 2019, "Rényi differential privacy of the sampled Gaussian mechanism"; Wang, Balle and
Kasiviswanathan 2019, "Subsampled Rényi differential privacy").

Sampling with a minimum separation deals the clients out into groups, whose turns come round: a
client takes part at most once in so many rounds, which is what noise that is correlated over rounds
needs (Choquette-Choo et al. 2023, "(Amplified) Banded Matrix Factorization", section 4).
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np

from fl_research import randomness
from fl_research.argument_checks import require_at_least, require_choice
from fl_research.errors import InputError

_PURPOSE = "client_sampling"
_ROUNDING = 1e-9  # A group's whole size divided by the population and multiplied again.


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientSampling(abc.ABC):
    """How cohorts are drawn from `population` clients.

    Raises:
      InputError: If the population is below 1 or a setting does not fit it.
    """

    name: ClassVar[str]
    population: int

    def __post_init__(self) -> None:
        require_at_least("population", self.population, 1)

    @property
    @abc.abstractmethod
    def expected_cohort_size(self) -> float:
        """The mean size of a cohort while nobody has reached a limit, a public constant."""

    @property
    def separation(self) -> int:
        """Two rounds of one client are at least so many apart; 1 where they may follow."""
        return 1

    def most_participations(self, rounds: int) -> int:
        """Returns in how many of the rounds 1 to `rounds` one client can take part."""
        return rounds

    @abc.abstractmethod
    def cohort(self, seed: int, round_number: int) -> np.ndarray:
        """Returns the sorted `int64` indices of the clients of a round, each in [0, population)."""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values from which `sampling_from_dict` makes the same object."""
        settings = dataclasses.asdict(self).items()
        plain = {key: v.item() if isinstance(v, np.generic) else v for key, v in settings}
        return {"name": self.name, **plain}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoissonSampling(ClientSampling):
    """Each client takes part with probability `sampling_rate`, independently of all others."""

    name: ClassVar[str] = "poisson"
    sampling_rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.sampling_rate <= 1:
            raise InputError(
                f"sampling_rate={self.sampling_rate} is not a probability; give one in (0, 1]"
            )

    @property
    def expected_cohort_size(self) -> float:
        return self.population * self.sampling_rate

    def cohort(self, seed: int, round_number: int) -> np.ndarray:
        generator = randomness.generator(seed, _PURPOSE, round_number)
        size = int(generator.binomial(self.population, self.sampling_rate))
        return _uniform_subset(generator, self.population, size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FixedSizeSampling(ClientSampling):
    """A uniform subset of `cohort_size` clients, without replacement within a round."""

    name: ClassVar[str] = "fixed_size"
    cohort_size: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.cohort_size <= self.population:
            raise InputError(
                f"clients_per_round={self.cohort_size} does not fit a population of "
                f"{self.population} clients; give a whole number from 1 to {self.population}"
            )

    @property
    def expected_cohort_size(self) -> float:
        return float(self.cohort_size)

    def cohort(self, seed: int, round_number: int) -> np.ndarray:
        generator = randomness.generator(seed, _PURPOSE, round_number)
        return _uniform_subset(generator, self.population, self.cohort_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullParticipation(ClientSampling):
    """Every client takes part in every round."""

    name: ClassVar[str] = "full"

    @property
    def expected_cohort_size(self) -> float:
        return float(self.population)

    def cohort(self, seed: int, round_number: int) -> np.ndarray:
        del seed, round_number
        return np.arange(self.population)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MinSeparationSampling(ClientSampling):
    """Each client takes part at most once in any `min_separation` rounds in a row.

    The clients are dealt out, by the seed, into `min_separation` groups of nearly equal size; round
    t is the turn of group (t - 1) mod `min_separation`. In its group's turn each client takes part
    with probability `turn_rate`, independently, unless it has taken part `max_participations` times
    already.

    Attributes:
      sampling_rate: Expected cohort / population, in (0, 1 / min_separation].
      min_separation: Rounds from one turn of a group to its next, from 1 to the population.
      max_participations: Rounds that a client takes part in at most; None sets no limit.
    """

    name: ClassVar[str] = "min_separation"
    sampling_rate: float
    min_separation: int
    max_participations: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("min_separation", self.min_separation, 1)
        if self.min_separation > self.population:
            raise InputError(
                f"min_separation={self.min_separation} leaves groups without a client; give at "
                f"most the population, {self.population}"
            )
        if not 0 < self.sampling_rate * self.min_separation <= 1 + _ROUNDING:
            raise InputError(
                f"sampling_rate={self.sampling_rate:g} is more than one of "
                f"min_separation={self.min_separation} groups holds; cohorts of at most "
                f"{self.population / self.min_separation:g} clients fit, or a smaller separation"
            )
        if self.max_participations is not None:
            require_at_least("max_participations", self.max_participations, 1)

    @property
    def expected_cohort_size(self) -> float:
        return self.population * self.sampling_rate

    @property
    def turn_rate(self) -> float:
        """The probability that a client takes part in a turn of its group."""
        rate = self.sampling_rate * self.min_separation
        return 1.0 if rate > 1 - _ROUNDING else rate

    @property
    def separation(self) -> int:
        return self.min_separation

    def most_participations(self, rounds: int) -> int:
        turns = -(-rounds // self.min_separation)
        return turns if self.max_participations is None else min(turns, self.max_participations)

    def group(self, round_number: int) -> int:
        """Returns which group's turn a round is."""
        return (round_number - 1) % self.min_separation

    def cohort(self, seed: int, round_number: int) -> np.ndarray:
        drawn = self._drawn(seed, round_number)
        if self.max_participations is None:
            return drawn
        earlier = range(self.group(round_number) + 1, round_number, self.min_separation)
        if len(earlier) < self.max_participations:
            return drawn
        taken = np.zeros(self.population, np.int64)
        for turn in earlier:
            taken[self._drawn(seed, turn)] += 1
        return drawn[taken[drawn] < self.max_participations]

    def _drawn(self, seed: int, round_number: int) -> np.ndarray:
        """Who would take part if there were no limit."""
        order = _dealing_order(seed, self.population)
        members = order[self.group(round_number) :: self.min_separation]
        generator = randomness.generator(seed, _PURPOSE, round_number)
        size = int(generator.binomial(len(members), self.turn_rate))
        return np.sort(members[_uniform_subset(generator, len(members), size)])


_SAMPLINGS: dict[str, type[ClientSampling]] = {
    PoissonSampling.name: PoissonSampling,
    FixedSizeSampling.name: FixedSizeSampling,
    FullParticipation.name: FullParticipation,
    MinSeparationSampling.name: MinSeparationSampling,
}


def build_client_sampling(
    name: str,
    *,
    population: int,
    clients_per_round: float | None = None,
    sampling_rate: float | None = None,
    min_separation: int | None = None,
    max_participations: int | None = None,
) -> ClientSampling:
    """Builds a sampling from what a user says.

    Args:
      name: "poisson", "fixed_size", "full" or "min_separation".
      population: The number of clients that can be sampled.
      clients_per_round: The cohort's size; under Poisson sampling the expected one.
      sampling_rate: The fraction of the population in a cohort, in `(0, 1]`. Under fixed-size
        sampling the cohort is that fraction rounded to the nearest whole number.
      min_separation: For "min_separation" only, which needs it: rounds between two of a client.
      max_participations: For "min_separation" only: rounds that a client takes part in at most.

    Raises:
      InputError: If the name is unknown, a value does not fit, or not exactly one of
        `clients_per_round` and `sampling_rate` is given ("full" takes neither).
    """
    require_choice("sampling", name, _SAMPLINGS)
    _check_separation(name, min_separation, max_participations)
    stated = f"clients_per_round={clients_per_round} and sampling_rate={sampling_rate}"
    if name == FullParticipation.name:
        if clients_per_round is not None or sampling_rate is not None:
            raise InputError(f"{stated} do not go with sampling='full'; leave them out")
        return FullParticipation(population=population)
    if (clients_per_round is None) == (sampling_rate is None):
        raise InputError(f"{stated} do not go with sampling={name!r}; give exactly one of the two")
    require_at_least("population", population, 1)
    if clients_per_round is not None and not 0 < clients_per_round <= population:
        raise InputError(
            f"clients_per_round={clients_per_round} does not fit a population of {population} "
            f"clients; give a number above 0 and up to {population}"
        )
    if name in (PoissonSampling.name, MinSeparationSampling.name):
        if clients_per_round is not None:
            sampling_rate = clients_per_round / population
        if min_separation is not None:
            return MinSeparationSampling(
                population=population,
                sampling_rate=cast(float, sampling_rate),
                min_separation=min_separation,
                max_participations=max_participations,
            )
        return PoissonSampling(population=population, sampling_rate=cast(float, sampling_rate))
    if clients_per_round is None:
        # Checks the rate before it is rounded to a number of clients.
        poisson = PoissonSampling(population=population, sampling_rate=cast(float, sampling_rate))
        clients_per_round = math.floor(poisson.expected_cohort_size + 0.5)
    if clients_per_round != int(clients_per_round):
        raise InputError(
            f"clients_per_round={clients_per_round} is not a whole number, which "
            "sampling='fixed_size' needs; round it or use sampling='poisson'"
        )
    return FixedSizeSampling(population=population, cohort_size=int(clients_per_round))


def projected_sampling(sampling: ClientSampling, population: int) -> ClientSampling:
    """Returns the same sampler over more clients, with cohorts of the same expected size.

    Args:
      sampling: The sampler that ran.
      population: Clients to draw from, at least as many as it had.

    Raises:
      InputError: The sampler takes everybody, or the population is smaller.
    """
    if sampling.name == "full":
        raise InputError(
            f"projection_population={population} does not go with sampling='full', where all "
            "clients take part; leave it out"
        )
    if population < sampling.population:
        raise InputError(
            f"projection_population={population} is below the {sampling.population} clients of "
            "this run; give a larger one"
        )
    values = sampling.to_dict() | {"population": population}
    if "sampling_rate" in values:
        values["sampling_rate"] *= sampling.population / population
    return sampling_from_dict(values)


def _check_separation(name: str, separation: int | None, participations: int | None) -> None:
    """Raises InputError unless these settings are given where they belong."""
    if name == MinSeparationSampling.name:
        if separation is None:
            raise InputError(
                "min_separation is not given, which sampling='min_separation' needs; give the "
                "rounds from one participation of a client to its next, such as 10"
            )
        return
    for setting, value in (("min_separation", separation), ("max_participations", participations)):
        if value is not None:
            raise InputError(
                f"{setting}={value} does not go with sampling={name!r}, which promises no such "
                "thing; leave it out or use sampling='min_separation'"
            )


def sampling_from_dict(values: Mapping[str, Any]) -> ClientSampling:
    """Returns the sampling that `to_dict` described.

    Raises:
      InputError: If the name is unknown or a setting is missing, unknown or does not fit.
    """
    settings = dict(values)
    name = settings.pop("name", None)
    require_choice("sampling", name, _SAMPLINGS)
    try:
        return _SAMPLINGS[name](**settings)
    except TypeError as error:
        raise InputError(
            f"sampling={dict(values)} is not what {name!r} takes ({error}); correct its settings"
        ) from error


@functools.lru_cache(maxsize=4)
def _dealing_order(seed: int, population: int) -> np.ndarray:
    """All clients in the order in which they are dealt out into groups."""
    return randomness.generator(seed, "min_separation_groups").permutation(population)


def _uniform_subset(generator: np.random.Generator, population: int, size: int) -> np.ndarray:
    """Draws a sorted uniform subset; numpy picks Floyd's method where the subset is small."""
    return np.sort(generator.choice(population, size=size, replace=False, shuffle=False))
