"""The generated stores: their truth is the truth, and nothing forecasts better than it."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from fl_research.data.panel import PanelConfig, build_panel
from fl_research.data.synthetic.demand import DemandConfig, generate, season_shape
from fl_research.data.windows import WindowConfig, split_by_time
from fl_research.errors import InputError


def test_the_truth_has_the_error_that_the_noise_gives() -> None:
    drawn = generate(DemandConfig(num_stores=300), 0)
    units, expected = drawn.records["units"].to_numpy(), drawn.expected
    theory = (expected * 0.2).mean() * np.sqrt(2 / np.pi)
    assert drawn.mean_absolute_error == pytest.approx(theory, rel=0.02)
    assert np.mean(units - expected) == pytest.approx(0, abs=4 * theory / np.sqrt(len(units)))
    inside = (units >= drawn.quantile(0.1)) & (units <= drawn.quantile(0.9))
    assert inside.mean() == pytest.approx(0.8, abs=0.01)
    # The truth cannot be improved by a factor or a shift.
    for other in (expected * 1.02, expected * 0.98, expected + 3, expected - 3):
        assert np.mean((units - other) ** 2) > np.mean((units - expected) ** 2)
        assert np.mean(np.abs(units - other)) > drawn.mean_absolute_error


def test_no_forecast_from_the_past_beats_the_truth() -> None:
    drawn = generate(DemandConfig(num_stores=200), 1)
    columns = {"client_column": "store", "time_column": "week", "period": "week"}
    panel = build_panel(drawn.records, PanelConfig(value_column="units", **columns))
    expected = drawn.records.assign(units=drawn.expected)
    truth = build_panel(expected, PanelConfig(value_column="units", **columns))
    split = split_by_time(panel, WindowConfig(lags=26, horizon=4, season=13))
    assert split.train.targets is not None and split.test.targets is not None
    model = Ridge().fit(
        split.train.features["inputs"].reshape(len(split.train.clients), -1), split.train.targets
    )
    scale = split.test.features["scale"][:, None]
    actual = split.test.targets * scale
    rows = len(split.test.clients)
    forecast = model.predict(split.test.features["inputs"].reshape(rows, -1)) * scale

    def rmse(values: np.ndarray) -> float:
        return float(np.sqrt(np.mean((values - actual) ** 2)))

    of_truth = rmse(truth.values[split.test.clients, -4:])
    baselines = [rmse(split.test.features["naive"][:, index]) for index in range(4)]
    # Linear autoregression comes near the truth, the seasonal baseline less so, others far away.
    assert of_truth < rmse(forecast) < 1.15 * of_truth
    assert 1.15 * of_truth < min(baselines)


def test_the_season_repeats_and_sums_to_nothing() -> None:
    config = DemandConfig(season=9)
    shape = season_shape(config, np.arange(27))
    np.testing.assert_allclose(shape[:18], shape[9:])
    assert shape[:9].sum() == pytest.approx(0, abs=1e-12)
    assert np.abs(shape).max() <= 1


def test_the_seed_decides() -> None:
    config = DemandConfig(num_stores=3)
    assert generate(config, 4).records.equals(generate(config, 4).records)
    assert not generate(config, 4).records.equals(generate(config, 5).records)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_stores", 0), ("season", 2), ("noise", 0.5), ("trend", -1.0), ("opening_weeks", 0)],
)
def test_wrong_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name}={value}"):
        DemandConfig(**{name: value})  # type: ignore[arg-type]
