"""Order lines out of tables with the quirks of real ones."""

import datetime

import numpy as np
import pandas as pd
import pytest

from fl_research.data.order_lines import OrderColumns, read_order_lines
from fl_research.errors import InputError

COLUMNS = OrderColumns(customer="who", time="when", amount="worth", order="invoice", item="what")


def table(**changed: list) -> pd.DataFrame:
    """Five lines: one without a customer, one cancellation, customers as text of floats."""
    cells = {
        "who": ["17850.0", " ", "13047.0", "17850.0 ", "13047.0"],
        "when": ["2010-12-01 08:26:00", "not read", "2010-12-02", "2010-12-01T08:26", "2010-12-05"],
        "worth": ["15.3", "not read", "22", "-4.65", "0"],
        "invoice": ["536365", "536544", "536367", "C536379", "536390"],
        "what": ["85123A", "POST", "84879", "85123A", "84879"],
    }
    return pd.DataFrame(cells | changed)


def test_lines_without_a_customer_are_left_out_unread_and_counted():
    lines = read_order_lines(table(), COLUMNS)
    assert dict(lines.cleaning) == {
        "lines read": 5,
        "who: missing -> line left out": 1,
        "lines kept": 4,
    }
    assert lines.frame["customer"].tolist() == ["17850.0", "13047.0", "17850.0", "13047.0"]
    assert lines.frame["amount"].tolist() == [15.3, 22.0, -4.65, 0.0]
    assert lines.frame["time"].iloc[0] == lines.frame["time"].iloc[2]
    assert lines.frame["order"].nunique() == 4
    assert lines.frame["item"].tolist() == [0, 1, 0, 1]


def test_without_order_numbers_lines_of_one_moment_are_one_order():
    columns = OrderColumns(customer="who", time="when", amount="worth")
    lines = read_order_lines(table(), columns)
    assert lines.frame["order"].tolist() == [0, 1, 0, 2]
    assert set(lines.frame["item"]) == {0}


def test_a_source_with_types_gives_the_same_lines():
    moments = [datetime.datetime(2010, 12, 1, 8, 26), None, datetime.datetime(2010, 12, 2)]
    typed = pd.DataFrame(
        {
            "who": [17850.0, np.nan, 13047.0],
            "when": pd.Series(moments),
            "worth": [15.3, 1.0, 22.0],
            "invoice": [536365, 1, 536367],
            "what": ["85123A", "POST", "84879"],
        }
    )
    lines = read_order_lines(typed, COLUMNS).frame
    texts = read_order_lines(table().iloc[:3], COLUMNS).frame
    assert lines["customer"].tolist() == ["17850", "13047"]
    pd.testing.assert_frame_equal(lines.drop(columns="customer"), texts.drop(columns="customer"))


def test_times_with_a_zone_are_compared_in_one():
    when = ["2011-01-01T00:30:00+02:00", "x", "2010-12-31 22:30Z", *["2011-01-01T00:00:00Z"] * 2]
    times = read_order_lines(table(when=when), COLUMNS).frame["time"]
    assert times.iloc[0] == times.iloc[1] == pd.Timestamp("2010-12-31 22:30")


GOOD_DAYS = ["2011-01-01"] * 4
WRONG = {
    "no such column": (table().rename(columns={"when": "day"}), r"no column 'when' for the time"),
    "empty": (table().iloc[:0], r"table of order lines is empty"),
    "nobody": (table(who=["", None, " ", "", ""]), r"'who' names no customer in any of 5 lines"),
    "no date": (table(when=["soon", *GOOD_DAYS]), r"'when', row 1 .*'soon' is no date; write"),
    "two readings": (table(when=["12/1/2010", *GOOD_DAYS]), r"row 1 .*'12/1/2010' is no date"),
    "missing date": (table(when=[*GOOD_DAYS, None]), r"'when', row 5 .*None is no date"),
    "impossible day": (table(when=[*GOOD_DAYS, "2011-02-30"]), r"row 5 .*'2011-02-30' is no date"),
    "a zone in some": (
        table(when=["2011-01-01 10:00Z", *GOOD_DAYS]),
        r"'when', row 3 .*'2011-01-01' has no time zone, though other rows have one",
    ),
    "digits": (table(when=["20101201", *GOOD_DAYS]), r"'20101201' is no date"),
    "numbers": (table(when=[1291190400] * 5), r"1291190400 is no date"),
    "no amount": (table(worth=["1", "1", "12,50", "1", "1"]), r"'worth', row 3.*'12,50' is no amo"),
    "missing amount": (table(worth=["1", "1", "", "1", "1"]), r"'worth', row 3 .*'' is no amount"),
    "infinite": (table(worth=["1", "1", "inf", "1", "1"]), r"'inf' is no amount; give a number"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_tables_are_one_clear_line(case):
    records, message = WRONG[case]
    with pytest.raises(InputError, match=message) as error:
        read_order_lines(records, COLUMNS)
    assert "\n" not in str(error.value)


def test_a_line_without_a_group_is_refused():
    columns = OrderColumns(customer="who", time="when", amount="worth", group="country")
    country = ["UK", "", "UK", "", "UK"]
    with pytest.raises(InputError, match=r"column 'country', row 4 .*'' is missing"):
        read_order_lines(table(country=country), columns)
