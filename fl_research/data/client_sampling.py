"""Client sampling: which clients take part in a round, a pure function of (seed, round).

Poisson sampling takes each client with the same probability, independently. It is drawn exactly
and in the cost of the cohort: the cohort's size is binomial, and given its size every subset is
equally likely. Fixed-size sampling takes a uniform subset without replacement. Both are
independent over rounds, which is what amplification by sampling rests on (Mironov, Talwar and
Zhang 2019, "Rényi differential privacy of the sampled Gaussian mechanism"; Wang, Balle and
Kasiviswanathan 2019, "Subsampled Rényi differential privacy").
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np

from fl_research import randomness
from fl_research.argument_checks import require_at_least, require_choice
from fl_research.errors import InputError

_PURPOSE = "client_sampling"


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
        """The mean size of a cohort, a public constant."""

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


_SAMPLINGS: dict[str, type[ClientSampling]] = {
    PoissonSampling.name: PoissonSampling,
    FixedSizeSampling.name: FixedSizeSampling,
    FullParticipation.name: FullParticipation,
}


def build_client_sampling(
    name: str,
    *,
    population: int,
    clients_per_round: float | None = None,
    sampling_rate: float | None = None,
) -> ClientSampling:
    """Builds a sampling from what a user says.

    Args:
      name: "poisson", "fixed_size" or "full".
      population: The number of clients that can be sampled.
      clients_per_round: The cohort's size; under Poisson sampling the expected one.
      sampling_rate: The fraction of the population in a cohort, in `(0, 1]`. Under fixed-size
        sampling the cohort is that fraction rounded to the nearest whole number.

    Raises:
      InputError: If the name is unknown, a value does not fit, or not exactly one of
        `clients_per_round` and `sampling_rate` is given ("full" takes neither).
    """
    require_choice("sampling", name, _SAMPLINGS)
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
    if name == PoissonSampling.name:
        if clients_per_round is not None:
            sampling_rate = clients_per_round / population
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


def _uniform_subset(generator: np.random.Generator, population: int, size: int) -> np.ndarray:
    """Draws a sorted uniform subset; numpy picks Floyd's method where the subset is small."""
    return np.sort(generator.choice(population, size=size, replace=False, shuffle=False))
