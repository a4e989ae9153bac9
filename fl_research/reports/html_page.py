"""The skeleton and the style of report.html: screen, phone and A4 paper.

Colours are those of the plots. Text has a contrast of 4.5 and more on its ground (WCAG 2.1, AA).
Nothing is wider than the screen but tables and plots in frames of their own that scroll. Fonts are
those of the reader's system.
"""

from html import escape

from fl_research.reports.plot_base import BLUE, GRID, INK, ORANGE, PALE_BLUE

_QUIET = "#566270"
_GROUND, _BLUE_GROUND, _ORANGE_GROUND = "#f6f8fa", "#eef4f9", "#fdf3ec"
_DARK_ORANGE = "#8f4517"

_STYLE = f"""
* {{ box-sizing: border-box; }}
html {{ -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }}
body {{
  margin: 0; color: {INK}; background: #fff; line-height: 1.55; font-size: 1rem;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans",
    "DejaVu Sans", Arial, sans-serif;
  overflow-wrap: break-word;
}}
main {{ max-width: 76rem; margin: 0 auto; padding: 2rem 1.5rem 3rem; }}
h1, h2, h3 {{ line-height: 1.25; break-after: avoid; text-wrap: balance; }}
h1 {{ font-size: 1.9rem; margin: 0 0 1.25rem; letter-spacing: -0.01em; }}
h2 {{
  font-size: 1.3rem; margin: 2.75rem 0 0.9rem; padding-top: 1rem; border-top: 1px solid {GRID};
}}
h3 {{ font-size: 1.05rem; margin: 1.6rem 0 0.4rem; }}
p, ul {{ margin: 0.6rem 0; max-width: 46rem; }}
ul {{ padding-left: 1.25rem; }}
li {{ margin: 0.3rem 0; }}
li::marker {{ color: {BLUE}; }}
a {{ color: {BLUE}; }}
code, pre {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 0.88em;
}}
code {{ background: {_GROUND}; border-radius: 3px; padding: 0.1em 0.3em; overflow-wrap: anywhere; }}
pre {{
  background: {_GROUND}; border: 1px solid {GRID}; border-radius: 6px; margin: 0.9rem 0;
  padding: 0.75rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; max-width: 52rem;
}}
pre code {{ background: none; padding: 0; }}
blockquote, .claim {{
  margin: 0 0 1.25rem; padding: 0.9rem 1.25rem; max-width: 52rem; break-inside: avoid;
  background: {_BLUE_GROUND}; border-left: 4px solid {BLUE}; border-radius: 0 6px 6px 0;
}}
blockquote p, .claim p {{ margin: 0; max-width: none; }}
blockquote strong {{ font-weight: 600; }}
header .claim p {{ font-size: 1.15rem; line-height: 1.5; }}
header .claim .label {{
  font-size: 0.78rem; font-weight: 700; text-transform: uppercase; letter-spacing: 0.07em;
  color: {BLUE}; margin-bottom: 0.25rem;
}}
.no.claim, .warning {{ background: {_ORANGE_GROUND}; border-color: {ORANGE}; }}
header .no.claim .label {{ color: {_DARK_ORANGE}; }}
.warning {{
  border: 1px solid {ORANGE}; border-left-width: 4px; border-radius: 6px; margin: 0.75rem 0;
  padding: 0.7rem 1.1rem; max-width: 52rem; break-inside: avoid;
}}
.warning strong:first-child {{ color: {_DARK_ORANGE}; }}
.cards {{
  display: grid; gap: 0.75rem; margin: 1.25rem 0; max-width: 52rem;
  grid-template-columns: repeat(3, minmax(0, 1fr));
}}
.cards > div {{
  border: 1px solid {GRID}; border-top: 3px solid {PALE_BLUE}; border-radius: 6px;
  padding: 0.7rem 0.9rem; break-inside: avoid;
}}
.cards dt {{ font-size: 0.85rem; color: {_QUIET}; }}
.cards dd {{ margin: 0; }}
.cards .value {{
  font-size: 1.5rem; font-weight: 650; line-height: 1.3; margin-bottom: 0.15rem;
  font-variant-numeric: tabular-nums;
}}
.cards .note {{ font-size: 0.82rem; line-height: 1.45; color: {_QUIET}; }}
.check {{ font-size: 0.92rem; color: {_QUIET}; max-width: 52rem; }}
.check code {{ color: {INK}; }}
nav {{ border: 1px solid {GRID}; border-radius: 6px; padding: 0.7rem 1.1rem; margin: 1.5rem 0; }}
nav p {{ font-weight: 700; margin: 0 0 0.3rem; }}
nav ul {{ list-style: none; margin: 0; padding: 0; max-width: none; columns: 16rem; }}
nav li {{ margin: 0; padding: 0.2rem 0; break-inside: avoid; font-size: 0.92rem; }}
nav a {{ text-decoration: none; }}
nav a:hover, nav a:focus {{ text-decoration: underline; }}
table {{
  border-collapse: collapse; margin: 0.9rem 0; font-size: 0.92rem; line-height: 1.45;
  font-variant-numeric: tabular-nums; break-inside: avoid;
}}
th, td {{
  text-align: left; vertical-align: top; padding: 0.4rem 0.9rem 0.4rem 0;
  border-bottom: 1px solid {GRID};
}}
th:last-child, td:last-child {{ padding-right: 0; }}
thead th, thead td {{ border-bottom: 2px solid {PALE_BLUE}; color: {_QUIET}; font-weight: 600; }}
tbody th {{ font-weight: 400; }}
.number {{ text-align: right; white-space: nowrap; }}
.pairs {{ width: 100%; max-width: 52rem; table-layout: fixed; }}
.pairs tbody th {{ color: {_QUIET}; }}
.pairs .name {{ width: 36%; }}
.pairs td {{ overflow-wrap: anywhere; }}
.scroll {{ overflow-x: auto; max-width: 100%; margin: 0.9rem 0; }}
.scroll table {{ margin: 0; }}
.grid th:first-child {{ min-width: 9rem; }}
.grid th, .grid td {{ padding-right: 1.6rem; }}
figure {{ margin: 1.75rem 0; max-width: 46rem; break-inside: avoid; }}
figure .scroll {{ margin: 0; }}
img {{ display: block; max-width: 100%; height: auto; }}
figcaption {{ font-size: 0.88rem; color: {_QUIET}; margin-top: 0.5rem; }}
footer {{ color: {_QUIET}; font-size: 0.85rem; margin-top: 3rem; border-top: 1px solid {GRID}; }}
:focus-visible {{ outline: 2px solid {BLUE}; outline-offset: 2px; }}
@media screen and (min-width: 68rem) {{
  main {{ display: grid; grid-template-columns: 15rem minmax(0, 1fr); column-gap: 3.5rem; }}
  main > * {{ grid-column: 2; }}
  nav {{
    grid-column: 1; grid-row: 1 / span 40; align-self: start; position: sticky; top: 1.5rem;
    margin: 0.3rem 0 0; border: 0; padding: 0; max-height: calc(100vh - 3rem); overflow-y: auto;
  }}
  nav ul {{ columns: auto; }}
}}
@media screen and (max-width: 40rem) {{
  main {{ padding: 1.25rem 1rem 2rem; }}
  h1 {{ font-size: 1.55rem; }}
  header .claim p {{ font-size: 1.05rem; }}
  .claim, blockquote {{ padding: 0.8rem 1rem; }}
  .cards {{ grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.6rem; }}
  .cards .value {{ font-size: 1.25rem; }}
  .pairs .name {{ width: 42%; }}
  .wide img {{ width: 38rem; max-width: none; }}
}}
@page {{ size: A4; margin: 14mm 16mm 15mm; }}
@media print {{
  body {{ font-size: 9.6pt; line-height: 1.45; print-color-adjust: exact;
    -webkit-print-color-adjust: exact; }}
  main {{ padding: 0; max-width: none; }}
  nav {{ border: 0; padding: 0; margin-top: 1.5rem; }}
  nav a {{ color: inherit; }}
  a {{ color: inherit; text-decoration: none; }}
  p, ul {{ orphans: 3; widows: 3; max-width: none; }}
  li, tr {{ break-inside: avoid; }}
  h2 {{ margin-top: 1.6rem; }}
  h3 {{ margin-top: 1.1rem; }}
  p, ul {{ margin: 0.45rem 0; }}
  li {{ margin: 0.15rem 0; }}
  .plain {{ font-size: 9.2pt; line-height: 1.36; }}
  .grid th, .grid td {{ padding-right: 1rem; }}
  .plain {{ break-before: page; }}
  .plain h2 {{ border: 0; padding: 0; margin-top: 0; }}
  .scroll {{ overflow: visible; }}
  figure {{ max-width: 150mm; margin: 1.2rem 0; }}
  footer {{ margin-top: 1rem; break-before: avoid; break-inside: avoid; }}
  .wide img {{ width: auto; max-width: 100%; }}
}}
"""


def page(title: str, body: str) -> str:
    """Returns the whole file.

    Args:
      title: Of the document, plain text.
      body: HTML of what it shows.
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{body}
<footer><p>Made from report.json. The numbered sections are the text of report.md.</p></footer>
</main>
</body>
</html>
"""
