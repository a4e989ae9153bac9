"""Turns the Markdown of a report into HTML, so that both say the same from one source.

Reads exactly the constructs that `markdown.render` writes: headings, bullets, tables with escaped
bars, block quotes, indented code, images, paragraphs; bold and code within a line. Lines are sorted
into blocks by how they begin. Whatever is of no known kind is shown as a paragraph, letter by
letter, so that nothing can vanish; `unrecognised` names such lines, and a test wants none.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from html import escape

WARNING = "**Warning:**"

_KINDS = {
    "heading": re.compile(r"#{1,3} \S"),
    "item": re.compile(r"- "),
    "table": re.compile(r"\|.*\|$"),
    "quote": re.compile(r"> "),
    "code": re.compile(r" {4}"),
    "image": re.compile(r"!\[.*\]\([^()]*\)$"),
    "blank": re.compile(r"\s*$"),
}
_SEPARATOR = re.compile(r"\|( *:?-+:? *\|)+$")
_IMAGE = re.compile(r"!\[(.*)\]\(([^()]*)\)$")
_BAR = re.compile(r"(?<!\\)\|")
_INLINE = re.compile(r"`([^`]+)`|\*\*(.+?)\*\*")
_OTHER_MARKDOWN = re.compile(
    r"#|[*+] |\d+[.)] |```|~~~|\||>|-{3,}|={3,}|\s+\S|\t|<[a-zA-Z/!]|!?\[[^\]]*\]\("
)
_NUMBER = re.compile(r"[-+]?\d[\d,.]*(e-?\d+)?( %)?$")
_NO_NUMBER = ("", "infinite", "none", "not stated", "does not apply", "not run")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands below it.

    Attributes:
      anchor: The id of its heading, unique in the document.
      title: The heading, as plain text.
      body: HTML.
    """

    anchor: str
    title: str
    body: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """A report in parts.

    Attributes:
      title: The heading of the first level, as plain text.
      opening: HTML of what stands before the first section, mostly nothing.
      sections: One for each heading of the second level.
    """

    title: str
    opening: str
    sections: tuple[Section, ...]


def convert(text: str, image: Callable[[str, str], str]) -> Document:
    """Converts a report.

    Args:
      text: Markdown, of the constructs above.
      image: Makes HTML of an image, from its title and its file.
    """
    title = ""
    parts: list[tuple[str | None, list[str]]] = [(None, [])]
    for kind, lines in _blocks(text):
        level, _, heading = lines[0].partition(" ")
        if kind == "heading" and level == "#" and not title:
            title = heading
        elif kind == "heading" and level == "##":
            parts.append((heading, []))
        else:
            parts[-1][1].append(_html(kind, lines, image))
    anchors: set[str] = set()
    sections = tuple(
        Section(anchor=_anchor(heading or "", anchors), title=heading or "", body="\n".join(body))
        for heading, body in parts[1:]
    )
    return Document(title=title, opening="\n".join(parts[0][1]), sections=sections)


def unrecognised(text: str) -> list[str]:
    """Returns the lines that look like Markdown but would be shown as they stand.

    Args:
      text: Markdown.
    """
    return [
        line
        for kind, lines in _blocks(text)
        if kind == "text"
        for line in lines
        if _OTHER_MARKDOWN.match(line)
    ]


def inline(text: str) -> str:
    """Returns one line as HTML: bold and code, all else escaped."""
    parts, end = [], 0
    for match in _INLINE.finditer(text):
        parts.append(escape(text[end : match.start()]))
        code, bold = match.groups()
        parts.append(f"<code>{escape(code)}</code>" if code else f"<strong>{inline(bold)}</strong>")
        end = match.end()
    return "".join([*parts, escape(text[end:])])


def bullets(lines: Sequence[str]) -> str:
    """Returns a list of lines as HTML."""
    return "\n".join(["<ul>", *(f"<li>{inline(line)}</li>" for line in lines), "</ul>"])


def paragraph(text: str) -> str:
    """Returns a paragraph as HTML, a warning in a box."""
    kind = ' class="warning"' if text.startswith(WARNING) else ""
    return f"<p{kind}>{inline(text)}</p>"


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yields the kind of each block and its lines; blank lines end a block."""
    for kind, group in itertools.groupby(text.split("\n"), key=_kind):
        lines = list(group)
        if kind == "blank":
            continue
        if kind in ("heading", "image"):
            yield from ((kind, [line]) for line in lines)
        elif kind == "table" and (len(lines) < 2 or not _SEPARATOR.match(lines[1])):
            yield "text", lines
        else:
            yield kind, lines


def _kind(line: str) -> str:
    """What a line is, by how it begins."""
    if not line.strip():
        return "blank"
    return next((kind for kind, form in _KINDS.items() if form.match(line)), "text")


def _html(kind: str, lines: list[str], image: Callable[[str, str], str]) -> str:
    """One block as HTML."""
    match = _IMAGE.match(lines[0])
    if kind == "image" and match:
        return image(match[1], match[2])
    return _MAKERS.get(kind, _text)(lines)


def _text(lines: list[str]) -> str:
    """A paragraph, its lines as they stand."""
    return paragraph("\n".join(lines))


def _heading(lines: list[str]) -> str:
    """A heading within a section."""
    level, _, title = lines[0].partition(" ")
    rank = max(len(level), 2)
    return f"<h{rank}>{inline(title)}</h{rank}>"


def _list(lines: list[str]) -> str:
    """A list."""
    return bullets([line[2:] for line in lines])


def _quote(lines: list[str]) -> str:
    """A block quote of one paragraph."""
    return f"<blockquote>{paragraph(' '.join(line[2:] for line in lines))}</blockquote>"


def _code(lines: list[str]) -> str:
    """Indented code."""
    code = "\n".join(escape(line[4:]) for line in lines)
    return f"<pre><code>{code}</code></pre>"


def _cells(line: str) -> list[str]:
    """The cells of a table's line, bars unescaped."""
    return [cell.strip().replace("\\|", "|") for cell in _BAR.split(line.rstrip()[1:-1])]


def _table(lines: list[str]) -> str:
    """A table; one of three and more columns can be scrolled sideways on a narrow screen."""
    head, *body = rows = [_cells(line) for line in (lines[0], *lines[2:])]
    numeric = [
        column > 0 and len(head) > 2 and _is_numeric([row[column : column + 1] for row in body])
        for column in range(max(map(len, rows)))
    ]
    html = [f'<table class="{"pairs" if len(head) == 2 else "grid"}">']
    if len(head) == 2:
        html.append('<colgroup><col class="name"><col></colgroup>')
    if any(head):
        html += ["<thead>", _head_row(head, numeric), "</thead>"]
    html += ["<tbody>", *(_body_row(row, numeric) for row in body), "</tbody>", "</table>"]
    if len(head) == 2:
        return "\n".join(html)
    name = escape(next(cell for cell in [*head, "Table"] if cell).replace("**", ""))
    region = f'<div class="scroll" role="region" tabindex="0" aria-label="Table: {name}">'
    return "\n".join([region, *html, "</div>"])


def _is_numeric(cells: list[list[str]]) -> bool:
    """Whether a column holds numbers, and words that stand for one."""
    texts = [text for cell in cells for text in cell]
    return any(map(_NUMBER.match, texts)) and all(
        text in _NO_NUMBER or _NUMBER.match(text) for text in texts
    )


def _head_row(cells: list[str], numeric: list[bool]) -> str:
    """The head of a table; that of a table of two columns may be one title over both."""
    if len(cells) == 2 and not cells[1]:
        return f'<tr><th scope="colgroup" colspan="2">{inline(cells[0])}</th></tr>'
    html = [
        f'<th scope="col"{_aligned(right)}>{inline(cell)}</th>' if cell else "<td></td>"
        for cell, right in zip(cells, numeric, strict=False)
    ]
    return f"<tr>{''.join(html)}</tr>"


def _body_row(cells: list[str], numeric: list[bool]) -> str:
    """A row of a table; its first cell is its heading."""
    html = [f'<th scope="row">{inline(cells[0])}</th>']
    html += [
        f"<td{_aligned(right)}>{inline(cell)}</td>"
        for cell, right in zip(cells[1:], numeric[1:], strict=False)
    ]
    return f"<tr>{''.join(html)}</tr>"


def _aligned(numeric: bool) -> str:
    """The attribute of a cell that is set flush right."""
    return ' class="number"' if numeric else ""


def _anchor(title: str, taken: set[str]) -> str:
    """An id made of a heading; a repeated one gets a number."""
    base = "section-" + (re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "untitled")
    names = itertools.chain([base], (f"{base}-{number}" for number in itertools.count(2)))
    anchor = next(name for name in names if name not in taken)
    taken.add(anchor)
    return anchor


_MAKERS: dict[str, Callable[[list[str]], str]] = {
    "heading": _heading,
    "item": _list,
    "table": _table,
    "quote": _quote,
    "code": _code,
}
