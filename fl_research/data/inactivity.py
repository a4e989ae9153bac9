"""Churn by inactivity: will a customer who ordered before a cut date order again soon after it?

Where customers can leave without giving notice, a customer has left who places no order for a while
(Buckinx and Van den Poel 2005, "Customer base analysis: partial defection of behaviourally loyal
clients in a non-contractual FMCG retail setting"). Time is cut once. What a customer did in the
history before the cut becomes one row of features: recency, frequency, monetary value and how
they changed lately. Whether an order was placed in the window after the cut becomes the label. No
feature sees anything of the cut's day or later, and the label's window lies wholly in the data, so
that "no order" is never "no data yet". Customers without an order in the history have no row.

Where clients are groups of customers, such as shops, a row is one customer in one group: features
and label come from its lines in that group alone. A customer of two shops has a row in each, so
that what one shop knows changes no other shop's rows.

Bounds of the features follow from the length of the history and two numbers that a shop knows of
itself, not from the orders.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from fl_research.argument_checks import require_at_least, require_positive
from fl_research.data.order_lines import OrderLines
from fl_research.data.schema import Column, Schema
from fl_research.errors import InputError

CUSTOMER, GROUP, LABEL = "customer", "group", "left"
RECENT_DAYS = (30, 90)
_DAY = pd.Timedelta(days=1)
_MOST_DAYS = 36_500
# So that neither the history nor the window leaves what a time in nanoseconds can say.
_FIRST_YEAR, _LAST_YEAR = 1800, 2150
_MOST_OVERDUE = 20.0  # Times the customer's own gap; beyond it a customer is long gone.


@dataclasses.dataclass(frozen=True, kw_only=True)
class InactivityConfig:
    """What counts as leaving, and the public bounds of the features.

    Attributes:
      cut_date: First day of the label's window, such as `"2011-09-10"`, in the years 1800 to 2150;
        features end before it.
      inactivity_days: Days without an order that make a customer one who left, 1 to 36,500.
      history_days: Days before the cut that are looked at, 1 to 36,500.
      spend_bound: Public upper bound of what a customer spends in the history; more counts as
        this much.
      orders_bound: The same for the number of orders, and ten times it for that of items.

    Raises:
      InputError: A value is out of range, or the cut is no date.
    """

    cut_date: str
    inactivity_days: int = 90
    history_days: int = 365
    spend_bound: float = 100_000.0
    orders_bound: int = 200

    def __post_init__(self) -> None:
        for name in ("inactivity_days", "history_days", "orders_bound"):
            require_at_least(name, getattr(self, name), 1)
        for name in ("inactivity_days", "history_days"):
            if getattr(self, name) > _MOST_DAYS:
                raise InputError(
                    f"{name}={getattr(self, name)} is not possible; give at most {_MOST_DAYS} days"
                )
        require_positive("spend_bound", self.spend_bound)
        read_cut(self.cut_date)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `InactivityConfig(**config.to_dict())` gives it back."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CustomerHistories:
    """What customers did before the cut.

    Attributes:
      records: A row a customer, by rising name: `customer` and a column for each feature of
        `schema`. Where the lines have a group, a row a customer and `group`.
      without_history: Customers (where there are groups: customers of a group) that have lines but
        no purchase in the history.
    """

    records: pd.DataFrame
    without_history: int


def read_cut(cut_date: Any) -> pd.Timestamp:
    """Returns midnight of a day written as 2011-09-10.

    Raises:
      InputError: It is not such a day, or not in the years 1800 to 2150.
    """
    try:
        if not isinstance(cut_date, str):
            raise ValueError
        cut = pd.Timestamp(pd.to_datetime(cut_date, format="%Y-%m-%d"))
    except ValueError:
        raise InputError(f"cut_date={cut_date!r} is no day; write it as 2011-09-10") from None
    if not _FIRST_YEAR <= cut.year <= _LAST_YEAR:
        raise InputError(
            f"cut_date={cut_date!r} is not possible; give a day in the years {_FIRST_YEAR} to "
            f"{_LAST_YEAR}"
        )
    return cut


def latest_cut(lines: OrderLines, inactivity_days: int) -> str:
    """Returns the last day that leaves the whole window of the label in the data."""
    last = lines.frame["time"].max()
    return str((last.floor("D") - inactivity_days * _DAY).date())


def labelled_customers(lines: OrderLines, config: InactivityConfig) -> CustomerHistories:
    """Returns histories with the label: `left` is "yes" without an order in the window.

    Where the lines have groups, an order in another group does not count.

    Args:
      lines: All order lines.
      config: Where time is cut, and how.

    Raises:
      InputError: The window ends after the last line, or nobody bought in the history.
    """
    cut, times = read_cut(config.cut_date), lines.frame["time"]
    end = cut + config.inactivity_days * _DAY
    if end > times.max():
        raise InputError(
            f"cut_date={config.cut_date} and inactivity_days={config.inactivity_days} look until "
            f"{end.date()}, but the orders end on {times.max().date()}; the latest cut is "
            f"{latest_cut(lines, config.inactivity_days)}"
        )
    histories = customer_histories(lines, config)
    in_window = (times >= cut) & (times < end) & (lines.frame["amount"] > 0)
    keys = _keys(lines.frame)
    bought = lines.frame.loc[in_window, keys].drop_duplicates().set_index(keys).index
    stayed = histories.records.set_index(keys).index.isin(bought)
    records = histories.records.assign(**{LABEL: np.where(stayed, "no", "yes")})
    return dataclasses.replace(histories, records=records)


def customer_histories(lines: OrderLines, config: InactivityConfig) -> CustomerHistories:
    """Returns the features of each customer who bought in the history; looks at nothing later.

    Where the lines have groups, of each customer in each group, from its lines there alone.

    Raises:
      InputError: Nobody bought in the history.
    """
    cut = read_cut(config.cut_date)
    frame = lines.frame
    before = frame[(frame["time"] < cut) & (frame["time"] >= cut - config.history_days * _DAY)]
    purchases = before[before["amount"] > 0]
    if purchases.empty:
        raise InputError(
            f"cut_date={config.cut_date}: no customer bought anything in the "
            f"{config.history_days} days before it; the orders run from "
            f"{frame['time'].min().date()} to {frame['time'].max().date()}"
        )
    keys = _keys(frame)
    orders = _orders(purchases, cut, keys)
    features = _rhythm(orders, keys) | _volume(orders, purchases, before, keys)
    records = pd.DataFrame(features).rename_axis(keys).reset_index()
    return CustomerHistories(
        records=records,
        without_history=len(frame[keys].drop_duplicates()) - len(records),
    )


def schema(config: InactivityConfig, *, client: str = CUSTOMER) -> Schema:
    """Returns the public schema of what `labelled_customers` gives, label and client in it.

    Args:
      config: Bounds follow from it.
      client: `"customer"`, or `"group"` where groups are the clients.
    """
    days, spend, orders = config.history_days, config.spend_bound, config.orders_bound
    other = [] if client == CUSTOMER else [Column(name=CUSTOMER, kind="ignore")]
    return Schema(
        columns=(
            *other,
            Column(name=client, kind="client"),
            _number("recency_days", days),
            _number("tenure_days", days),
            _number("mean_gap_days", days, log=True),
            _number("overdue", _MOST_OVERDUE, log=True),
            _number("orders", orders, log=True),
            *(_number(f"orders_{recent}_days", orders, log=True) for recent in RECENT_DAYS),
            _number("spend", spend, log=True),
            *(_number(f"spend_{recent}_days", spend, log=True) for recent in RECENT_DAYS),
            _number("spend_an_order", spend, log=True),
            _number("items", 10 * orders, log=True),
            _number("cancelled_share", 1),
            Column(name=LABEL, kind="label", values=("no", "yes"), positive="yes"),
        )
    )


def _keys(frame: pd.DataFrame) -> list[str]:
    """The columns that say whose row a line belongs to."""
    return [CUSTOMER, GROUP] if GROUP in frame else [CUSTOMER]


def _orders(purchases: pd.DataFrame, cut: pd.Timestamp, keys: list[str]) -> pd.DataFrame:
    """A row an order: the keys, `days` before the cut (a fraction, above 0), `amount`."""
    orders = purchases.groupby([*keys, "order"], sort=True, as_index=False).agg(
        time=("time", "min"), amount=("amount", "sum")
    )
    orders["days"] = (cut - orders["time"]) / _DAY
    return orders


def _rhythm(orders: pd.DataFrame, keys: list[str]) -> dict[str, "pd.Series[Any]"]:
    """Features of when a customer ordered, by the keys.

    The gap of a customer with one order is not known; it is at least the time since, which stands
    in for it.
    """
    by_customer = orders.groupby(keys)["days"]
    recency, tenure, number = by_customer.min(), by_customer.max(), by_customer.size()
    gap = ((tenure - recency) / (number - 1).clip(lower=1)).where(number > 1, recency)
    return {
        "recency_days": recency,
        "tenure_days": tenure,
        "mean_gap_days": gap,
        # Several orders in one hour are one visit: no gap is shorter than a day here.
        "overdue": recency / gap.clip(lower=1.0),
    }


def _volume(
    orders: pd.DataFrame, purchases: pd.DataFrame, before: pd.DataFrame, keys: list[str]
) -> dict[str, "pd.Series[Any]"]:
    """Features of how much a customer ordered, by the keys."""
    by_customer = orders.groupby(keys)
    number, spend = by_customer.size(), by_customer["amount"].sum()
    features = {"orders": number, "spend": spend, "spend_an_order": spend / number}
    for recent in RECENT_DAYS:
        lately = orders[orders["days"] <= recent].groupby(keys)
        for name, values in (("orders", lately.size()), ("spend", lately["amount"].sum())):
            features[f"{name}_{recent}_days"] = values.reindex(number.index, fill_value=0)
    taken_back = before[before["amount"] < 0].groupby(keys)["amount"].sum()
    cancelled = taken_back.reindex(number.index, fill_value=0.0).abs()
    features["items"] = purchases.groupby(keys)["item"].nunique()
    features["cancelled_share"] = (cancelled / spend).clip(upper=1.0)
    return features


def _number(name: str, maximum: float, *, log: bool = False) -> Column:
    """A number from 0 to a bound; what is beyond counts as the bound."""
    scale = "log1p" if log else "linear"
    return Column(name=name, kind="number", minimum=0, maximum=maximum, scale=scale)
