"""Churn by inactivity: hand-computed features, a brute force, and nothing that looks ahead."""

import numpy as np
import pandas as pd
import pytest

from fl_research.data.inactivity import (
    InactivityConfig,
    customer_histories,
    labelled_customers,
    latest_cut,
    schema,
)
from fl_research.data.order_lines import OrderColumns, OrderLines, read_order_lines
from fl_research.data.schema import encode
from fl_research.errors import InputError

COLUMNS = OrderColumns(customer="who", time="when", amount="worth", order="no", item="what")
CONFIG = InactivityConfig(cut_date="2011-06-01", inactivity_days=30, history_days=100)


def lines_of(*rows: tuple) -> OrderLines:
    """Order lines from (who, when, worth, order number, item)."""
    return read_order_lines(
        pd.DataFrame(rows, columns=["who", "when", "worth", "no", "what"]), COLUMNS
    )


# Orders of ann: 2011-03-03 (90 days before the cut), 2011-05-12 (20 days), both at midnight.
ANN = [
    ("ann", "2011-03-03", 10.0, "1", "tea"),
    ("ann", "2011-03-03", 30.0, "1", "cup"),
    ("ann", "2011-05-12", 20.0, "2", "tea"),
    ("ann", "2011-05-13", -6.0, "C2", "tea"),
    ("ann", "2011-05-14", 0.0, "3", "gift"),  # Worth nothing: no order.
]
BOB = [("bob", "2011-05-31 12:00", 5.0, "4", "cup"), ("bob", "2011-06-01", 5.0, "5", "cup")]
# Bought before the history, came back in the window: no row.
OLD = [("old", "2011-01-01", 5.0, "6", "cup"), ("old", "2011-06-02", 5.0, "7", "cup")]
NEW = [("new", "2011-06-10", 5.0, "8", "cup")]
# An order at the end of the window's last day, and one the day after it.
LATE = [("late", "2011-05-01", 5.0, "9", "cup"), ("late", "2011-06-30 23:59", 5.0, "10", "cup")]
TOO_LATE = [("zoe", "2011-05-01", 5.0, "11", "cup"), ("zoe", "2011-07-01", 5.0, "12", "cup")]
# Only takes back what was bought before the history.
BACK = [("max", "2011-05-01", -5.0, "C0", "cup")]
ALL = [*ANN, *BOB, *OLD, *NEW, *LATE, *TOO_LATE, *BACK]


def test_hand_computed_features_and_labels():
    histories = labelled_customers(lines_of(*ALL), CONFIG)
    records = histories.records.set_index("customer")
    assert histories.without_history == 3  # old, new, max
    assert records["left"].to_dict() == {"ann": "yes", "bob": "no", "late": "no", "zoe": "yes"}
    assert records.loc["ann"].drop("left").to_dict() == {
        "recency_days": 20.0,
        "tenure_days": 90.0,
        "mean_gap_days": 70.0,
        "overdue": 20 / 70,
        "orders": 2,
        "spend": 60.0,
        "spend_an_order": 30.0,
        "orders_30_days": 1,
        "spend_30_days": 20.0,
        "orders_90_days": 2,
        "spend_90_days": 60.0,
        "items": 2,
        "cancelled_share": 0.1,
    }
    bob = records.loc["bob"]
    assert bob["recency_days"] == bob["tenure_days"] == bob["mean_gap_days"] == 0.5
    assert bob["overdue"] == 0.5  # A gap counts as a day at least.


def random_lines(seed: int) -> pd.DataFrame:
    """Lines of forty customers over 300 days, with cancellations and lines without a customer."""
    generator = np.random.default_rng(seed)
    rows = 400
    days = generator.uniform(0, 300, rows)
    who = generator.integers(10_000, 10_040, rows)
    worth = np.round(generator.lognormal(2, 1, rows), 2)
    worth[generator.random(rows) < 0.1] *= -1
    return pd.DataFrame(
        {
            "who": [f"{number}.0" if number % 7 else "" for number in who],
            "when": (pd.Timestamp("2011-01-01") + pd.to_timedelta(days, unit="D")).astype(str),
            "worth": worth,
            "no": [str(int(day)) for day in days],
            "what": [f"item {number}" for number in generator.integers(0, 20, rows)],
        }
    )


def test_features_equal_a_loop_over_customers():
    table = random_lines(0)
    config = InactivityConfig(cut_date="2011-08-01", inactivity_days=60, history_days=150)
    records = labelled_customers(read_order_lines(table, COLUMNS), config).records
    cut, start = pd.Timestamp("2011-08-01"), pd.Timestamp("2011-08-01") - pd.Timedelta(days=150)
    end = pd.Timestamp("2011-08-01") + pd.Timedelta(days=60)
    table["when"] = pd.to_datetime(table["when"], format="ISO8601")
    seen = []
    for who, all_of in table[table["who"] != ""].groupby("who"):
        own = all_of[all_of["when"] >= start]
        bought = own[own["worth"] > 0]
        before = bought[bought["when"] < cut]
        if before.empty:
            continue
        seen.append(who)
        row = records[records["customer"] == who].iloc[0]
        moments = sorted(
            (cut - group["when"].min()).total_seconds() / 86400 for _, group in before.groupby("no")
        )
        assert row["orders"] == len(moments)
        assert row["recency_days"] == pytest.approx(moments[0])
        assert row["tenure_days"] == pytest.approx(moments[-1])
        gaps = np.diff(moments)
        assert row["mean_gap_days"] == pytest.approx(gaps.mean() if len(gaps) else moments[0])
        assert row["spend"] == pytest.approx(before["worth"].sum())
        assert row["orders_30_days"] == sum(moment <= 30 for moment in moments)
        assert row["items"] == before["what"].nunique()
        back = -own[(own["worth"] < 0) & (own["when"] < cut)]["worth"].sum()
        assert row["cancelled_share"] == pytest.approx(min(1, back / before["worth"].sum()))
        after = bought[(bought["when"] >= cut) & (bought["when"] < end)]
        assert row["left"] == ("yes" if after.empty else "no")
    assert list(records["customer"]) == sorted(seen) and len(seen) > 25
    assert 0 < (records["left"] == "yes").sum() < len(records)


def test_nothing_from_the_cut_on_changes_a_feature():
    """Events planted from the first instant of the cut on move labels only."""
    table = random_lines(1)
    config = InactivityConfig(cut_date="2011-08-01", inactivity_days=60)
    plain = labelled_customers(read_order_lines(table, COLUMNS), config).records
    customers = plain["customer"]
    planted = [
        pd.DataFrame({"who": customers, "when": when, "worth": worth, "no": no, "what": what})
        for when, worth, no, what in [
            ("2011-08-01 00:00:00", 9999.0, "planted", "planted item"),
            # Takes everything back, under the numbers of orders from before the cut.
            ("2011-08-02 09:00:00", -1e6, "100", "item 1"),
            ("2011-08-02 09:00:00", 1e6, "101", "item 2"),
            ("2011-09-29 23:59:59", 1.0, "late", "item 3"),
        ]
    ]
    lines = read_order_lines(pd.concat([table, *planted], ignore_index=True), COLUMNS)
    marked = labelled_customers(lines, config).records
    pd.testing.assert_frame_equal(marked.drop(columns="left"), plain.drop(columns="left"))
    assert set(marked["left"]) == {"no"} and "yes" in set(plain["left"])
    # And a planted line one instant earlier does move them, so that the test can fail.
    earlier = planted[0].assign(when="2011-07-31 23:59:59")
    moved = read_order_lines(pd.concat([table, earlier], ignore_index=True), COLUMNS)
    assert (customer_histories(moved, config).records["recency_days"] < 0.001).all()


def test_orders_are_what_decides_not_the_order_of_the_lines():
    table = random_lines(2)
    config = InactivityConfig(cut_date="2011-08-01", inactivity_days=60)
    shuffled = table.sample(frac=1, random_state=0).reset_index(drop=True)
    left = labelled_customers(read_order_lines(table, COLUMNS), config).records
    right = labelled_customers(read_order_lines(shuffled, COLUMNS), config).records
    pd.testing.assert_frame_equal(left, right)


def test_the_schema_encodes_the_records_within_public_bounds():
    records = labelled_customers(lines_of(*ALL), CONFIG).records
    giant = records.assign(spend=80_000_000.0)  # Beyond the bound counts as the bound.
    encoded = encode(giant, schema(CONFIG))
    names = list(encoded.feature_names)
    assert (encoded.inputs[:, names.index("spend")] == 1).all()
    assert encoded.inputs[0, names.index("recency_days")] == pytest.approx(2 * 20 / 100 - 1)
    assert encoded.labels.tolist() == [1, 0, 0, 1]
    assert list(encoded.client_ids) == ["ann", "bob", "late", "zoe"]
    assert not schema(CONFIG).inferred


IN_SHOPS = OrderColumns(**(COLUMNS.to_dict() | {"group": "shop"}))


def test_a_customer_of_two_shops_has_a_row_in_each():
    rows = [
        ("ann", "2011-05-01", 1.0, "1", "tea", "north"),
        ("ann", "2011-05-09", 7.0, "1", "tea", "south"),  # A number of another shop's order.
        ("ann", "2011-06-05", 1.0, "3", "tea", "north"),
        ("ann", "2011-06-06", 1.0, "3", "tea", "east"),
        ("bob", "2011-05-02", 1.0, "4", "tea", "north"),
        ("bob", "2011-07-02", 1.0, "5", "tea", "north"),
    ]
    names = ["who", "when", "worth", "no", "what", "shop"]
    lines = read_order_lines(pd.DataFrame(rows, columns=names), IN_SHOPS)
    histories = labelled_customers(lines, CONFIG)
    shown = histories.records[["customer", "group", "left", "spend", "recency_days"]]
    assert shown.to_numpy().tolist() == [
        ["ann", "north", "no", 1.0, 31.0],
        ["ann", "south", "yes", 7.0, 23.0],
        ["bob", "north", "yes", 1.0, 30.0],
    ]
    assert histories.without_history == 1  # ann in the east
    encoded = encode(histories.records, schema(CONFIG, client="group"))
    assert list(encoded.client_ids) == ["north", "south", "north"]


def test_a_shop_changes_no_row_of_another():
    table = random_lines(3)
    table["shop"] = np.random.default_rng(0).choice(["north", "south", "east"], len(table))
    config = InactivityConfig(cut_date="2011-08-01", inactivity_days=60, history_days=150)

    def rows(lines: pd.DataFrame, columns: OrderColumns = IN_SHOPS) -> pd.DataFrame:
        return labelled_customers(read_order_lines(lines, columns), config).records

    everything = rows(table)
    for shop in ("north", "south", "east"):
        kept = everything[everything["group"] != shop].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows(table[table["shop"] != shop]), kept)
        # A shop's rows are those of a company that has this shop alone.
        own = everything[everything["group"] == shop].reset_index(drop=True)
        alone = rows(table[table["shop"] == shop], COLUMNS)
        pd.testing.assert_frame_equal(own.drop(columns="group"), alone)
    assert everything["customer"].duplicated().sum() > 20


def test_a_window_that_the_data_does_not_reach_is_refused():
    lines = lines_of(*ANN, *BOB, ("eve", "2011-06-30 10:00", 1.0, "13", "cup"))
    assert latest_cut(lines, 30) == "2011-05-31"
    with pytest.raises(
        InputError,
        match=r"until 2011-07-01, but the orders end on 2011-06-30; the "
        r"latest cut is 2011-05-31",
    ):
        labelled_customers(lines, CONFIG)
    config = InactivityConfig(cut_date=latest_cut(lines, 30), inactivity_days=30, history_days=100)
    assert len(labelled_customers(lines, config).records)


def test_a_cut_before_all_orders_is_refused():
    with pytest.raises(
        InputError,
        match=r"no customer bought anything in the 100 days before it; "
        r"the orders run from 2011-01-01 to 2011-07-01",
    ):
        labelled_customers(
            lines_of(*ALL), InactivityConfig(cut_date="2010-12-31", history_days=100)
        )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cut_date": "soon"}, r"cut_date='soon' is no day; write it as 2011-09-10"),
        ({"cut_date": "2011-02-30"}, r"cut_date='2011-02-30' is no day"),
        ({"cut_date": None}, r"cut_date=None is no day"),
        ({"cut_date": "1700-01-01"}, r"cut_date='1700-01-01' is not possible; .* 1800 to 2150"),
        ({"cut_date": "2200-01-01"}, r"cut_date='2200-01-01' is not possible; .* 1800 to 2150"),
        ({"inactivity_days": 0}, r"inactivity_days=0 is not possible"),
        ({"inactivity_days": 36_501}, r"inactivity_days=36501 is not possible; .* most 36500"),
        ({"history_days": 200_000}, r"history_days=200000 is not possible; give at most 36500"),
        ({"history_days": 1.5}, r"history_days=1.5 is not possible"),
        ({"spend_bound": float("nan")}, r"spend_bound=nan is not possible"),
        ({"orders_bound": 0}, r"orders_bound=0 is not possible"),
    ],
)
def test_settings_that_are_not_possible(changed, message):
    with pytest.raises(InputError, match=message):
        InactivityConfig(**({"cut_date": "2011-06-01"} | changed))


@pytest.mark.parametrize("cut", ["1800-01-01", "2150-12-31"])
def test_the_longest_spans_are_times(cut):
    config = InactivityConfig(cut_date=cut, inactivity_days=36_500, history_days=36_500)
    with pytest.raises(InputError, match=r"the orders end on 2011-07-01|no customer bought"):
        labelled_customers(lines_of(*ALL), config)
