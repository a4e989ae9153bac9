"""report.html says what report.md says, in well-formed HTML that fetches and runs nothing."""

import base64
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fl_research.reports import html, html_markdown, markdown, run_report
from tests.reports import example_run
from tests.reports.example_run import Example

SMALL = {"rounds": 4, "clients": 300}
RUNS: dict[str, dict[str, Any]] = {
    "private": {},
    "open": {"noise_multiplier": None},
    "warned": {"noise_seed": 3, "schema_inferred": True, "adaptive": True, "repeated_round": 2},
}
HOSTILE = "<script>alert(1)</script> \"double\" 'single' a|b & &amp; <img src=http://x.example/y>"
_VOID = {"meta", "img", "br", "col"}


class _Reader(HTMLParser):
    """Walks a page: balance of the tags, text by block, attributes."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.faults: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if len(dict(attrs)) != len(attrs):
            self.faults.append(f"<{tag}> has an attribute twice")
        if tag == "p" and "p" in self.open:
            self.faults.append("a paragraph within a paragraph")
        if tag not in _VOID:
            self.open.append(tag)
        if tag not in ("strong", "code", "a"):
            self.text += " "

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes something else")
        if tag not in ("strong", "code", "a"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs of each kind, with their plots."""
    parent = tmp_path_factory.mktemp("html")
    for name, settings in RUNS.items():
        example_run.write(parent / name, Example(**(SMALL | settings)))
        run_report.write(parent / name)
    return {name: parent / name for name in RUNS}


def _report(folder: Path) -> dict[str, Any]:
    """report.json of a run."""
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def _hostile(report: Any) -> Any:
    """The report with hostile text in every place where a user's words may stand."""
    changed = json.loads(json.dumps(report))
    changed["title"] = HOSTILE
    changed["data"]["notes"] = [HOSTILE, "**", "`", "back\\slash\\"]
    changed["data"]["dataset"] = changed["data"]["source"] = HOSTILE
    changed["repeat"]["command"] = f"python -m x --note='{HOSTILE}'"
    changed["declared_public"] = [HOSTILE]
    changed["privacy"]["unit"] = changed["unit"]["unit"] = HOSTILE
    changed["privacy"]["warnings"] = [HOSTILE]
    changed["plots"] = [{"file": 'x"y<z>.png', "title": HOSTILE}]
    return changed


def _normal(text: str) -> str:
    """The text with single spaces."""
    return " ".join(text.split())


def _pieces(text: str) -> Iterator[str]:
    """The texts of a Markdown report without its marks, each heading, point and cell on its own."""
    for line in text.split("\n"):
        plain = re.sub(r"^(#+ |- |> | {4})", "", line)
        if re.fullmatch(r"[|: -]*", plain):
            continue
        cells = re.split(r" \| ", plain[2:-2]) if plain.startswith("| ") else [plain]
        for cell in cells:
            bare = re.sub(r"^!\[(.*)\]\(.*\)$", r"\1", cell)
            bare = re.sub(r"\*\*(.+?)\*\*", r"\1", bare).replace("\\|", "|")
            yield _normal(re.sub(r"`([^`]+)`", r"\1", bare))


@pytest.mark.parametrize("hostile", [False, True])
@pytest.mark.parametrize("name", RUNS)
def test_all_text_of_the_markdown_is_there_in_its_order(
    folders: dict[str, Path], name: str, hostile: bool
) -> None:
    report = _report(folders[name])
    report = _hostile(report) if hostile else report
    page = html.render(report, folders[name])
    text = _normal(_Reader(page).text)
    pieces = list(_pieces(markdown.render(report)))
    assert len(pieces) > 150
    assert pieces[0] in text
    place = text.index(" 1. The claim ", text.index("How can I check it?"))
    for piece in pieces[1:]:
        found = text.find(piece, place)
        assert found >= 0, f"{piece!r} is missing after {text[place - 80 : place]!r}"
        place = found + len(piece)


@pytest.mark.parametrize("hostile", [False, True])
@pytest.mark.parametrize("name", RUNS)
def test_the_page_is_well_formed_and_fetches_and_runs_nothing(
    folders: dict[str, Path], name: str, hostile: bool
) -> None:
    report = _report(folders[name])
    page = html.render(_hostile(report) if hostile else report, folders[name])
    reader = _Reader(page)
    assert reader.faults == []
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 10
    allowed = (
        "html head meta title style body main header nav footer section div h1 h2 h3 p a ul li "
        "table colgroup col thead tbody tr th td blockquote pre code strong dl dt dd figure img "
        "figcaption"
    )
    for tag, attributes in reader.tags:
        assert tag in allowed.split()
        assert not [key for key in attributes if key.startswith("on")]
        assert (attributes.get("src") or "data:image/png;base64,").startswith("data:image/png;")
        href = attributes.get("href")
        assert href is None or href.removeprefix("#") in ids
        assert attributes.get("aria-labelledby") in (None, *ids)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert ("meta", {"charset": "utf-8"}) in reader.tags
    assert ("html", {"lang": "en"}) in reader.tags
    assert 'name="viewport"' in page


def test_headings_and_table_heads_are_marked_up(folders: dict[str, Path]) -> None:
    reader = _Reader(html.render(_report(folders["private"]), folders["private"]))
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("h1") == tags.count("main") == tags.count("nav") == 1
    sections = len(re.findall("^## ", markdown.render(_report(folders["private"])), re.MULTILINE))
    assert tags.count("h2") == tags.count("section") == sections + 1 == 15
    assert all("scope" in attributes for tag, attributes in reader.tags if tag == "th")
    links = [attributes for tag, attributes in reader.tags if tag == "a"]
    assert len(links) == sections + 1


def test_the_head_has_claim_figures_warnings_and_the_check(folders: dict[str, Path]) -> None:
    report = _report(folders["warned"])
    page = html.render(report, folders["warned"])
    head = _normal(_Reader(page[: page.index("</header>")] + "</header></main></body></html>").text)
    test = report["utility"]["test"]["auc"]
    central = report["utility"]["baselines"]["central"]["auc"]
    for text in (
        report["privacy"]["sentence"],
        *report["privacy"]["warnings"],
        f"Test AUC {test:.4f} same model, central {central:.4f} trivial 0.5000",
        "Unit one customer protected as a whole",
        "Clients 300 300 examples train 210 validation 30 test 60",
        "Rounds 4 of 4 planned completed",
        "δ 1e-5",
        report["evidence"]["verify"],
    ):
        assert text in head
    assert page.count('<p class="warning">') == 2 * len(report["privacy"]["warnings"]) >= 4


def test_a_run_without_privacy_shows_no_epsilon(folders: dict[str, Path]) -> None:
    page = html.render(_report(folders["open"]), folders["open"])
    text = _normal(_Reader(page).text)
    assert '<div class="no claim">' in page and '<div class="claim">' not in page
    assert "ε none no guarantee" in text and "δ none no guarantee" in text
    assert "ε = " not in text and "protected as a whole" not in text
    assert '<div class="claim">' in html.render(_report(folders["private"]), None)


def test_plots_are_inside_byte_by_byte(folders: dict[str, Path]) -> None:
    folder = folders["private"]
    report = _report(folder)
    reader = _Reader(html.render(report, folder))
    images = [attributes for tag, attributes in reader.tags if tag == "img"]
    # An image stands where the Markdown has it.
    files = re.findall(r"^!\[.*\]\((.*)\)$", markdown.render(report), re.MULTILINE)
    assert len(images) == len(files) == len(report["plots"]) >= 3
    titles = {plot["file"]: plot["title"] for plot in report["plots"]}
    for image, file in zip(images, files, strict=True):
        encoded = (image["src"] or "").partition("base64,")[2]
        assert base64.b64decode(encoded, validate=True) == (folder / file).read_bytes()
        assert image["alt"] == f"Plot: {titles[file]}"
        assert int(image["width"] or 0) > int(image["height"] or 0) > 100


def test_without_a_folder_a_line_stands_for_each_plot(folders: dict[str, Path]) -> None:
    report = _report(folders["private"])
    page = html.render(report)
    assert "<img" not in page
    assert page.count("Not in this file: ") == len(report["plots"])


def test_only_pictures_of_the_run_are_put_in(folders: dict[str, Path], tmp_path: Path) -> None:
    """A report from elsewhere cannot pull other files of the reader's into the page."""
    folder = tmp_path / "run"
    (folder / "plots").mkdir(parents=True)
    png = (folders["private"] / "plots" / "clients.png").read_bytes()
    (tmp_path / "outside.png").write_bytes(png)
    (folder / "secret.txt").write_text("not a picture")
    (folder / "plots" / "inside.png").write_bytes(png)
    report = _report(folders["private"])
    for file, shown in (
        ("../outside.png", 0),
        (str(tmp_path / "outside.png"), 0),
        ("secret.txt", 0),
        ("plots/inside.png", 1),
    ):
        plots = [{"file": file, "title": "a plot"}]
        assert html.render(report | {"plots": plots}, folder).count("<img") == shown


def test_the_same_report_gives_the_same_bytes(folders: dict[str, Path]) -> None:
    folder = folders["private"]
    again = json.loads(json.dumps(_report(folder)))
    assert html.render(_report(folder), folder) == html.render(again, folder)


def test_hostile_text_is_shown_as_text(folders: dict[str, Path]) -> None:
    page = html.render(_hostile(_report(folders["private"])), folders["private"])
    assert "<script" not in page and "<img" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 8


@pytest.mark.parametrize("name", RUNS)
def test_every_line_of_a_report_is_of_a_known_kind(folders: dict[str, Path], name: str) -> None:
    assert html_markdown.unrecognised(markdown.render(_report(folders[name]))) == []


@pytest.mark.parametrize(
    "line",
    [
        "#### deep",
        "* star",
        "+ plus",
        "1. first",
        "```python",
        "  - nested",
        "---",
        "<b>html</b>",
        "[text](https://example.org)",
        "| a row | without a head |",
        "\tcode",
    ],
)
def test_other_markdown_is_noticed_and_shown_as_it_stands(line: str) -> None:
    text = f"# Title\n\n## Section\n\n{line}\n"
    assert html_markdown.unrecognised(text) == [line]
    body = html_markdown.convert(text, _no_image).sections[0].body
    assert line.strip() in _Reader(body).text


def test_each_construct_becomes_its_element() -> None:
    text = (
        "# T\n\nopening\n\n## A b\n\n- one **two** `three`\n- four\n\n> **five** six\n\n"
        "    code <x>\n    more\n\n### Deeper\n\nlast: **b** and\nnext line\n- a point\n\n"
        "## A b\n\n"
    )
    document = html_markdown.convert(text, _no_image)
    assert document.title == "T"
    assert document.opening == "<p>opening</p>"
    first, second = document.sections
    assert (first.title, first.anchor) == ("A b", "section-a-b")
    assert (second.anchor, second.body) == ("section-a-b-2", "")
    assert first.body == (
        "<ul>\n<li>one <strong>two</strong> <code>three</code></li>\n<li>four</li>\n</ul>\n"
        "<blockquote><p><strong>five</strong> six</p></blockquote>\n"
        "<pre><code>code &lt;x&gt;\nmore</code></pre>\n"
        "<h3>Deeper</h3>\n"
        "<p>last: <strong>b</strong> and\nnext line</p>\n<ul>\n<li>a point</li>\n</ul>"
    )


def test_a_table_keeps_its_cells() -> None:
    text = "## S\n\n| | n | |\n|---|---|---|\n| a\\|b | 1,000 |  |\n| c | none | d \\| e |\n"
    body = html_markdown.convert(text, _no_image).sections[0].body
    assert '<tr><td></td><th scope="col" class="number">n</th><td></td></tr>' in body
    assert (
        '<tr><th scope="row">a|b</th><td class="number">1,000</td><td></td></tr>\n'
        '<tr><th scope="row">c</th><td class="number">none</td><td>d | e</td></tr>' in body
    )
    pairs = html_markdown.convert("## S\n\n| Both |  |\n|---|---|\n| a | 1 |", _no_image)
    assert '<th scope="colgroup" colspan="2">Both</th>' in pairs.sections[0].body
    bare = html_markdown.convert("## S\n\n|  |  |\n|---|---|\n| a | 1 |", _no_image)
    assert "<thead>" not in bare.sections[0].body


def test_an_image_gets_its_title_and_file() -> None:
    made = html_markdown.convert("## S\n\n![a [b] c](plots/x.png)\n", lambda *given: repr(given))
    assert made.sections[0].body == "('a [b] c', 'plots/x.png')"


def _no_image(title: str, file: str) -> str:
    raise AssertionError(f"no image here: {title} {file}")
