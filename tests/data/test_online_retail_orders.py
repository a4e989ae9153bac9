"""Online Retail day by day: cancellations on their own day, and what is left out."""

from pathlib import Path

import pandas as pd
import pytest

from fl_research.data.datasets import online_retail, online_retail_orders, registry
from fl_research.errors import InputError

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
LINES = """541431,23166,"JAR, CERAMIC",74215,2011-01-18 10:01:00,1.04,12346.0,United Kingdom
C541433,23166,"JAR, CERAMIC",-74215,2011-01-18 10:17:00,1.04,12346.0,United Kingdom
536365,85123a,HEART,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
536366,22633,WARMER,6,2010-12-01 08:28:00,1.85,,United Kingdom
536370,POST,POSTAGE,3,2010-12-01 08:45:00,18.00,12583.0,France
536414,22139,GIFT,56,2010-12-01 11:52:00,0.0,12583.0,France
"""


def test_lines_by_hand(tmp_path: Path):
    path = tmp_path / "lines.csv"
    path.write_text(HEADER + LINES)
    loaded = registry.load("online_retail_orders", path=str(path))
    records = loaded.records
    assert tuple(records.columns) == online_retail_orders.COLUMNS
    assert records["customer"].tolist() == ["17850", "12346", "12346"]
    assert records["item"].tolist() == ["85123A", "23166", "23166"]
    assert records["amount"].tolist() == pytest.approx([15.3, 74215 * 1.04, -74215 * 1.04])
    assert dict(loaded.cleaning) == {
        "lines read": 6,
        "lines without a customer left out": 1,
        "lines of no product left out": 1,
        "lines with a price of zero or less left out": 1,
        "lines left": 3,
        "cancellation lines among them": 1,
    }
    # With cancellations netted, the giant order was never there: it looks ahead.
    netted = registry.load("online_retail", path=str(path)).records
    assert netted["customer"].tolist() == ["17850"]


def test_nothing_left(tmp_path: Path):
    path = tmp_path / "lines.csv"
    path.write_text(HEADER + LINES.splitlines()[3] + "\n")
    with pytest.raises(InputError, match="no line is left after cleaning"):
        registry.load("online_retail_orders", path=str(path))


@pytest.mark.skipif(
    not (online_retail.SHARED_DATA / "online_retail").is_dir(), reason="the shop's lines are absent"
)
def test_the_published_lines():
    records = registry.load("online_retail_orders").records
    assert len(records) == 404_876 and (records["amount"] < 0).sum() == 8_539
    assert records["customer"].nunique() == 4_362
    assert records["time"].max() == pd.Timestamp("2011-12-09 12:50")
