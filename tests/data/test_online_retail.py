"""Online Retail: each cleaning rule on lines with the quirks of the published ones."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fl_research.data.datasets import online_retail
from fl_research.data.public_files import SHARED_DATA
from fl_research.errors import InputError

_NAMES = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)


def _lines(*rows: str) -> pd.DataFrame:
    """Raw lines from texts: invoice, item, quantity, day (and time), price, customer."""
    cells = []
    for row in rows:
        invoice, item, quantity, day, price, customer = row.split(",")
        time = day if ":" in day else f"{day} 10:00:00"
        cells.append((invoice, item, "THING", quantity, time, price, customer, "France"))
    return pd.DataFrame(cells, columns=_NAMES)


def test_rules_and_their_counts() -> None:
    raw = _lines(
        "1,85123A,6,2011-01-01,2.5,17850.0",
        "1,POST,1,2011-01-01,18,17850.0",
        "2,22423,3,2011-01-02,12.75,",
        "3,22423,2,2011-01-03,0,12346.0",
        "A4,B,1,2011-01-03,-11062.06,",
        "5,85123a,4,2011-01-04,2.0,17850.0",
        "C6,85123A,-5,2011-01-05,2.5,17850.0",
        "C7,D,-1,2011-01-05,30,17850.0",
        "C8,22423,-7,2011-01-06,12.75,12346.0",
    )
    records, cleaning = online_retail.clean_lines(raw)
    # Five cancelled units: four of the later purchase, which goes, and one of the earlier.
    assert records[["customer", "item", "quantity", "price", "amount"]].values.tolist() == [
        ["17850", "85123A", 5, 2.5, 12.5]
    ]
    assert tuple(records.columns) == online_retail.COLUMNS
    assert records["time"].dtype == np.dtype("datetime64[ns]")
    assert cleaning == {
        "lines read": 9,
        "lines without a customer left out": 2,
        "lines of no product left out": 2,
        "lines with a price of zero or less left out": 1,
        "cancellation lines netted": 2,
        "units taken off earlier purchases": 5,
        "cancelled units without an earlier purchase left out": 7,
        "purchase lines cancelled whole": 1,
        "lines left": 1,
    }


def test_a_giant_order_cancelled_minutes_later_leaves_nothing() -> None:
    raw = _lines(
        "1,23166,74215,2011-01-18 10:01:00,1.04,12346.0",
        "C2,23166,-74215,2011-01-18 10:17:00,1.04,12346.0",
        "3,23166,2,2011-01-19,1.04,12346.0",
        "4,23166,2,2011-01-19,1.04,99999.0",
    )
    records, _ = online_retail.clean_lines(raw)
    assert records["quantity"].tolist() == [2, 2]


def test_a_cancellation_never_touches_later_purchases_other_items_or_customers() -> None:
    raw = _lines(
        "C1,22423,-3,2011-01-01,5,1.0",
        "2,22423,3,2011-01-02,5,1.0",
        "3,22423,3,2011-01-01,5,2.0",
        "4,22424,3,2011-01-01,5,1.0",
    )
    records, cleaning = online_retail.clean_lines(raw)
    assert records["quantity"].tolist() == [3, 3, 3]
    assert cleaning["cancelled units without an earlier purchase left out"] == 3


def test_netting_agrees_with_a_unit_by_unit_count() -> None:
    generator = np.random.default_rng(3)
    rows = 400
    lines = pd.DataFrame(
        {
            "customer": generator.integers(0, 4, rows).astype(str),
            "item": generator.integers(0, 3, rows).astype(str),
            "quantity": generator.integers(1, 9, rows),
            "time": pd.Timestamp("2011-01-01")
            + pd.to_timedelta(np.sort(generator.integers(0, 200, rows)), unit="h"),
        }
    )
    cancels = generator.random(rows) < 0.3
    lines.loc[cancels, "quantity"] *= -1
    quantity, unmatched = online_retail.net_cancellations(lines, cancels)

    units: list[list[object]] = []  # one entry a unit still owned: its purchase
    left = 0
    order = sorted(range(rows), key=lambda row: (lines["time"][row], cancels[row], row))
    for row in order:
        key = (lines["customer"][row], lines["item"][row])
        for _ in range(abs(int(lines["quantity"][row]))):
            if not cancels[row]:
                units.append([key, row])
                continue
            own = [index for index, unit in enumerate(units) if unit[0] == key]
            left += not own
            if own:
                del units[own[-1]]
    expected = np.bincount([unit[1] for unit in units], minlength=rows)
    np.testing.assert_array_equal(quantity[~cancels], expected[~cancels])
    assert unmatched == left


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1,22423,six,2011-01-01,5,1.0", "Quantity has 'six'"),
        ("1,22423,1.5,2011-01-01,5,1.0", "whole numbers"),
        ("1,22423,6,2011-13-01,5,1.0", "InvoiceDate has '2011-13-01 10:00:00'"),
        ("1,22423,6,2011-01-01,nan,1.0", "UnitPrice has 'nan'"),
    ],
)
def test_wrong_cells_are_refused(line: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        online_retail.clean_lines(_lines("1,22423,1,2011-01-01,5,1.0", line))


def test_nothing_left_and_missing_columns_are_refused() -> None:
    with pytest.raises(InputError, match="no line is left"):
        online_retail.clean_lines(_lines("1,POST,1,2011-01-01,5,1.0"))
    with pytest.raises(InputError, match="columns InvoiceNo, CustomerID are missing"):
        online_retail.clean_lines(_lines("1,2,3,4:,5,6").drop(columns=["InvoiceNo", "CustomerID"]))


def test_daily_files_and_their_join_are_the_same_data(tmp_path: Path) -> None:
    raw = _lines("1,22423,1,2011-01-01,5,1.0", "2,22423,1,2011-01-02,5,1.0")
    days = tmp_path / "by-day"
    days.mkdir()
    for day in (0, 1):
        raw[day : day + 1].to_csv(days / f"2011-01-0{day + 1}.csv", index=False)
    raw.to_csv(tmp_path / "joined.csv", index=False)
    by_day = online_retail.load(path=str(tmp_path), seed=0)
    joined = online_retail.load(path=str(tmp_path / "joined.csv"), seed=0)
    pd.testing.assert_frame_equal(by_day.records, joined.records)
    assert by_day.sha256 == joined.sha256
    assert "not that of the known copy" in by_day.notes[0]


def test_folders_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder without CSV files"):
        online_retail.load(path=str(tmp_path), seed=0)
    with pytest.raises(InputError, match="cannot be read"):
        online_retail.load(path=str(tmp_path / "absent.csv"), seed=0)
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.csv").write_text("x,z\n1,2\n")
    with pytest.raises(InputError, match=r"b\.csv has another header than a\.csv"):
        online_retail.load(path=str(tmp_path), seed=0)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED_DATA / "online_retail").is_dir(), reason="not beside this copy")
def test_the_published_lines() -> None:
    loaded = online_retail.load(path=None, seed=0)
    assert loaded.sha256 == online_retail.SHA256
    assert loaded.cleaning["lines without a customer left out"] == 135_080
    # The two giant orders, cancelled minutes later, are gone.
    assert loaded.records["quantity"].max() < 5_000
    assert (loaded.records["amount"] > 0).all()
