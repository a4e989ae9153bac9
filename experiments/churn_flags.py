"""Flags of churn by inactivity, where customers leave without giving notice.

Only absl is imported, so that `--help` answers at once.
"""

from absl import flags

flags.DEFINE_string(
    "cut_date",
    None,
    "Churn by inactivity: features end before this day, the label begins with it (online_retail: "
    "2011-09-10; to score new orders: the day after the last one).",
)
flags.DEFINE_integer(
    "inactivity_days",
    None,
    "Churn by inactivity: a customer without an order in so many days after the cut has left (90); "
    "with --user_column beside --client_column, without an order with that client.",
)
flags.DEFINE_integer(
    "history_days", None, "Churn by inactivity: days before the cut that features look at (365)."
)
flags.DEFINE_string(
    "order_column",
    None,
    "Churn by inactivity: column of the order's number; without it, lines of one moment are one "
    "order.",
)
flags.DEFINE_float(
    "customer_spend_bound",
    None,
    "Churn by inactivity: public upper bound of what a customer spends in the history (100000).",
)
