"""A seeded chain of stores: weekly demand with a known level, trend, season and noise.

A store's expected demand in week t is `level * (1 + trend * t) * (1 + strength * season(t))`. The
season repeats after `season` weeks and has one shape for all stores; how strong it is, and level
and trend, differ from store to store. What is sold is the expected demand times
`1 + noise * z` with standard normal z, and never below zero. With noise up to 0.3 zero is more than
three standard deviations away, so that the expected demand is also the median: no forecast has a
smaller expected error, absolute or squared, and the quantiles are known in closed form.
"""

import dataclasses

import numpy as np
import pandas as pd
from scipy import stats

from fl_research import randomness
from fl_research.argument_checks import require_at_least
from fl_research.errors import InputError

_FIRST_WEEK = np.datetime64("2023-01-02", "D")  # a Monday
_MEDIAN_LEVEL = 100.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemandConfig:
    """Settings of the generator.

    Attributes:
      num_stores: How many stores, 1 or more.
      num_weeks: Weeks of records, 1 or more.
      season: Weeks after which demand repeats, 3 or more.
      season_strength: Mean strength of the season, in [0, 0.5]; a store's is up to half as much
        more or less.
      trend: Standard deviation over stores of the growth a week as a share of the level, in
        [0, 0.003].
      level_spread: Standard deviation of the log of the level, in [0, 2].
      noise: Standard deviation of what is sold, as a share of the expected demand, in [0, 0.3].
      opening_weeks: A store opens in one of so many first weeks, 1 up to `num_weeks`.

    Raises:
      InputError: If a value is out of range.
    """

    num_stores: int = 1000
    num_weeks: int = 78
    season: int = 13
    season_strength: float = 0.4
    trend: float = 0.001
    level_spread: float = 0.7
    noise: float = 0.2
    opening_weeks: int = 20

    def __post_init__(self) -> None:
        require_at_least("num_stores", self.num_stores, 1)
        require_at_least("num_weeks", self.num_weeks, 1)
        require_at_least("season", self.season, 3)
        for name, high in (
            ("season_strength", 0.5),
            ("trend", 0.003),
            ("level_spread", 2.0),
            ("noise", 0.3),
        ):
            if not 0 <= getattr(self, name) <= high:
                raise InputError(
                    f"{name}={getattr(self, name)} is out of range; give 0 to {high:g}"
                )
        if not 1 <= self.opening_weeks <= self.num_weeks:
            raise InputError(
                f"opening_weeks={self.opening_weeks} is out of range; give 1 to {self.num_weeks}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class DemandRecords:
    """What the generator returns.

    Attributes:
      records: One row a store and week: store, week (its Monday), units.
      expected: float64 [rows], the expected demand of each record.
      noise: Standard deviation of units as a share of the expected demand.
    """

    records: pd.DataFrame
    expected: np.ndarray
    noise: float

    def quantile(self, q: float) -> np.ndarray:
        """Returns the true quantile of each record's units, float64 [rows]."""
        return np.maximum(self.expected * (1 + self.noise * stats.norm.ppf(q)), 0.0)

    @property
    def mean_absolute_error(self) -> float:
        """The error that the truth itself has on these records; no forecast is better but by luck.

        The expected one is the mean of `expected * noise * sqrt(2 / pi)`.
        """
        return float(np.abs(self.records["units"] - self.expected).mean())


def generate(config: DemandConfig, seed: int) -> DemandRecords:
    """Returns the records of a seeded chain of stores, with the truth about them."""
    generator = randomness.generator(seed, "synthetic_demand")
    stores, weeks = config.num_stores, config.num_weeks
    level = _MEDIAN_LEVEL * np.exp(config.level_spread * generator.standard_normal(stores))
    trend = np.clip(config.trend * generator.standard_normal(stores), -0.006, 0.006)
    strength = config.season_strength * generator.uniform(0.5, 1.5, stores)
    opening = generator.integers(0, config.opening_weeks, stores)
    week = np.arange(weeks)
    expected = level[:, None] * np.maximum(1 + trend[:, None] * week, 0.1)
    expected = expected * (1 + strength[:, None] * season_shape(config, week))
    factor = 1 + config.noise * generator.standard_normal([stores, weeks])
    units = np.maximum(expected * factor, 0.0)
    open_yet = week >= opening[:, None]
    store, at = np.nonzero(open_yet)
    records = pd.DataFrame(
        {
            "store": np.char.mod("S%05d", store + 1),
            "week": _FIRST_WEEK + 7 * at,
            "units": units[open_yet],
        }
    )
    return DemandRecords(records, expected[open_yet], config.noise)


def season_shape(config: DemandConfig, week: np.ndarray) -> np.ndarray:
    """Returns the season of each week, in [-1, 1] with mean zero over a season."""
    angle = 2 * np.pi * (week % config.season) / config.season
    return (np.sin(angle) + 0.5 * np.cos(2 * angle)) / 1.5
