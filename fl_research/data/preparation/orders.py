"""Preparation `orders`: order lines into the history of each customer, as for churn by inactivity.

New orders are looked at from the day after the last of them, or from a cut date that is given; no
label is made, so that the customers of today can be scored. Where the clients of the training were
groups of customers, such as shops, a row is one customer in one group; `beside` names the group.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from fl_research.data.datasets import online_retail_orders
from fl_research.data.inactivity import (
    CUSTOMER,
    GROUP,
    InactivityConfig,
    customer_histories,
    read_cut,
    schema,
)
from fl_research.data.order_lines import OrderColumns, OrderLines, read_order_lines
from fl_research.data.prepared import Prepared
from fl_research.data.schema import encode_features

KIND = "orders"
FEATURE = "inputs"
NAMES = CUSTOMER
"""What `ids` name: one row a customer, not one a record."""
_DAY = pd.Timedelta(days=1)
_AS_PUBLISHED = "InvoiceNo"


def settings_of(columns: OrderColumns, config: InactivityConfig, reader: str) -> dict[str, Any]:
    """Returns the preparation as a task and a saved model have it, plain JSON.

    Args:
      columns: Of the order lines.
      config: As for the labelled customers; its cut date is not used again.
      reader: `"online_retail"`, for lines as that shop publishes them; `"table"` otherwise.
    """
    rules = {name: value for name, value in config.to_dict().items() if name != "cut_date"}
    return {
        "kind": KIND,
        "reader": reader,
        "columns": columns.to_dict(),
        "cut_date": None,
        "inactivity": rules,
    }


def prepare(records: pd.DataFrame, settings: Mapping[str, Any]) -> Prepared:
    """Returns the features of each customer who bought in the history; `ids` are their names.

    Where the columns have a group: of each customer in each group.

    Args:
      records: Order lines; for the reader `online_retail` also as published.
      settings: From `settings_of`; `cut_date` None is the day after the last line.

    Raises:
      InputError: A column is missing, a cell is refused, or nobody bought in the history.
    """
    cleaning: dict[str, int] = {}
    if settings["reader"] == "online_retail" and _AS_PUBLISHED in records.columns:
        records, cleaning = online_retail_orders.signed_lines(records)
    columns = OrderColumns(**settings["columns"])
    lines = read_order_lines(records, columns)
    config = InactivityConfig(cut_date=_cut(lines, settings), **settings["inactivity"])
    histories = customer_histories(lines, config)
    rows = histories.records
    encoded = encode_features(rows, schema(config, client=GROUP if columns.group else CUSTOMER))
    dropped = {rule: count for rule, count in cleaning.items() if rule.endswith("left out")}
    dropped |= {rule: count for rule, count in lines.cleaning.items() if rule.endswith("left out")}
    dropped |= {
        f"customers without a purchase in the {config.history_days} days before "
        f"{config.cut_date} left out": histories.without_history,
    }
    return Prepared(
        features={FEATURE: encoded.inputs},
        ids=rows[CUSTOMER].to_numpy(),
        dropped={rule: count for rule, count in dropped.items() if count},
        beside={"client": rows[GROUP].to_numpy()} if columns.group else {},
    )


def _cut(lines: OrderLines, settings: Mapping[str, Any]) -> str:
    """The cut date that is given, or the day after the last line."""
    if settings["cut_date"] is not None:
        return str(read_cut(settings["cut_date"]).date())
    return str((lines.frame["time"].max().floor("D") + _DAY).date())
