"""Windows against a count by hand of each one, and against leaks from later periods."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from fl_research.data.panel import Panel, PanelConfig, build_panel
from fl_research.data.windows import TimeSplit, WindowConfig, cut_windows, split_by_time
from fl_research.errors import InputError

PERIODS = 30


def _panel(values: np.ndarray, first: np.ndarray | None = None) -> Panel:
    """A panel of given values; zeros stand before a client's first period."""
    clients, periods = values.shape
    return Panel(
        client_ids=np.array([f"c{index}" for index in range(clients)]),
        starts=np.arange(periods).astype("datetime64[D]"),
        numbers=np.arange(periods),
        values=values,
        covariates=np.stack([values**2], axis=-1),
        first=np.zeros(clients, np.int64) if first is None else first,
        cleaning={},
    )


def _random_panel(seed: int = 0) -> Panel:
    """Intermittent demand of clients that come at different times."""
    generator = np.random.default_rng(seed)
    values = generator.gamma(1.0, 30.0, [12, PERIODS]) * (generator.random([12, PERIODS]) < 0.5)
    first = generator.integers(0, 15, 12)
    values[np.arange(PERIODS) < first[:, None]] = 0
    return _panel(values, first)


CONFIG = WindowConfig(
    lags=5,
    horizon=3,
    season=4,
    min_history=6,
    min_active=2,
    quantiles=(0.1, 0.5, 0.9),
    history_inputs=True,
)


def test_each_window_by_hand() -> None:
    panel = _random_panel()
    cut = cut_windows(panel, CONFIG, range(6, PERIODS - 2))
    expected = [
        (client, origin)
        for origin in range(6, PERIODS - 2)
        for client in range(12)
        if origin - panel.first[client] >= 6
        and np.count_nonzero(panel.values[client, :origin]) >= 2
    ]
    assert list(zip(cut.clients, cut.origins, strict=True)) == expected
    assert cut.targets is not None
    for row, (client, origin) in enumerate(expected):
        past = panel.values[client, panel.first[client] : origin]
        scale = past.mean()
        inputs = cut.features["inputs"][row]
        np.testing.assert_allclose(cut.features["scale"][row], scale, rtol=1e-6)
        np.testing.assert_allclose(inputs[:, 0], np.minimum(past[-5:] / scale, 10) - 1, atol=1e-5)
        np.testing.assert_array_equal(inputs[:, 1], past[-5:] == 0)
        squares = np.minimum(past[-5:] ** 2 / (past**2).mean(), 10)
        np.testing.assert_allclose(inputs[:, 2], squares - 1, atol=1e-5)
        angle = 2 * np.pi * origin / 4
        waves = [np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)]
        own = np.quantile(past, CONFIG.quantiles)
        np.testing.assert_allclose(inputs[-1, 7:], np.minimum(own / scale, 10) - 1, atol=1e-5)
        np.testing.assert_allclose(inputs[-1, 3:7], waves, atol=1e-6)
        assert not inputs[:-1, 3:].any()
        future = panel.values[client, origin : origin + 3]
        np.testing.assert_allclose(cut.targets[row], future / scale, rtol=1e-5)
        naive = [past[-1], past[-5:].mean(), past.mean()]
        np.testing.assert_allclose(
            cut.features["naive"][row, :3], np.tile(naive, (3, 1)).T, rtol=1e-5
        )
        np.testing.assert_allclose(cut.features["naive"][row, 3], past[[-4, -3, -2]], rtol=1e-5)
        np.testing.assert_allclose(cut.features["own_quantiles"][row], own, rtol=1e-5)


def _same(a: TimeSplit, b: TimeSplit, split: str, names: tuple[str, ...] = ()) -> bool:
    """Whether the features (and targets) of a split are the same."""
    one, other = getattr(a, split), getattr(b, split)
    same = all(np.array_equal(one.features[n], other.features[n]) for n in one.features)
    return same and ("targets" not in names or np.array_equal(one.targets, other.targets))


def test_splits_are_by_time_and_nothing_leaks_back() -> None:
    panel = _random_panel()
    split = split_by_time(panel, CONFIG)
    last_of_training = split.train.origins.max() + CONFIG.horizon - 1
    assert last_of_training < split.validation.origins.min() == PERIODS - 6
    assert split.test.origins.min() == PERIODS - 3
    assert set(split.test.clients) == set(split.train.clients)

    values = panel.values.copy()
    values[:, PERIODS - 3 :] += 1000
    changed = split_by_time(_panel(values, panel.first), CONFIG)
    assert _same(split, changed, "train", ("targets",))
    assert _same(split, changed, "validation", ("targets",))
    assert _same(split, changed, "test")
    assert not _same(split, changed, "test", ("targets",))

    values = panel.values.copy()
    values[:, PERIODS - 6 : PERIODS - 3] += 1000
    changed = split_by_time(_panel(values, panel.first), CONFIG)
    assert _same(split, changed, "train", ("targets",))
    assert _same(split, changed, "validation")
    assert not _same(split, changed, "validation", ("targets",))


def test_seasonal_naive_is_exact_where_demand_repeats() -> None:
    values = np.tile([1.0, 5.0, 2.0, 0.0, 3.0, 4.0, 7.0], (2, 6))
    for horizon in (3, 9):
        config = WindowConfig(lags=7, horizon=horizon, season=7)
        cut = cut_windows(_panel(values), config, [21, 24])
        assert cut.targets is not None
        in_units = cut.targets * cut.features["scale"][:, None]
        np.testing.assert_allclose(cut.features["naive"][:, 3], in_units, rtol=1e-5)


def test_a_season_longer_than_the_history_has_no_seasonal_naive() -> None:
    assert "seasonal_naive" not in WindowConfig(lags=5, horizon=1, season=7).naive_names
    assert "seasonal_naive" in WindowConfig(lags=5, horizon=1, season=7, min_history=7).naive_names


def test_small_histories_are_scaled_by_the_floor_and_giants_are_clipped() -> None:
    values = np.array([[0.0, 0.0, 0.0, 0.001, 0.0], [1.0, 0.0, 0.0, 99.0, 1.0]])
    config = WindowConfig(lags=4, horizon=1, scale_floor=0.1, clip=(0.0, 2.0))
    cut = cut_windows(_panel(values), config, [4])
    np.testing.assert_allclose(cut.features["scale"], [0.1, 25.0])
    assert cut.features["inputs"][1, 3, 0] == 2.0 - 1.0
    assert cut.targets is not None
    np.testing.assert_allclose(cut.targets, [[0.0], [0.04]])


def test_a_day_means_the_same_whenever_the_records_begin() -> None:
    times = pd.date_range("2024-01-01", periods=40).astype(str)
    records = pd.DataFrame({"c": "a", "t": times, "v": np.arange(40.0) % 7})
    columns = PanelConfig(client_column="c", time_column="t", value_column="v", period="day")
    config = WindowConfig(lags=7, horizon=2, season=7)
    whole = cut_windows(build_panel(records, columns), config, [40])
    late = cut_windows(build_panel(records[10:], columns), config, [30])
    np.testing.assert_array_equal(
        whole.features["inputs"][..., 2:], late.features["inputs"][..., 2:]
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lags": 0}, "lags=0"),
        ({"horizon": -2}, "horizon=-2"),
        ({"season": 1}, "season=1"),
        ({"min_history": 4}, "min_history=4 is less than lags=5"),
        ({"min_active": -1}, "min_active=-1"),
        ({"clip": (1.0, 10.0)}, "clip=\\(1.0, 10.0\\)"),
        ({"clip": (-1.0, np.inf)}, "clip="),
        ({"scale_floor": 0.0}, "scale_floor=0.0"),
        ({"history_inputs": True}, "history_inputs=True needs quantiles"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        WindowConfig(**{"lags": 5, "horizon": 2, **settings})


def test_too_little_history_is_refused() -> None:
    with pytest.raises(InputError, match="hold 30 whole periods.* need 31"):
        split_by_time(_random_panel(), WindowConfig(lags=4, horizon=9))
    with pytest.raises(InputError, match="none of the 12 clients"):
        split_by_time(_random_panel(), WindowConfig(lags=4, horizon=2, min_active=25))
