"""Panels against pandas, by hand, and on records that are no panel."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from fl_research.data.panel import PanelConfig, build_panel
from fl_research.errors import InputError


def _config(**changed: Any) -> PanelConfig:
    """Columns of the records of these tests."""
    return PanelConfig(**{"client_column": "c", "time_column": "t", "value_column": "v", **changed})


def _records(*rows: tuple[str, str, float]) -> pd.DataFrame:
    """Records from (client, time, value)."""
    return pd.DataFrame(rows, columns=["c", "t", "v"])


def test_weeks_by_hand() -> None:
    # Wednesday 5 January to Tuesday 1 February: whole weeks begin on 10, 17 and 24 January.
    panel = build_panel(
        _records(
            ("b", "2011-01-05 09:00:00", 7.0),
            ("b", "2011-01-30 23:59:59", 2.0),
            ("b", "2011-01-10", 1.0),
            ("b", "2011-01-16", 1.5),
            ("a", "2011-01-20", 4.0),
            ("a", "2011-01-20", 4.0),
            ("late", "2011-02-01", 9.0),
        ),
        _config(),
    )
    assert panel.client_ids.tolist() == ["a", "b"]
    assert panel.starts.astype(str).tolist() == ["2011-01-10", "2011-01-17", "2011-01-24"]
    np.testing.assert_array_equal(panel.values, [[0, 8, 0], [2.5, 0, 2]])
    # b was a customer before the first whole week; a came in the second one.
    assert panel.first.tolist() == [1, 0]
    assert dict(panel.cleaning) == {
        "records read": 7,
        "records outside whole weeks left out": 2,
        "clients without a record in them left out": 1,
    }


@pytest.mark.parametrize(("period", "rule"), [("day", "D"), ("week", "W-SUN"), ("month", "ME")])
def test_random_events_agree_with_pandas(period: str, rule: str) -> None:
    generator = np.random.default_rng(1)
    days = generator.integers(0, 300, 500)
    records = pd.DataFrame(
        {
            "c": generator.integers(0, 9, 500),
            "t": pd.Timestamp("2020-01-15 10:00") + pd.to_timedelta(days, unit="D"),
            "v": generator.normal(size=500),
        }
    )
    panel = build_panel(records, _config(period=period))
    expected = records.pivot_table(
        index="c", columns=pd.Grouper(key="t", freq=rule), values="v", aggfunc="sum", fill_value=0
    )
    every = pd.date_range(expected.columns[0], expected.columns[-1], freq=rule)
    expected = expected.reindex(columns=every, fill_value=0)
    if period != "day":  # The first and last week and month are not whole.
        expected = expected.iloc[:, 1:-1]
    np.testing.assert_allclose(panel.values, expected.to_numpy(), atol=1e-12)
    ends = expected.columns.to_numpy("datetime64[D]")
    np.testing.assert_array_equal(np.append(panel.starts[1:], ends[-1] + 1), ends + 1)


@pytest.mark.parametrize(
    ("period", "times"),
    [
        ("week", ["2024-01-02", "2024-01-09", "2024-01-16"]),
        ("month", ["2024-01-01", "2024-02-01", "2024-03-01"]),
        ("month", ["2024-01-31", "2024-02-29", "2024-03-31"]),
    ],
)
def test_records_of_one_a_period_are_whole(period: str, times: list[str]) -> None:
    records = _records(*(("a", time, 1.0) for time in times))
    assert build_panel(records, _config(period=period)).values.tolist() == [[1, 1, 1]]


def test_covariates_are_means_and_then_the_last_known() -> None:
    records = _records(*(("a", f"2024-01-0{day}", 1.0) for day in (1, 3, 3, 5)))
    records["price"] = [2.0, 4.0, 6.0, 1.0]
    panel = build_panel(records, _config(period="day", covariate_columns=("price",)))
    assert panel.covariates[0, :, 0].tolist() == [2, 2, 5, 5, 1]


def test_text_and_typed_times_are_the_same() -> None:
    texts = _records(("a", "20240101", 1.0), ("a", "20240103", 2.0))
    typed = texts.assign(t=pd.to_datetime(texts["t"]).dt.tz_localize("Asia/Tokyo"))
    whole = texts.assign(t=texts["t"].astype(int))
    for records in (texts, typed, whole):
        assert build_panel(records, _config(period="day")).values.tolist() == [[1, 0, 2]]


def _every(days: int) -> pd.DataFrame:
    """Records of two clients in a rhythm."""
    times = pd.date_range("2024-01-01", periods=8, freq=f"{days}D").astype(str)
    return _records(*((client, time, 1.0) for client in "ab" for time in times))


@pytest.mark.parametrize(
    ("records", "config", "words"),
    [
        (_records(("a", "12/9/2011", 1.0)), {}, "'12/9/2011', which is no date"),
        (_records(("a", "2011-02-30", 1.0)), {}, "which is no day"),
        (_records(("a", "41000.5", 1.0)), {}, "no date"),
        (_records(("a", None, 1.0)), {}, "no date"),  # type: ignore[arg-type]
        (_records(("a", pd.NaT, 1.0), ("a", pd.Timestamp(0), 1.0)), {}, "blank in 1 of 2"),  # type: ignore[arg-type]
        (_records((" ", "2011-01-01", 1.0)), {}, "client column 'c' is blank in 1"),
        (_records(("a", "2011-01-01", np.nan)), {}, "'v' has nan where a number"),
        (_records(("a", "2011-01-01", "many")), {}, "'v' has 'many'"),  # type: ignore[arg-type]
        (_records(("a", "2011-01-01", 1.0)), {"value_column": "w"}, "no column 'w'"),
        (_records(), {}, "no records"),
        (_every(10), {}, "every 10 days, which does not fit --period=week"),
        (_every(31), {"period": "day"}, "every 31 days"),
        (_records(("a", "2011-01-04", 1.0), ("a", "2011-01-06", 1.0)), {}, "no whole week"),
        (
            _records(("a", "1970-01-01", 1.0), ("a", "2023-01-01", 1.0)),
            {"period": "day"},
            "more than 10,000",
        ),
    ],
)
def test_what_is_no_panel_is_refused(
    records: pd.DataFrame, config: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        build_panel(records, _config(**config))


def test_records_more_often_than_a_period_are_a_panel() -> None:
    assert build_panel(_every(3), _config()).values.sum() == 14.0


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(InputError, match="period='year' is unknown"):
        _config(period="year")
    with pytest.raises(InputError, match="'v' is named in two roles"):
        _config(covariate_columns=("v",))
