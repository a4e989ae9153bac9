"""From the data flags to the task of churn by inactivity. No TensorFlow.

`--dataset=online_retail` is such a task, and so is the user's own table with `--time_column`: a
table of orders has times and no label. `--client_column` then names the client; `--user_column`
the customer, where a client is a group of customers such as a shop: a row is then a customer of
that shop, made from the orders there alone.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import flags

from experiments import build_task
from experiments.experiment_flags import as_typed
from experiments.flags_without_effect import PERSONS_ONLY_DECLARED, refuse_flags
from experiments.load_task import encoded_clients
from experiments.read_source import read_source, required_column
from experiments.use_case import UseCase
from fl_research.analyses.customers_to_keep import CustomersToKeep
from fl_research.data.inactivity import (
    CUSTOMER,
    GROUP,
    CustomerHistories,
    InactivityConfig,
    labelled_customers,
    latest_cut,
    schema,
)
from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.order_lines import OrderColumns, OrderLines, read_order_lines
from fl_research.data.preparation import orders
from fl_research.errors import InputError
from fl_research.objectives.binary_classification import BinaryClassification
from fl_research.task import FederatedTask

FLAGS = flags.FLAGS

DATASET = "online_retail"
_ONLINE_RETAIL_CUT = "2011-09-10"  # The latest with 90 days of orders after it.
_FLAGS = (
    "cut_date",
    "inactivity_days",
    "history_days",
    "order_column",
    "customer_spend_bound",
)
_NOT_HERE = {
    "label_column": "the label is made from the orders",
    "positive_label": "the label is made from the orders",
    "schema": "it follows from --history_days and --customer_spend_bound",
    "infer_schema": "bounds follow from --history_days and --customer_spend_bound",
    "drop_columns": "columns that are not named are not read",
    "person_column": PERSONS_ONLY_DECLARED,
}


def is_selected() -> bool:
    """Returns whether the flags name orders, from which the label is made.

    Raises:
      InputError: A flag of churn by inactivity is set, but the data is another.
    """
    if FLAGS.dataset == DATASET or (FLAGS.dataset == "table" and FLAGS.time_column is not None):
        return True
    for name in _FLAGS:
        if FLAGS[name].value is not None:
            raise InputError(
                f"--{name}={as_typed(FLAGS[name].value)} belongs to churn by inactivity: "
                f"--dataset={DATASET}, or --dataset=table with --time_column; leave it out or "
                "select that"
            )
    return False


def load_inactivity_task(use_case: UseCase, seed: int) -> FederatedTask:
    """Reads orders and makes the task of who orders no more.

    Args:
      use_case: Names the data sets.
      seed: Seed of partition, cap and split.

    Raises:
      InputError: Wrong flags or wrong records; says which and the way out.
    """
    refuse_flags(_NOT_HERE, "churn by inactivity (--time_column, or online_retail)")
    read = read_source(use_case, seed)
    columns = _columns(read)
    lines = read_order_lines(read.records, columns)
    config = _config(lines)
    histories = labelled_customers(lines, config)
    client = CUSTOMER if columns.group is None else GROUP
    table = dataclasses.replace(
        read,
        records=histories.records,
        schema=schema(config, client=client),
        facts=_facts(read, config),
        cleaning=_cleaning(read, lines, histories, config),
    )
    loaded = encoded_clients(table, seed)
    if FLAGS.partition == "natural":
        unit, contains = _unit(columns)
        loaded = dataclasses.replace(loaded, unit=unit, unit_contains=contains)
    loaded, (train, validation, test) = build_task.split_clients(loaded, seed)
    return FederatedTask(
        name=use_case.name,
        train=train,
        validation=validation,
        test=test,
        objective=BinaryClassification(positive=_positive(columns, config)),
        unit=loaded.unit,
        unit_contains=loaded.unit_contains,
        feature_names=loaded.feature_names,
        preparation=orders.settings_of(
            columns, config, DATASET if FLAGS.dataset == DATASET else "table"
        ),
        data_facts=build_task.data_facts(loaded, (train, validation, test)),
        analyses=(CustomersToKeep(names=_names(histories, client)),),
    )


def _columns(read: LoadedRecords) -> OrderColumns:
    """The columns of the order lines, by the data set or by the flags."""
    if FLAGS.dataset == DATASET:
        if FLAGS.order_column is not None:
            raise InputError(
                f"--order_column={FLAGS.order_column} belongs to --dataset=table; leave it out"
            )
        return OrderColumns(
            customer="customer", time="time", amount="amount", order="invoice", item="item"
        )
    frame = read.records
    client = required_column("client_column", frame)
    customer = required_column("user_column", frame) if FLAGS.user_column else client
    return OrderColumns(
        customer=customer,
        time=required_column("time_column", frame),
        amount=required_column("value_column", frame),
        order=required_column("order_column", frame) if FLAGS.order_column else None,
        item=required_column("item_column", frame) if FLAGS.item_column else None,
        group=None if customer == client else client,
    )


def _unit(columns: OrderColumns) -> tuple[str, str]:
    """One privacy unit in words, and what it contains."""
    if columns.group is None:
        return "one customer", "all orders of one customer, which are one row a customer"
    return f"one client ({columns.group})", (
        f"all orders with the same {columns.group}, which are one row for each {columns.customer} "
        "who ordered there, from the orders there alone; who orders with several has a row in each"
    )


def _positive(columns: OrderColumns, config: InactivityConfig) -> str:
    """What the label 1 says."""
    where = "" if columns.group is None else f" with that {columns.group}"
    return f"no order{where} in the {config.inactivity_days} days after the cut"


def _config(lines: OrderLines) -> InactivityConfig:
    """Where time is cut, and how; the cut of a user's table is never guessed."""
    given = {
        "inactivity_days": FLAGS.inactivity_days,
        "history_days": FLAGS.history_days,
        "spend_bound": FLAGS.customer_spend_bound,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    cut = FLAGS.cut_date
    if cut is None and FLAGS.dataset == DATASET and "inactivity_days" not in settings:
        cut = _ONLINE_RETAIL_CUT
    if cut is None:
        days = InactivityConfig(cut_date=_ONLINE_RETAIL_CUT, **settings).inactivity_days
        raise InputError(
            f"--cut_date is not given; the latest that leaves {days} days of orders after it is "
            f"{latest_cut(lines, days)}"
        )
    return InactivityConfig(cut_date=cut, **settings)


def _facts(read: LoadedRecords, config: InactivityConfig) -> dict[str, Any]:
    """What run.json says of how the label was made."""
    public = [
        f"the cut date {config.cut_date}, the {config.history_days} days of history before it and "
        f"the {config.inactivity_days} days of the label after it"
    ]
    return {**read.facts, "inactivity": config.to_dict(), "public": public}


def _cleaning(
    read: LoadedRecords,
    lines: OrderLines,
    histories: CustomerHistories,
    config: InactivityConfig,
) -> dict[str, int]:
    """How many lines and customers were left out, by rule."""
    left_out = (
        f"customers without a purchase in the {config.history_days} days before "
        f"{config.cut_date} left out"
    )
    return {
        **read.cleaning,
        **{f"order lines: {rule}": count for rule, count in lines.cleaning.items()},
        left_out: histories.without_history,
    }


def _names(histories: CustomerHistories, client: str) -> Mapping[Any, list[str]]:
    """Group -> the names of its customers in the order of its rows; empty without groups."""
    if client == CUSTOMER or FLAGS.partition != "natural":
        return {}
    records = histories.records
    return {
        group: records[CUSTOMER].to_numpy()[np.asarray(rows)].tolist()
        for group, rows in records.groupby(GROUP, sort=False).indices.items()
    }
