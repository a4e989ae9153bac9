"""A seeded telecom provider: customers with monthly usage records and a known law of churn.

Each customer belongs to a branch. Branches differ in size, in how likely their customers are to
leave and in what their customers are like (tenure, contracts, fibre, usage, complaints), so that a
cut by branch is not IID. A record is one month of a customer: contract, tenure, charge, minutes,
data, complaints, support calls. `churn` says whether the customer gave notice in that month (the
retention desk wins customers back, so that later months exist); it is drawn for each record from a
logistic model of the record's own columns with two interactions: complaints weigh more without a
contract term, and data use binds fibre customers. Because the model is known, so is the true
probability of each record, and with it the best AUC that any model can reach.
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

CONTRACTS = ("month_to_month", "one_year", "two_year")
INTERNET = ("none", "dsl", "fiber")
PAYMENT_METHODS = ("bank_transfer", "credit_card", "electronic_check", "mailed_check")
MAX_TENURE = 120
MAX_CHARGE = 150.0
MAX_MINUTES = 3000.0
MAX_DATA_GB = 1000.0
MAX_COMPLAINTS = 5
MAX_SUPPORT_CALLS = 10

# The law of churn, on the log-odds scale.
_CONTRACT_EFFECT = {"month_to_month": 0.0, "one_year": -1.0, "two_year": -2.0}
_INTERNET_EFFECT = {"none": -0.7, "dsl": 0.0, "fiber": 2.8}
_PAYMENT_EFFECT = {
    "bank_transfer": 0.0,
    "credit_card": -0.1,
    "electronic_check": 0.5,
    "mailed_check": 0.1,
}
_TENURE_EFFECT = -0.03  # a month
_CHARGE_EFFECT = 0.02  # a unit of money
_COMPLAINT_EFFECT = 0.2
_COMPLAINT_WITHOUT_TERM_EFFECT = 1.2  # on top, where the contract is month to month
_SUPPORT_CALL_EFFECT = 0.25
_FIBER_DATA_EFFECT = -0.8  # of log1p(data_gb), for fibre customers


@dataclasses.dataclass(frozen=True, kw_only=True)
class TelecomConfig:
    """Settings of the generator.

    Attributes:
      num_customers: How many customers, 1 or more.
      min_months: Fewest records a customer has, 1 or more.
      max_months: Most records a customer has, up to 60; uniform in between.
      num_branches: How many branches, 1 to 99.
      branch_spread: How far branches differ, 0 (all alike) to 3.
      churn_rate: Mean true probability over the records, in (0, 1).

    Raises:
      InputError: If a value is out of range.
    """

    num_customers: int = 4000
    min_months: int = 3
    max_months: int = 12
    num_branches: int = 8
    branch_spread: float = 1.0
    churn_rate: float = 0.25

    def __post_init__(self) -> None:
        require_at_least("num_customers", self.num_customers, 1)
        if not 1 <= self.min_months <= self.max_months <= 60:
            raise InputError(
                f"min_months={self.min_months} and max_months={self.max_months} are no range; "
                "give 1 <= min_months <= max_months <= 60"
            )
        if not 1 <= self.num_branches <= 99:
            raise InputError(f"num_branches={self.num_branches} is out of range; give 1 to 99")
        if not 0 <= self.branch_spread <= 3:
            raise InputError(f"branch_spread={self.branch_spread} is out of range; give 0 to 3")
        if not 0 < self.churn_rate < 1:
            raise InputError(f"churn_rate={self.churn_rate} is out of range; give one in (0, 1)")


@dataclasses.dataclass(frozen=True, eq=False)
class TelecomRecords:
    """What the generator returns.

    Attributes:
      records: One row a customer and month, sorted by customer.
      schema: What is publicly known of the columns.
      churn_probability: float64 `[rows]`, the true probability that `churn` is "yes".
      intercept: The log-odds of the reference record.
      branch_effects: Branch to its part of the log-odds.
    """

    records: pd.DataFrame
    schema: Schema
    churn_probability: np.ndarray
    intercept: float
    branch_effects: Mapping[str, float]


def branch_names(config: TelecomConfig) -> tuple[str, ...]:
    """Returns the names of the branches, which are public."""
    return tuple(f"branch_{index:02d}" for index in range(1, config.num_branches + 1))


def build_schema(config: TelecomConfig) -> Schema:
    """Returns the public schema: it follows from the settings, not from generated records."""
    return Schema(
        columns=(
            Column(name="customer_id", kind="client"),
            Column(name="branch", kind="category", values=branch_names(config)),
            Column(name="month", kind="ignore"),
            Column(name="tenure_months", kind="number", minimum=0, maximum=MAX_TENURE),
            Column(name="contract", kind="category", values=CONTRACTS),
            Column(name="internet", kind="category", values=INTERNET),
            Column(name="payment_method", kind="category", values=PAYMENT_METHODS),
            Column(name="monthly_charge", kind="number", minimum=0, maximum=MAX_CHARGE),
            Column(
                name="call_minutes", kind="number", minimum=0, maximum=MAX_MINUTES, scale="log1p"
            ),
            Column(name="data_gb", kind="number", minimum=0, maximum=MAX_DATA_GB, scale="log1p"),
            Column(name="complaints", kind="number", minimum=0, maximum=MAX_COMPLAINTS),
            Column(name="support_calls", kind="number", minimum=0, maximum=MAX_SUPPORT_CALLS),
            Column(name="churn", kind="label", values=("no", "yes"), positive="yes"),
        )
    )


def generate(config: TelecomConfig, seed: int) -> TelecomRecords:
    """Returns the records of a seeded provider, with the truth about them."""
    generator = randomness.generator(seed, "synthetic_telecom")
    names = branch_names(config)
    traits = config.branch_spread * generator.standard_normal((config.num_branches, 6))
    effects = {name: 0.6 * float(trait) for name, trait in zip(names, traits[:, 0], strict=True)}
    customers = _draw_customers(config, traits, generator)
    records = _draw_months(config, customers, generator)
    log_odds = churn_log_odds(records, intercept=0.0, branch_effects=effects)
    intercept = solve_intercept(log_odds, config.churn_rate)
    probability = sigmoid(log_odds + intercept)
    left = generator.random(len(records)) < probability
    records["churn"] = np.where(left, "yes", "no")
    return TelecomRecords(records, build_schema(config), probability, intercept, effects)


def churn_log_odds(
    records: pd.DataFrame, *, intercept: float, branch_effects: Mapping[str, float]
) -> np.ndarray:
    """Returns the true log-odds of churn `[rows]` as a function of the published columns."""
    without_term = (records["contract"] == "month_to_month").to_numpy()
    fiber = (records["internet"] == "fiber").to_numpy()
    complaints = records["complaints"].to_numpy()
    return (
        intercept
        + records["branch"].map(branch_effects).to_numpy(float)
        + records["contract"].map(_CONTRACT_EFFECT).to_numpy(float)
        + records["internet"].map(_INTERNET_EFFECT).to_numpy(float)
        + records["payment_method"].map(_PAYMENT_EFFECT).to_numpy(float)
        + _TENURE_EFFECT * records["tenure_months"].to_numpy()
        + _CHARGE_EFFECT * (records["monthly_charge"].to_numpy() - 60)
        + (_COMPLAINT_EFFECT + _COMPLAINT_WITHOUT_TERM_EFFECT * without_term) * complaints
        + _SUPPORT_CALL_EFFECT * records["support_calls"].to_numpy()
        + _FIBER_DATA_EFFECT * fiber * np.log1p(records["data_gb"].to_numpy())
    )


def _draw_customers(
    config: TelecomConfig, traits: np.ndarray, generator: np.random.Generator
) -> pd.DataFrame:
    """Draws what stays the same over a customer's months; branches lean by their traits."""
    count = config.num_customers
    weights = 1 / np.sqrt(np.arange(1, config.num_branches + 1))
    branch = generator.choice(config.num_branches, count, p=weights / weights.sum())
    lean = traits[branch]
    mean_tenure = 30 * np.exp(0.3 * lean[:, 1])
    tenure = np.minimum(generator.exponential(mean_tenure), MAX_TENURE - config.max_months)
    bound = generator.random(count) < sigmoid(-0.8 + 0.03 * tenure + 0.5 * lean[:, 2])
    two_years = generator.random(count) < 0.45
    internet_draw = generator.random(count)
    fiber_share = 0.8 * sigmoid(0.1 + 0.8 * lean[:, 3])
    return pd.DataFrame(
        {
            "branch": np.array(branch_names(config))[branch],
            "tenure_at_start": tenure.astype(np.int64),
            "contract": np.array(CONTRACTS)[np.where(bound, 1 + two_years, 0)],
            "internet": np.array(INTERNET)[
                np.where(internet_draw < fiber_share, 2, np.where(internet_draw < 0.8, 1, 0))
            ],
            "payment_method": generator.choice(PAYMENT_METHODS, count, p=(0.25, 0.25, 0.32, 0.18)),
            "usage": 0.6 * generator.standard_normal(count) + 0.3 * lean[:, 4],
            "annoyance": 0.7 * generator.standard_normal(count) + 0.3 * lean[:, 5],
        }
    )


def _draw_months(
    config: TelecomConfig, customers: pd.DataFrame, generator: np.random.Generator
) -> pd.DataFrame:
    """Draws the monthly records of all customers, without the label."""
    months = generator.integers(config.min_months, config.max_months + 1, len(customers))
    owner = np.repeat(np.arange(len(customers)), months)
    month = np.arange(len(owner)) - np.repeat(np.cumsum(months) - months, months)
    rows = customers.iloc[owner].reset_index(drop=True)
    size = len(rows)
    noise = generator.standard_normal((3, size))
    minutes = np.exp(5.5 + 0.6 * rows["usage"] + 0.4 * noise[0])
    typical_gb = rows["internet"].map({"none": 0.0, "dsl": 30.0, "fiber": 80.0})
    data_gb = typical_gb * np.exp(rows["usage"] + 0.5 * noise[1])
    charge = 20 + rows["internet"].map({"none": 0.0, "dsl": 25.0, "fiber": 50.0})
    charge = charge + 0.02 * np.minimum(minutes, 1500) + 5 * noise[2]
    annoyance = rows["annoyance"].to_numpy()
    return pd.DataFrame(
        {
            "customer_id": np.char.mod("C%07d", owner + 1),
            "branch": rows["branch"],
            "month": month + 1,
            "tenure_months": rows["tenure_at_start"] + month,
            "contract": rows["contract"],
            "internet": rows["internet"],
            "payment_method": rows["payment_method"],
            "monthly_charge": np.clip(charge, 5, MAX_CHARGE).round(2),
            "call_minutes": np.minimum(minutes, MAX_MINUTES).round(0),
            "data_gb": np.minimum(data_gb, MAX_DATA_GB).round(1),
            "complaints": np.minimum(generator.poisson(np.exp(-1.3 + annoyance)), MAX_COMPLAINTS),
            "support_calls": np.minimum(
                generator.poisson(np.exp(0.1 + 0.6 * annoyance)), MAX_SUPPORT_CALLS
            ),
        }
    )
