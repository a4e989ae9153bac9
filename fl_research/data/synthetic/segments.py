"""Seeded customers of a known number of segments, in departments that serve different mixes.

Each segment has a profile: a point among the public bounds of the numbers (age, months with us,
visits, spend, discounts, support calls), far from those of the other segments, and preferences for
each category. A customer's numbers scatter around the profile on the scale of the schema, normal
with `spread`, and stay within the bounds. Departments draw their customers' segments from a mix of
their own (Dirichlet), so that a cut by department is not IID.

`high_value` says whether a customer is worth much. Its log-odds add the segment's part, spend, the
department's part, and months with us with a weight that differs over departments: one model for all
departments cannot know that weight, a department's own last layer can.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from fl_research import randomness
from fl_research.argument_checks import require_at_least
from fl_research.data.schema import Column, Schema
from fl_research.data.synthetic.log_odds import sigmoid, solve_intercept
from fl_research.errors import InputError

NUMBERS = (
    Column(name="age", kind="number", minimum=18, maximum=90),
    Column(name="months_with_us", kind="number", minimum=0, maximum=240),
    Column(name="visits_a_year", kind="number", minimum=0, maximum=300, scale="log1p"),
    Column(name="spend_a_year", kind="number", minimum=0, maximum=50_000, scale="log1p"),
    Column(name="discount_percent", kind="number", minimum=0, maximum=60),
    Column(name="support_calls_a_year", kind="number", minimum=0, maximum=40, scale="log1p"),
)
CATEGORIES = (
    Column(name="channel", kind="category", values=("shop", "web", "app", "phone")),
    Column(name="payment", kind="category", values=("card", "invoice", "direct_debit")),
    Column(name="household", kind="category", values=("single", "couple", "family")),
)
SEGMENT_COLUMN = "segment"
MAX_SEGMENTS = 12
_DECIMALS = {"spend_a_year": 2, "discount_percent": 1}
_CANDIDATES = 200  # Random points from which each profile is the one farthest from all before.
_SEGMENT_EFFECT = 1.5  # From minus this to this, in equal steps, in an order that is drawn.
_DEPARTMENT_EFFECT = 0.5
_SPEND_EFFECT = 2.0
_MONTHS_EFFECT = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentsConfig:
    """Settings of the generator.

    Attributes:
      num_customers: How many customers, one row each, 1 or more.
      num_segments: How many segments, 2 to 12.
      num_departments: How many departments, 1 to 99.
      spread: Standard deviation of a number around its segment's profile, where the public bounds
        are -1 and 1; above 0, at most 1.
      mix: Concentration of the departments' mixes; small: each serves few segments; above 0.
      department_spread: How far departments differ in who is worth much, 0 (all alike) to 3.
      high_value_rate: Mean true probability to be worth much, in (0, 1).

    Raises:
      InputError: A value is out of range.
    """

    num_customers: int = 6000
    num_segments: int = 5
    num_departments: int = 12
    spread: float = 0.25
    mix: float = 1.0
    department_spread: float = 0.7
    high_value_rate: float = 0.3

    def __post_init__(self) -> None:
        require_at_least("num_customers", self.num_customers, 1)
        for name, value, low, high in (
            ("num_segments", self.num_segments, 2, MAX_SEGMENTS),
            ("num_departments", self.num_departments, 1, 99),
            ("department_spread", self.department_spread, 0, 3),
        ):
            if not low <= value <= high:
                raise InputError(f"{name}={value} is out of range; give {low} to {high}")
        for name, value, most in (
            ("spread", self.spread, 1.0),
            ("mix", self.mix, 1000.0),
            ("high_value_rate", self.high_value_rate, 0.999),
        ):
            if not 0 < value <= most:
                raise InputError(f"{name}={value} is out of range; give one above 0, up to {most}")


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentRecords:
    """What the generator returns.

    Attributes:
      records: One row a customer, with the true segment in `segment`.
      schema: What is publicly known of the columns; the true segment is no feature.
      segment: int64 `[rows]`, the true segment, from 0.
      high_value_probability: float64 `[rows]`, the true probability that `high_value` is "yes".
      profiles: float64 `[segments, numbers]`, the middle of each segment's numbers, encoded.
      mixes: float64 `[departments, segments]`, each department's shares.
      months_effect: Department to the weight of months with us in the log-odds.
      department_effect: Department to its part of the log-odds.
      segment_effect: float64 `[segments]`, each segment's part of the log-odds.
      intercept: What is left of the log-odds.
    """

    records: pd.DataFrame
    schema: Schema
    segment: np.ndarray
    high_value_probability: np.ndarray
    profiles: np.ndarray
    mixes: np.ndarray
    months_effect: Mapping[str, float]
    department_effect: Mapping[str, float]
    segment_effect: np.ndarray
    intercept: float


def department_names(config: SegmentsConfig) -> tuple[str, ...]:
    """Returns the names of the departments, which are public."""
    return tuple(f"department_{index:02d}" for index in range(1, config.num_departments + 1))


def build_schema() -> Schema:
    """Returns the public schema; the same for all settings."""
    return Schema(
        columns=(
            Column(name="customer_id", kind="ignore"),
            Column(name="department", kind="client"),
            *NUMBERS,
            *CATEGORIES,
            Column(name=SEGMENT_COLUMN, kind="ignore"),
            Column(name="high_value", kind="label", values=("no", "yes"), positive="yes"),
        )
    )


def generate(config: SegmentsConfig, seed: int) -> SegmentRecords:
    """Returns seeded customers, with the truth about them."""
    generator = randomness.generator(seed, "synthetic_segments")
    names = department_names(config)
    profiles = _profiles(config.num_segments, generator)
    mixes = generator.dirichlet(np.full(config.num_segments, config.mix), config.num_departments)
    department, segment = _draw_segments(config, mixes, generator)
    numbers = np.clip(
        profiles[segment] + config.spread * generator.standard_normal((len(segment), len(NUMBERS))),
        -1.0,
        1.0,
    )
    records = pd.DataFrame(
        {
            "customer_id": np.char.mod("C%07d", np.arange(1, config.num_customers + 1)),
            "department": np.array(names)[department],
            **{c.name: _in_units(c, numbers[:, i]) for i, c in enumerate(NUMBERS)},
            **{c.name: _draw_category(c, config, segment, generator) for c in CATEGORIES},
            SEGMENT_COLUMN: np.char.mod("segment_%02d", segment + 1),
        }
    )
    traits = config.department_spread * generator.standard_normal((2, config.num_departments))
    months_effect = _MONTHS_EFFECT + traits[0]
    department_effect = _DEPARTMENT_EFFECT * traits[1]
    segment_effect = generator.permutation(
        np.linspace(-_SEGMENT_EFFECT, _SEGMENT_EFFECT, config.num_segments)
    )
    log_odds = high_value_log_odds(
        encoded(records),
        segment_effect=segment_effect[segment],
        department_effect=department_effect[department],
        months_effect=months_effect[department],
    )
    intercept = solve_intercept(log_odds, config.high_value_rate)
    probability = sigmoid(log_odds + intercept)
    worth_much = generator.random(config.num_customers) < probability
    records["high_value"] = np.where(worth_much, "yes", "no")
    return SegmentRecords(
        records=records,
        schema=build_schema(),
        segment=segment,
        high_value_probability=probability,
        profiles=profiles,
        mixes=mixes,
        months_effect=dict(zip(names, months_effect.tolist(), strict=True)),
        department_effect=dict(zip(names, department_effect.tolist(), strict=True)),
        segment_effect=segment_effect,
        intercept=intercept,
    )


def encoded(records: pd.DataFrame) -> np.ndarray:
    """Returns the published numbers on the schema's scale, float64 `[rows, numbers]`."""
    columns = []
    for column in NUMBERS:
        values, (low, high) = records[column.name].to_numpy(float), _bounds(column)
        values = np.log1p(values) if column.scale == "log1p" else values
        columns.append(2 * (values - low) / (high - low) - 1)
    return np.stack(columns, axis=1)


def high_value_log_odds(
    numbers: np.ndarray,
    *,
    segment_effect: np.ndarray,
    department_effect: np.ndarray,
    months_effect: np.ndarray,
) -> np.ndarray:
    """Returns the log-odds of being worth much without the intercept, float64 `[rows]`.

    Args:
      numbers: From `encoded`.
      segment_effect: `[rows]`, of each customer's segment.
      department_effect: `[rows]`, of each customer's department.
      months_effect: `[rows]`, the department's weight of months with us.
    """
    names = [column.name for column in NUMBERS]
    spend = numbers[:, names.index("spend_a_year")]
    months = numbers[:, names.index("months_with_us")]
    return segment_effect + department_effect + _SPEND_EFFECT * spend + months_effect * months


def _profiles(number: int, generator: np.random.Generator) -> np.ndarray:
    """Draws profiles, each the candidate that is farthest from all before it."""
    chosen = [generator.uniform(-0.6, 0.6, len(NUMBERS))]
    while len(chosen) < number:
        candidates = generator.uniform(-0.6, 0.6, (_CANDIDATES, len(NUMBERS)))
        distance = np.linalg.norm(candidates[:, None] - np.stack(chosen)[None], axis=-1)
        chosen.append(candidates[int(np.argmax(distance.min(axis=1)))])
    return np.stack(chosen)


def _draw_segments(
    config: SegmentsConfig, mixes: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws each customer's department and, from the department's mix, segment."""
    weights = 1 / np.sqrt(np.arange(1, config.num_departments + 1))
    department = generator.choice(
        config.num_departments, config.num_customers, p=weights / weights.sum()
    )
    edges = np.cumsum(mixes, axis=1)[department]
    draws = generator.random(config.num_customers)[:, None]
    return department, np.minimum((draws > edges).sum(axis=1), config.num_segments - 1)


def _draw_category(
    column: Column, config: SegmentsConfig, segment: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Draws a category by the preferences of each customer's segment."""
    values = np.array(column.values)
    preferences = generator.dirichlet(np.ones(len(values)), config.num_segments)
    edges = np.cumsum(preferences, axis=1)[segment]
    draws = generator.random(len(segment))[:, None]
    return values[np.minimum((draws > edges).sum(axis=1), len(values) - 1)]


def _bounds(column: Column) -> tuple[float, float]:
    """The public bounds on the column's scale."""
    assert column.minimum is not None and column.maximum is not None
    if column.scale == "log1p":
        return float(np.log1p(column.minimum)), float(np.log1p(column.maximum))
    return column.minimum, column.maximum


def _in_units(column: Column, values: np.ndarray) -> np.ndarray:
    """Turns encoded numbers into the column's units, rounded as such a table has them."""
    low, high = _bounds(column)
    scaled = low + (values + 1) / 2 * (high - low)
    in_units = np.expm1(scaled) if column.scale == "log1p" else scaled
    return np.clip(in_units.round(_DECIMALS.get(column.name, 0)), column.minimum, column.maximum)
