"""The findings of recommendations: what is drawn and said is what was found."""

from typing import Any

import numpy as np
import pytest

from fl_research.analyses.recommendation_hits import alike_items
from fl_research.reports import plot_base
from fl_research.reports.findings import rating_agreement, recommendation_hits


def _drawn(module: Any, finding: dict[str, Any]) -> Any:
    with plot_base.style():
        figure = module.figure(finding, {})
        figure.canvas.draw()  # Layout and tick labels are made only then.
    return figure


def _hits(length: int) -> dict[str, Any]:
    rates = np.linspace(0.1, 0.5, length)
    return {
        "customers": 1234,
        "items": max(length, 2),
        "model": rates.tolist(),
        "popularity": (rates / 2).tolist(),
        "alike": [{"item": "cup", "alike": [{"item": "saucer", "cosine": 0.987}]}],
    }


def test_hit_rates_are_drawn_in_percent_against_popularity() -> None:
    figure = _drawn(recommendation_hits, _hits(50))
    (ax,) = figure.axes
    model, popularity = (line.get_ydata() for line in ax.lines if len(line.get_ydata()) > 1)
    assert model[-1] == pytest.approx(50) and popularity[-1] == pytest.approx(25)
    assert ax.get_title(loc="left") == "Hit rate, 1,234 customers, 50 items"
    assert "17 %" in [text.get_text() for text in ax.texts]  # 0.1 + 0.4 * 9 / 49
    assert "| cup | saucer (0.99) |" in recommendation_hits.lines(_hits(50))
    assert "held-out purchases" in recommendation_hits.released(_hits(50))


def test_a_short_catalogue_can_be_drawn() -> None:
    assert _drawn(recommendation_hits, {**_hits(3), "alike": []})
    assert recommendation_hits.lines({**_hits(3), "alike": []}) == []


def test_items_are_alike_whose_factors_point_the_same_way() -> None:
    factors = np.array([[3.0, 0.0], [0.1, 0.01], [0.0, 2.0], [0.0, 0.0]])
    found = alike_items(factors, ("a", "b", "c", "d"))
    assert [entry["item"] for entry in found] == ["a", "c", "b", "d"]
    assert found[0]["alike"][0]["item"] == "b"
    assert found[0]["alike"][0]["cosine"] == pytest.approx(0.1 / np.hypot(0.1, 0.01))
    assert np.isfinite([other["cosine"] for e in found for other in e["alike"]]).all()


def test_rating_agreement_draws_the_mean_prediction_of_each_actual_rating() -> None:
    counts = np.zeros([4, 4], int)
    counts[0, 0], counts[0, 1], counts[3, 3], counts[2, 2] = 30, 10, 40, 3
    finding = {"edges": [1, 2, 3, 4, 5], "actual_by_predicted": counts.tolist(), "ratings": 83}
    figure = _drawn(rating_agreement, finding)
    ax = figure.axes[0]
    assert ax.get_title(loc="left") == "83 held-out ratings"
    mean = ax.lines[-1]
    np.testing.assert_allclose(mean.get_xdata(), [1.5, 4.5])  # Too few of actual rating 3.5.
    np.testing.assert_allclose(mean.get_ydata(), [1.75, 4.5])
    assert "around 1.5 are predicted as 1.8" in rating_agreement.lines(finding)[0]
    empty = {**finding, "actual_by_predicted": np.zeros([4, 4], int).tolist(), "ratings": 0}
    assert _drawn(rating_agreement, empty) and rating_agreement.lines(empty) == []
