"""Headless Chromium for tests: finds it, takes pictures, prints, and measures a page.

A page is measured by a script of the test's own: the page lies in a frame of the width asked for,
and the script writes what it finds into the outer document, which Chromium prints as text. So the
page itself needs no script, and a frame can be as narrow as a phone.
"""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_SECONDS = 60
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
)

# What the script finds: widths, what sticks out, pictures, requests, and the colours of all text.
_SCRIPT = """
const frame = document.querySelector("iframe");
function opaque(element) {
  for (let e = element; e; e = e.parentElement) {
    const color = frame.contentWindow.getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$/.test(color)) return color;
  }
  return "rgb(255, 255, 255)";
}
function measure() {
  const page = frame.contentDocument, root = page.documentElement;
  const images = [...page.images];
  const out = [...page.body.querySelectorAll("*")].filter(element =>
    element.getBoundingClientRect().right > root.clientWidth + 0.5 && !element.closest(".scroll"));
  const cut = [...page.body.querySelectorAll("*")].filter(element =>
    element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0
    && !element.closest(".scroll") && frame.contentWindow.getComputedStyle(element).display
    != "inline");
  const colors = new Map();
  for (const element of page.body.querySelectorAll("*")) {
    if (![...element.childNodes].some(n => n.nodeType == 3 && n.data.trim())) continue;
    const style = frame.contentWindow.getComputedStyle(element);
    colors.set(style.color + " on " + opaque(element), element.outerHTML.slice(0, 80));
  }
  const found = {
    width: root.clientWidth, scroll_width: root.scrollWidth, height: root.scrollHeight,
    out: out.map(element => element.outerHTML.slice(0, 120)),
    cut: cut.map(element => element.outerHTML.slice(0, 120)),
    images: images.map(image => ({natural: image.naturalWidth, shown: image.clientWidth,
      loaded: image.complete, alt: image.alt})),
    colors: [...colors],
    requests: frame.contentWindow.performance.getEntriesByType("resource")
      .map(entry => entry.name).filter(name => !name.startsWith("data:")),
  };
  document.getElementById("found").textContent = JSON.stringify(found);
}
frame.addEventListener("load", measure);
"""


def find() -> str | None:
    """The program on the path, or None."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


def measure(program: str, html: str, folder: Path, *, width: int) -> dict[str, Any]:
    """Lays a page out at a width in CSS pixels and measures it.

    Args:
      program: From `find`.
      html: The page.
      folder: For the files of this call.
      width: Of the window in which the page lies.
    """
    outer = folder / "measured.html"
    # The frame gets its page from the script, after the script listens for it.
    outer.write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><body style="margin:0"><pre id="found"></pre>'
        f'<iframe style="border:0;width:{width}px;height:900px"></iframe>'
        f'<template id="page">{escape(html)}</template><script>{_SCRIPT}\n'
        'frame.srcdoc = document.getElementById("page").content.textContent;</script>',
        encoding="utf-8",
    )
    text = _run(program, folder, "--dump-dom", outer.as_uri())
    found = re.search(r'<pre id="found">(.+?)</pre>', text, re.DOTALL)
    assert found, f"the page was not measured: {text[:500]}"
    return json.loads(unescape(found[1]))


def picture(program: str, html: str, png: Path, *, width: int, height: int) -> Path:
    """Takes a picture of the top of a page, `width` times `height` CSS pixels."""
    inner, outer = png.with_suffix(".page.html"), png.with_suffix(".frame.html")
    inner.write_text(html, encoding="utf-8")
    outer.write_text(
        f'<!DOCTYPE html><body style="margin:0"><iframe src="{inner.name}" '
        f'style="border:0;display:block;width:{width}px;height:{height}px"></iframe>',
        encoding="utf-8",
    )
    _run(
        program, png.parent, f"--window-size={width},{height}", f"--screenshot={png}",
        outer.as_uri(),
    )  # fmt: skip
    return png


def pdf(program: str, html: str, path: Path) -> Path:
    """Prints a page to PDF, on the paper that its style asks for."""
    page = path.with_suffix(".html")
    page.write_text(html, encoding="utf-8")
    _run(program, path.parent, "--no-pdf-header-footer", f"--print-to-pdf={path}", page.as_uri())
    return path


def _run(program: str, folder: Path, *arguments: str) -> str:
    """Runs Chromium with a profile of its own, and returns what it prints."""
    profile = folder / "profile"
    command = [program, *_FLAGS, f"--user-data-dir={profile}", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_SECONDS, check=False, cwd=folder
    )
    shutil.rmtree(profile, ignore_errors=True)
    assert done.returncode == 0, f"{command} failed: {done.stderr[-2000:]}"
    return done.stdout
