"""The figure of a plan shows the numbers of its curves, in each format, and nothing else."""

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from fl_research.errors import InputError
from fl_research.reports import planning_plots


def answer(**changes: Any) -> dict[str, Any]:
    values = {
        "mechanism": "gaussian",
        "claim": {"epsilon": 2.0},
        "target_epsilon": 3.0,
        "rounds": 40,
        "noise_multiplier": 1.5,
        "prefix_rmse": 0.2,
        "delta": 1e-5,
    }
    return values | changes


def line(label: str, mechanism: str, rmse: list[float | None], **sampling: Any) -> dict[str, Any]:
    return {
        "label": label,
        "mechanism": mechanism,
        "sampling": sampling,
        "amplified": "min_separation" not in sampling,
        "prefix_rmse": rmse,
    }


def curves() -> dict[str, Any]:
    return {
        "epsilon_over_rounds": {"rounds": [1, 20, 40], "epsilon": [0.5, 1.4, 2.0]},
        "noise_over_epsilon": {"epsilon": [1.0, 2.0, 4.0], "noise_multiplier": [2.5, 1.5, None]},
        "error_at_equal_epsilon": {
            "epsilon": [1.0, 2.0, 4.0],
            "mechanisms": [
                line("Gaussian, Poisson", "gaussian", [0.4, 0.2, 0.1]),
                line("tree", "tree_aggregation", [None, 0.3, 0.101], min_separation=8),
                line("none found", "buffered_toeplitz", [None, None, None], min_separation=8),
            ],
        },
    }


def points(ax: Any, place: int) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in ax.lines[place].get_xydata()]


def test_each_panel_shows_its_curve() -> None:
    figure = planning_plots.plan_figure(answer(), curves())
    over_rounds, over_epsilon, compared = figure.axes
    assert points(over_rounds, 0) == [(1, 0.5), (20, 1.4), (40, 2.0)]
    assert points(over_epsilon, 0) == [(1.0, 2.5), (2.0, 1.5)]
    assert points(compared, 0) == [(1.0, 0.4), (2.0, 0.2), (4.0, 0.1)]
    assert points(compared, 1) == [(2.0, 0.3), (4.0, 0.101)]
    assert compared.lines[0].get_linestyle() == "--" and compared.lines[1].get_linestyle() == "-"
    texts = {text.get_text() for text in compared.texts}
    assert {"Gaussian, Poisson (amplified)", "tree", "this plan"} <= texts
    assert not any("none found" in text for text in texts)
    assert any("at most once in 8 rounds" in text for text in texts)
    assert {"target 3", "ε 2"} <= {text.get_text() for text in over_rounds.texts}
    assert points(compared, 2) == [(2.0, 0.2)]


@pytest.mark.parametrize(
    "changes",
    [{"mechanism": "laplace"}, {"prefix_rmse": None}, {"claim": {"epsilon": 9.0}}],
)
def test_a_plan_that_has_no_place_among_the_errors_is_not_marked(changes: dict[str, Any]) -> None:
    compared = planning_plots.plan_figure(answer(**changes), curves()).axes[2]
    assert "this plan" not in {text.get_text() for text in compared.texts}


def test_no_guarantee_is_drawn_without_a_claim() -> None:
    drawn = curves()
    drawn["epsilon_over_rounds"]["epsilon"] = [None, None, None]
    figure = planning_plots.plan_figure(
        answer(claim={"epsilon": None}, noise_multiplier=0.0, target_epsilon=None), drawn
    )
    assert not figure.axes[0].lines


@pytest.mark.parametrize("suffix", planning_plots.FORMATS)
def test_equal_plans_give_equal_files(tmp_path: Path, suffix: str) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in ("one", "two")]
    for path in paths:
        planning_plots.draw_plan(path, answer(), curves())
    first, second = (path.read_bytes() for path in paths)
    assert first == second and len(first) > 5_000
    if suffix == ".png":
        pixels = matplotlib.image.imread(paths[0])
        assert pixels.shape[1] > 2 * pixels.shape[0] and np.ptp(pixels[..., :3]) > 0.5


def test_labels_do_not_touch_and_keep_their_order() -> None:
    wanted = [0.1, 0.11, 0.12, 0.5, 0.9, 0.905]
    places = planning_plots._moved_apart(wanted)
    assert min(np.diff(places)) >= planning_plots._NARROWEST_LABELS - 1e-12
    assert places[3] == 0.5 and np.mean(places[4:]) == pytest.approx(0.9025)
    assert min(planning_plots._moved_apart([0.0, 0.0, 0.0])) >= 0.0


@pytest.mark.parametrize(
    ("name", "says"), [("plan.gif", "no kind of picture"), ("no/plan.png", "in no folder")]
)
def test_a_file_that_cannot_be_is_refused(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        planning_plots.check_plot_file(tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        planning_plots.check_plot_file(tmp_path / "folder.png")
