"""Orders of today's customers: looked at from the day after the last one, or from a given day."""

import pandas as pd
import pytest

from fl_research.data.inactivity import InactivityConfig
from fl_research.data.order_lines import OrderColumns
from fl_research.data.preparation import orders
from fl_research.errors import InputError

COLUMNS = OrderColumns(customer="who", time="when", amount="worth")
CONFIG = InactivityConfig(cut_date="2020-01-01", inactivity_days=30, history_days=100)
LINES = pd.DataFrame(
    {
        "who": ["ann", "bob", "", "old", "ann"],
        "when": ["2024-05-01", "2024-05-20 12:00", "2024-05-21", "2023-01-01", "2024-05-31 23:00"],
        "worth": ["10", "20", "5", "7", "30"],
    }
)


def settings(**changed) -> dict:
    """As a saved model's description has them."""
    return {**orders.settings_of(COLUMNS, CONFIG, "table"), **changed}


def days_since(prepared) -> list[float]:
    """The encoded recency back in days: -1 is 0, 1 is the length of the history."""
    return ((prepared.features["inputs"][:, 0] + 1) / 2 * CONFIG.history_days).tolist()


def test_the_day_after_the_last_order():
    prepared = orders.prepare(LINES, settings())
    assert prepared.ids.tolist() == ["ann", "bob"]
    assert days_since(prepared) == pytest.approx([1 / 24, 11.5], abs=1e-4)
    assert prepared.dropped == {
        "who: missing -> line left out": 1,
        "customers without a purchase in the 100 days before 2024-06-01 left out": 1,
    }


def test_a_given_day_looks_at_nothing_later():
    prepared = orders.prepare(LINES, settings(cut_date="2024-05-11"))
    assert prepared.ids.tolist() == ["ann"]
    assert days_since(prepared) == pytest.approx([10], abs=1e-4)


def test_the_cut_of_the_training_is_not_used_again():
    assert "cut_date" not in settings()["inactivity"] and settings()["cut_date"] is None


@pytest.mark.parametrize(
    ("records", "changed", "message"),
    [
        (LINES.drop(columns="worth"), {}, r"no column 'worth' for the amount of an order line"),
        (LINES, {"cut_date": "soon"}, r"cut_date='soon' is no day"),
        (LINES, {"cut_date": "2023-01-01"}, r"no customer bought anything in the 100 days before"),
    ],
)
def test_wrong_orders(records, changed, message):
    with pytest.raises(InputError, match=message):
        orders.prepare(records, settings(**changed))
