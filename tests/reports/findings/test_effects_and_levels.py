"""The findings of satisfaction analysis: what is drawn is what was found."""

from typing import Any

import numpy as np
import pytest

from fl_research.reports import plot_base
from fl_research.reports.findings import feature_effects, groups, levels, value_effects


def _drawn(module: Any, finding: dict[str, Any]) -> Any:
    with plot_base.style():
        figure = module.figure(finding, {})
        figure.canvas.draw()  # Layout and tick labels are made only then.
    return figure


def _effects(number: int, metric: str = "auc") -> dict[str, Any]:
    effects = np.linspace(0.1, -0.002, number) if number > 1 else [0.1]
    columns = [
        {"column": f"column {i}", "effect": float(effect), "spread": 0.004}
        for i, effect in enumerate(effects)
    ]
    return {
        "metric": metric, "base": 0.9, "repeats": 5, "clients": 1200, "rows": 3000,
        "columns": columns,
    }  # fmt: skip


def test_feature_effects_are_bars_with_the_largest_on_top() -> None:
    figure = _drawn(feature_effects, _effects(25))
    (ax,) = figure.axes
    assert len(ax.patches) == feature_effects.MOST_DRAWN
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[-1] == "column 0" and labels[0] == "column 19"
    assert ax.patches[-1].get_width() == pytest.approx(0.1)
    assert ax.get_title(loc="left") == "Feature effects; 5 weaker ones are not drawn"
    assert ax.get_xlabel() == "drop of AUC without the column"


def test_an_error_rises_and_one_column_can_be_drawn() -> None:
    figure = _drawn(feature_effects, _effects(1, "mae"))
    assert figure.axes[0].get_xlabel() == "rise of mean absolute error without the column"
    assert (
        "rise of mean absolute error (0.9000 with all columns)"
        in feature_effects.lines(_effects(1, "mae"))[0]
    )


def test_what_is_not_defined_is_said_and_not_drawn() -> None:
    finding = _effects(3)
    finding["base"] = None
    finding["columns"][1] = {"column": "a|b", "effect": None, "spread": None}
    assert len(_drawn(feature_effects, finding).axes[0].patches) == 2
    assert "| a\\|b | not defined | not defined |" in feature_effects.lines(finding)
    finding["columns"] = finding["columns"][1:2]
    assert not _drawn(feature_effects, finding).axes[0].patches


def test_the_table_of_feature_effects_has_every_column() -> None:
    lines = feature_effects.lines(_effects(25))
    assert sum(line.startswith("| column ") for line in lines) == 25
    assert "| column 0 | 0.1000 | 0.0040 |" in lines
    assert "1,200 test clients" in feature_effects.released(_effects(25))


_CONFUSION = {"levels": ["1", "2", "3"], "confusion": [[8, 2, 0], [1, 5, 4], [1, 0, 9]]}


def test_levels_are_shares_of_each_true_level() -> None:
    left, right = _drawn(levels, _CONFUSION).axes
    np.testing.assert_allclose(left.images[0].get_array()[1], [0.1, 0.5, 0.4])
    assert [text.get_text() for text in left.texts][:3] == ["80%", "20%", "0%"]
    assert [bar.get_height() for bar in right.patches] == [10, 10, 10]
    np.testing.assert_array_equal(right.lines[0].get_ydata(), [10, 7, 13])
    assert (
        "Of 30 test rows 73.3% are predicted at their level and 96.7%"
        in levels.lines(_CONFUSION)[0]
    )
    assert "confusion" in levels.released(_CONFUSION)


def test_many_levels_and_none_at_all_can_be_drawn() -> None:
    many = {"levels": [f"level number {i}" for i in range(20)], "confusion": np.eye(20).tolist()}
    assert not _drawn(levels, many).axes[0].texts
    nobody = {"levels": ["1", "2", "3"], "confusion": np.zeros([3, 3]).tolist()}
    _drawn(levels, nobody)
    assert levels.lines(nobody) == []


def _values(**more: Any) -> dict[str, Any]:
    columns = [
        {"column": "staff", "is_number": False, "values": ["1", "5"], "means": [1.0, 3.5]},
        {"column": "wait", "is_number": True, "values": [2.0, 7.5, 30.0], "means": [2.2, 2, 1.5]},
        {"column": "city", "is_number": False, "values": ["a|b", "c"], "means": [2.0, 2.1]},
        {"column": "one", "is_number": False, "values": ["x"], "means": [2.0]},
        {"column": "none", "is_number": False, "values": [], "means": []},
    ]
    return {
        "levels": ["1", "2", "3", "4", "5"], "positive": None, "average": 2.0, "clients": 900,
        "columns": columns, **more,
    }  # fmt: skip


def test_value_effects_are_a_panel_a_column_that_has_values_to_compare() -> None:
    panels = _drawn(value_effects, _values()).axes
    assert [ax.get_title(loc="left") for ax in panels] == ["staff", "wait", "city"]
    np.testing.assert_array_equal(panels[0].lines[1].get_ydata(), [1.0, 3.5])
    np.testing.assert_array_equal(panels[1].lines[1].get_xdata(), [2.0, 7.5, 30.0])
    # Names have no order that a line could follow.
    assert [ax.lines[1].get_linestyle() for ax in panels] == ["-", "-", "None"]
    ticks = {label.get_text() for label in panels[0].get_yticklabels()}
    assert {"2", "3", "4"} <= ticks <= {"", *"12345"}


def test_the_table_of_value_effects_counts_as_the_levels_do() -> None:
    lines = value_effects.lines(_values())
    assert "expected level over the rows of 900 test clients is 3.00" in lines[0]
    assert "| staff | 1 | 2.00 | 5 | 4.50 |" in lines
    assert "| wait | 30 | 2.50 | 2 | 3.20 |" in lines
    assert "| city | a\\|b | 3.00 | c | 3.10 |" in lines
    named = value_effects.lines(_values(levels=["bad", "fair", "good"], average=1.0))
    assert "is 2.00 of 3." in named[0]
    yes = value_effects.lines(_values(levels=None, positive="satisfied", average=0.44))
    assert "mean probability of “satisfied” over the rows of 900 test clients is 0.440" in yes[0]
    assert "900 test clients" in value_effects.released(_values())


def test_no_column_to_compare_is_an_empty_figure() -> None:
    finding = _values()
    finding["columns"] = finding["columns"][3:]
    assert not any(ax.lines for ax in _drawn(value_effects, finding).axes)


def _groups(**more: Any) -> dict[str, Any]:
    found = [
        {
            "group": f"north|{i}", "rows": 1000 - i, "clients": 40, "observed": 3.0 - i / 10,
            "predicted": 2.5, "metric": None if i == 1 else 0.5,
        }
        for i in range(3)
    ]  # fmt: skip
    return {
        "columns": ["branch", "channel"], "levels": ["1", "2", "3", "4", "5"], "positive": None,
        "metric": "mae", "groups": found, "rows_left_out": 12, "min_rows": 30, **more,
    }  # fmt: skip


def test_groups_are_pairs_of_points_with_the_most_satisfied_on_top() -> None:
    (ax,) = _drawn(groups, _groups()).axes
    observed, predicted = ax.lines
    np.testing.assert_allclose(observed.get_xdata(), [2.8, 2.9, 3.0])
    np.testing.assert_allclose(predicted.get_xdata(), [2.5, 2.5, 2.5])
    assert ax.get_yticklabels()[-1].get_text() == "north|0  (1,000)"
    assert ax.get_title(loc="left") == "By branch, channel"
    many = _groups(groups=_groups()["groups"] * 15)
    (ax,) = _drawn(groups, many).axes
    assert len(ax.lines[0].get_xdata()) == 30
    assert "the 15 least satisfied are not drawn" in ax.get_title(loc="left")
    _drawn(groups, _groups(groups=[]))


def test_the_table_of_groups_says_what_is_left_out() -> None:
    lines = groups.lines(_groups())
    assert "12 rows are in groups of fewer than 30 rows or in none" in lines[0]
    assert "| north\\|0 | 1,000 | 40 | 4.00 | 3.50 | 0.5000 |" in lines
    assert "| north\\|1 | 999 | 40 | 3.90 | 3.50 | not defined |" in lines
    shares = groups.lines(_groups(levels=None, positive="satisfied", metric="auc"))
    assert "| Group | Rows | Clients | Observed share of “satisfied” | Predicted | AUC |" in shares
    assert "3 groups of 30 or more test rows" in groups.released(_groups())
