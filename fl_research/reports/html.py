"""Renders report.json as report.html: one file for screen, phone and paper.

The numbered sections are the Markdown report, converted, so that the two can never differ. Before
them stand what a reader wants first (the claim, warnings, key figures, how to check) and the page
in plain language. The plots are inside, as they lie in the run's folder; nothing is fetched, and
nothing runs. The same report and plots give the same bytes.
"""

import base64
import itertools
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fl_research.privacy.rounding import rounded_up
from fl_research.reports import html_page, markdown, plain_language, wording
from fl_research.reports.html_markdown import (
    WARNING,
    Document,
    bullets,
    convert,
    inline,
    paragraph,
)
from fl_research.reports.wording import number

_PNG = b"\x89PNG\r\n\x1a\n"
_WIDE_PIXELS = 1200
PLAIN_WORDS = "in-plain-words"


def render(report: Mapping[str, Any], folder: Path | None = None) -> str:
    """Renders the report as one self-contained HTML file.

    Args:
      report: The content of report.json.
      folder: The run's folder, for the plots; without it a line stands in each plot's place.
    """
    document = convert(markdown.render(report), _figure_of(folder))
    body = [
        "<header>",
        f"<h1>{inline(document.title)}</h1>",
        *_claim(report),
        *(paragraph(f"{WARNING} {warning}") for warning in report["privacy"]["warnings"]),
        _cards(report),
        _how_to_check(report),
        "</header>",
        _contents(document),
        _plain_words(report),
        document.opening,
        *(
            f'<section aria-labelledby="{section.anchor}">\n'
            f'<h2 id="{section.anchor}">{inline(section.title)}</h2>\n{section.body}\n</section>'
            for section in document.sections
        ),
    ]
    return html_page.page(document.title, "\n".join(part for part in body if part))


def _claim(report: Mapping[str, Any]) -> list[str]:
    """The sentence of the claim, in a panel that shows whether there is a guarantee."""
    privacy = report["privacy"]
    kind, label = ("claim", "The claim") if privacy["guarantee"] else ("no claim", "No guarantee")
    return [
        f'<div class="{kind}">',
        f'<p class="label">{label}</p>',
        f"<p>{inline(privacy['sentence'])}</p>",
        "</div>",
    ]


def _cards(report: Mapping[str, Any]) -> str:
    """The key figures: name, value, and a line or two below."""
    privacy, utility, data, run = (report[name] for name in ("privacy", "utility", "data", "run"))
    primary = utility["primary_metric"]
    baselines = [
        f"{wording.baseline(name)} {number(values.get(primary))}"
        for name, values in utility["baselines"].items()
    ]
    epsilon, delta = privacy["epsilon"], privacy["delta"]
    cards: list[tuple[str, str, Sequence[str]]] = [
        (
            "ε",
            "none" if epsilon is None else rounded_up(epsilon),
            ["no guarantee" if epsilon is None else "upper bound, rounded up"],
        ),
        (
            "δ",
            "none" if delta is None else wording.probability(delta),
            ["no guarantee" if delta is None else "probability of a failure, about"],
        ),
        (
            "Unit",
            privacy["unit"],
            [_protection(report) if privacy["guarantee"] else "not protected"],
        ),
        (
            f"Test {wording.metric(primary)}",
            number(utility["test"].get(primary)),
            baselines or ["baselines: not run"],
        ),
        (
            "Clients",
            number(data["clients"]),
            [
                wording.count(data["examples"], "example"),
                *(
                    f"{name.removesuffix('_clients')} {number(clients)}"
                    for name, clients in data["split"].items()
                ),
            ],
        ),
        (
            "Rounds",
            number(run["rounds"]),
            [f"of {number(run['rounds_planned'])} planned", run["status"].replace("_", " ")],
        ),
    ]
    return "\n".join(['<dl class="cards">', *itertools.starmap(_card, cards), "</dl>"])


def _card(name: str, value: str, notes: Sequence[str]) -> str:
    """One key figure."""
    below = "".join(f'<dd class="note">{escape(note)}</dd>' for note in notes)
    return f'<div><dt>{escape(name)}</dt><dd class="value">{escape(value)}</dd>{below}</div>'


def _how_to_check(report: Mapping[str, Any]) -> str:
    """The command that checks the report."""
    return (
        f'<p class="check">Check this report, with FOLDER the folder that holds it: '
        f"<code>{escape(report['evidence']['verify'])}</code></p>"
    )


def _contents(document: Document) -> str:
    """The table of contents."""
    entries = [(PLAIN_WORDS, "In plain words")]
    entries += [(section.anchor, section.title) for section in document.sections]
    links = (f'<li><a href="#{anchor}">{inline(title)}</a></li>' for anchor, title in entries)
    return "\n".join(
        ['<nav aria-label="Contents">', "<p>Contents</p>", "<ul>", *links, "</ul>", "</nav>"]
    )


def _plain_words(report: Mapping[str, Any]) -> str:
    """The page in plain language."""
    lines = [
        f'<section class="plain" aria-labelledby="{PLAIN_WORDS}">',
        f'<h2 id="{PLAIN_WORDS}">In plain words</h2>',
    ]
    for question, answer in plain_language.render(report):
        lines.append(f"<h3>{inline(question)}</h3>")
        lines += [paragraph(part) if isinstance(part, str) else bullets(part) for part in answer]
    return "\n".join([*lines, "</section>"])


def _figure_of(folder: Path | None) -> Callable[[str, str], str]:
    """What makes a figure of a plot's title and file."""
    numbers = itertools.count(1)

    def figure(title: str, file: str) -> str:
        """One plot with its caption; a wide one can be scrolled on a narrow screen."""
        caption = f"<figcaption>Figure {next(numbers)}. {escape(title)}</figcaption>"
        png = _png(folder, file)
        if png is None:
            missing = f"<p>Not in this file: <code>{escape(file)}</code></p>"
            return f"<figure>\n{missing}\n{caption}\n</figure>"
        width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
        image = (
            f'<img src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}" '
            f'alt="Plot: {escape(title)}" width="{width}" height="{height}">'
        )
        if width > _WIDE_PIXELS:
            label = f'aria-label="Plot: {escape(title)}"'
            image = f'<div class="scroll wide" role="region" tabindex="0" {label}>{image}</div>'
        return f"<figure>\n{image}\n{caption}\n</figure>"

    return figure


def _png(folder: Path | None, file: str) -> bytes | None:
    """The bytes of a plot that lies in the run's folder; None where there is no such picture."""
    if folder is None:
        return None
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        return None
    content = path.read_bytes()
    return content if content.startswith(_PNG) and len(content) > 24 else None


def _protection(report: Mapping[str, Any]) -> str:
    """How far the unit is protected, in a few words."""
    if report["unit"]["protected"] == "record":
        return "each on its own; the client is not protected as a whole"
    return "protected as a whole"
