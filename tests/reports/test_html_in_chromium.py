"""report.html in a real browser: on a screen, on a phone, on paper."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_research.reports import html, run_report
from tests.reports import chromium, example_run
from tests.reports.example_run import Example

PHONE, SCREEN = 390, 1280

Page = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def program() -> str:
    """Chromium; where the tests must be complete, its absence is a failure and no skip."""
    found = chromium.find()
    if found is None and os.environ.get("CI") == "true" and shutil.which("apt-get"):
        pytest.fail("no Chromium, although CI=true and apt-get is there: apt-get install chromium")
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    return found


@pytest.fixture(scope="module", params=["private", "open"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A run's kind, its page, its report; the private run has warnings too."""
    settings: dict[str, Any] = {"noise_multiplier": None}
    if request.param == "private":
        settings = {"noise_seed": 3, "schema_inferred": True, "adaptive": True}
    folder = tmp_path_factory.mktemp("browser") / request.param
    example_run.write(folder, Example(rounds=4, clients=300, **settings))
    run_report.write(folder)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return request.param, html.render(report, folder), report


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, PHONE, SCREEN])
def test_nothing_is_wider_than_the_screen(
    program: str, page: Page, tmp_path: Path, width: int
) -> None:
    found = chromium.measure(program, page[1], tmp_path, width=width)
    assert found["width"] == width
    assert found["scroll_width"] == width
    assert found["out"] == []
    assert found["cut"] == []
    assert found["requests"] == []
    assert len(found["images"]) == len(page[2]["plots"]) >= 3
    for image in found["images"]:
        assert image["loaded"] and image["natural"] >= 900
        assert image["shown"] >= min(width - 40, 700)


@pytest.mark.slow
def test_the_measurement_sees_what_is_wrong(program: str, page: Page, tmp_path: Path) -> None:
    broken = page[1].replace(
        "<header>", '<header><p style="width:900px;max-width:none;color:#aaa">wide</p>'
    )
    broken = broken.replace("data:image/png;base64,iVBOR", "data:image/png;base64,AAAAA", 1)
    found = chromium.measure(program, broken, tmp_path, width=PHONE)
    assert found["scroll_width"] > 900
    assert any("wide" in element for element in found["out"])
    assert [image["natural"] for image in found["images"]].count(0) == 1
    assert min(_contrast(colors) for colors, _ in found["colors"]) < 4.5


@pytest.mark.slow
def test_all_text_stands_out_from_its_ground(program: str, page: Page, tmp_path: Path) -> None:
    """WCAG 2.1, level AA: at least 4.5 to 1."""
    found = chromium.measure(program, page[1], tmp_path, width=SCREEN)
    assert len(found["colors"]) >= 5
    for colors, element in found["colors"]:
        assert _contrast(colors) >= 4.5, f"{colors}: {element}"


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(PHONE, 844), (SCREEN, 900)])
def test_a_picture_of_the_page_shows_text_and_colours(
    program: str, page: Page, tmp_path: Path, width: int, height: int
) -> None:
    from matplotlib.image import imread

    png = chromium.picture(program, page[1], tmp_path / "page.png", width=width, height=height)
    pixels = imread(png)[..., :3]
    assert pixels.shape[:2] == (height, width)
    assert 0.7 < (pixels.min(axis=2) > 0.9).mean() < 0.98  # The ground, white and tinted.
    assert 0.005 < (pixels.max(axis=2) < 0.4).mean() < 0.2  # Ink.
    assert (np.ptp(pixels, axis=2) > 0.3).mean() > 0.001  # Blue and orange.


@pytest.mark.slow
def test_it_prints_on_a4(program: str, page: Page, tmp_path: Path) -> None:
    printed = chromium.pdf(program, page[1], tmp_path / "page.pdf").read_bytes()
    pages = len(re.findall(rb"/Type\s*/Page\b", printed))
    assert 8 <= pages <= 18
    sizes = set(re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", printed))
    assert {(round(float(w) / 72 * 25.4), round(float(h) / 72 * 25.4)) for w, h in sizes} == {
        (210, 297)
    }
    assert printed.count(b"/Subtype /Image") >= len(page[2]["plots"])


def _contrast(colors: str) -> float:
    """WCAG's contrast of "rgb(...) on rgb(...)"."""
    low, high = sorted(_luminance(color) for color in colors.split(" on "))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: str) -> float:
    """WCAG's relative luminance of "rgb(r, g, b)"."""
    shares = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
