"""The finding of a forecast: what is drawn and written is what was found."""

from typing import Any

import numpy as np
import pytest

from fl_research.reports import plot_base
from fl_research.reports.findings import forecast


def _finding(steps: int = 3, **changed: Any) -> dict[str, Any]:
    return {
        "value": "units",
        "rows": 1200,
        "metric": "pinball_loss",
        "errors": {
            "model": [1.0 + step for step in range(steps)],
            "last_value": [3.0 + step for step in range(steps)],
            "always_zero": [900.0] * steps,
        },
        "actual": [100.0] * steps,
        "forecast": [90.0] * steps,
        "quantiles": [0.1, 0.5, 0.9],
        "not_above": [[0.08, 0.5, 0.94]] * steps,
        **changed,
    }


def _drawn(finding: dict[str, Any]) -> Any:
    with plot_base.style():
        figure = forecast.figure(finding, {})
        figure.canvas.draw()  # Layout and tick labels are made only then.
    return figure


def test_errors_are_drawn_and_what_is_far_off_is_in_the_table_only() -> None:
    errors, totals, quantiles = _drawn(_finding()).axes
    drawn = [line.get_ydata().tolist() for line in errors.lines]
    assert drawn == [[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]
    assert [text.get_text() for text in errors.texts] == ["this run", "last value"]
    assert [list(line.get_ydata()) for line in totals.lines] == [[100.0] * 3, [90.0] * 3]
    shares = [line.get_ydata()[0] for line in quantiles.lines if len(line.get_xdata()) == 3]
    assert shares == [0.08, 0.5, 0.94]
    table = forecast.lines(_finding())
    assert "| always zero | 900 | 900 | 900 |" in table
    assert table[-2] == (
        "- 94.0 % of the actual values are not above the forecast that 90 % should not be above."
    )
    assert "Medians do not add up" in table[-1]


def test_names_of_close_lines_do_not_overlap() -> None:
    errors = {"model": [1.0, 1.0], "a": [1.001, 1.001], "b": [1.002, 1.002]}
    ax = _drawn(_finding(2, errors=errors, not_above=[[0.1, 0.5, 0.9]] * 2)).axes[0]
    heights = sorted(text.get_position()[1] for text in ax.texts)
    assert np.diff(heights).min() > 0.05 * ax.get_ylim()[1]


@pytest.mark.parametrize("steps", [1, 30])
def test_a_point_forecast_has_no_quantiles(steps: int) -> None:
    finding = _finding(steps, metric="rmse", quantiles=[])
    del finding["not_above"]
    assert len(_drawn(finding).axes) == 2
    text = "\n".join(forecast.lines(finding))
    assert text.startswith("RMSE by step ahead, 1,200 forecasts of each:")
    assert "should not be above" not in text
    assert "test periods" in forecast.released(finding)
