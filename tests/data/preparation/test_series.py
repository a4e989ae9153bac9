"""Preparation `series`: new records give the windows that training would have cut."""

import json

import numpy as np
import pandas as pd
import pytest

from fl_research.data.panel import PanelConfig, build_panel
from fl_research.data.preparation import series
from fl_research.data.windows import WindowConfig, cut_windows
from fl_research.errors import InputError

COLUMNS = PanelConfig(
    client_column="customer", time_column="time", value_column="amount", period="day"
)
WINDOWS = WindowConfig(lags=4, horizon=2, season=7, min_active=2, quantiles=(0.1, 0.5, 0.9))


def _records() -> pd.DataFrame:
    """Three customers over ten days; one of them came too late, one bought once only."""
    days = pd.date_range("2024-01-01", periods=10).astype(str)
    rows = [("old", day, float(1 + index % 3)) for index, day in enumerate(days)]
    rows += [("late", days[8], 1.0), ("late", days[9], 1.0), ("once", days[0], 5.0)]
    return pd.DataFrame(rows, columns=["customer", "time", "amount"])


def _settings(reader: str = "table") -> dict[str, object]:
    """Settings as they come back from a saved model."""
    return json.loads(json.dumps(series.settings_of(COLUMNS, WINDOWS, reader)))


def test_the_newest_window_is_that_of_training() -> None:
    prepared = series.prepare(_records(), _settings())
    assert list(prepared.ids) == ["old"]
    assert prepared.dropped == {"clients with too little history left out": 2}
    # Two more days make the same window one with known targets.
    later = pd.DataFrame(
        {"customer": "old", "time": ["2024-01-11", "2024-01-12"], "amount": [1.0, 2.0]}
    )
    panel = build_panel(pd.concat([_records(), later]), COLUMNS)
    of_training = cut_windows(panel, WINDOWS, [10], np.flatnonzero(panel.client_ids == "old"))
    assert of_training.targets is not None
    assert prepared.features.keys() == of_training.features.keys()
    for name, values in prepared.features.items():
        np.testing.assert_array_equal(values, of_training.features[name])


def test_lines_as_the_shop_publishes_them_are_cleaned() -> None:
    raw = pd.DataFrame(
        {
            "InvoiceNo": [str(index) for index in range(10)] + ["C10"],
            "StockCode": "22423",
            "Quantity": ["3"] * 10 + ["-3"],
            "InvoiceDate": [f"2011-01-{day:02d} 10:00:00" for day in range(1, 11)]
            + ["2011-01-10 11:00:00"],
            "UnitPrice": "2",
            "CustomerID": "17850.0",
            "Country": "France",
        }
    )
    prepared = series.prepare(raw, _settings("online_retail"))
    assert list(prepared.ids) == ["17850"]
    # Nine days of six are left of ten: the last one was cancelled, and with it the day.
    np.testing.assert_allclose(prepared.features["scale"], [6.0])


def test_a_history_shorter_than_the_lags_is_refused() -> None:
    with pytest.raises(InputError, match="none of the 1 clients has min_history=4 whole days"):
        series.prepare(_records()[:2].assign(customer="a"), _settings())


def test_nobody_with_enough_history_is_refused() -> None:
    with pytest.raises(InputError, match="none of the 3 clients has min_history=4 whole days"):
        series.prepare(_records()[-3:].assign(customer=list("abc")), _settings())
