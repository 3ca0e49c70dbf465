"""A real browser for tests: Chromium without a screen, which draws a page and measures it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: What the page is asked once it is drawn; the answer must be JSON.
MEASURE = """
const view = document.getElementById("page").contentWindow, page = view.document;
const style = element => view.getComputedStyle(element);
const luminance = text => {
  const parts = text.match(/[0-9.]+/g).slice(0, 3).map(part => part / 255);
  const [r, g, b] = parts.map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = element => {
  for (; element; element = element.parentElement)
    if (style(element).backgroundColor !== "rgba(0, 0, 0, 0)") return style(element).backgroundColor;
  return "rgb(255, 255, 255)";
};
const contrast = (one, other) => {
  const [dark, bright] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (bright + 0.05) / (dark + 0.05);
};
const own = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
const seen = element => own(element) && !element.closest("svg, details:not([open]) > :not(summary)");
const texts = [...page.body.querySelectorAll("*")].filter(seen);
return {
  too_wide: page.documentElement.scrollWidth - page.documentElement.clientWidth,
  height: page.documentElement.scrollHeight,
  faintest: Math.min(...texts.map(e => contrast(style(e).color, ground(e)))),
  bars: [...page.querySelectorAll("section[aria-labelledby=alleles] tbody svg")].map(
    svg => [...svg.querySelectorAll("rect")].map(rect => rect.getBoundingClientRect().width)),
  scale: page.querySelector("section[aria-labelledby=alleles] tbody svg").getBoundingClientRect().width,
  ends_cut: [...page.querySelectorAll(".name > :last-child")].filter(
    e => !e.closest("details:not([open])")
      && e.getBoundingClientRect().right > e.parentElement.getBoundingClientRect().right + 1).length,
  names_stay: (region => {
    region.scrollLeft = 1000;
    return region.querySelector("tbody th").getBoundingClientRect().left
      >= region.getBoundingClientRect().left - 1;
  })(page.querySelector(".scroll[aria-labelledby=samples]")),
  headings: [...page.querySelectorAll("h1, h2")].map(e => e.textContent),
};
"""


def find_browser() -> str:
    """The program; the test is skipped where there is none, also in CI: Ubuntu has it as a snap only."""
    for name in NAMES:
        if program := shutil.which(name):
            return program
    pytest.skip("PAGES NOT SEEN IN A BROWSER: apt install chromium")


@dataclass
class Browser:
    """Chromium with a profile of its own in ``folder``; ``dark`` is what the reader has chosen."""

    folder: Path
    dark: bool = False

    def _run(self, *arguments: str) -> str:
        chosen = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0") if self.dark else ()
        done = subprocess.run(
            [
                find_browser(),
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *("--virtual-time-budget=10000", f"--user-data-dir={self.folder / 'profile'}"),
                *chosen,
                *arguments,
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def dom(self, page: Path, width: int = 1200) -> str:
        """The page's elements after its scripts have run."""
        return self._run("--dump-dom", f"--window-size={width},900", page.as_uri())

    def measure(self, page: Path, width: int) -> dict[str, Any]:
        """What ``MEASURE`` finds on a page of that width, which itself allows no scripts."""
        frame = self.folder / "frame.html"
        content = html.escape(page.read_text())
        frame.write_text(
            f'<body><iframe id="page" style="width:{width}px; height:900px" srcdoc="{content}"></iframe>'
            f"<pre></pre><script>function measure() {{ {MEASURE} }}\n"
            'onload = () => document.querySelector("pre").textContent = JSON.stringify(measure())</script>'
        )
        found = re.search(r"<pre>(.*)</pre>", self.dom(frame, width + 100))
        assert found, "the page was not measured"
        measured: dict[str, Any] = json.loads(html.unescape(found[1]))
        return measured

    def screenshot(self, page: Path, target: Path, width: int = 1200, height: int = 1600) -> tuple[int, ...]:
        """Draw the page into a PNG; its first pixel's red, green and blue."""
        self._run(f"--screenshot={target}", f"--window-size={width},{height}", page.as_uri())
        return first_pixel(target.read_bytes())


def first_pixel(png: bytes) -> tuple[int, ...]:
    """Red, green and blue of the top left pixel of a PNG of 8 bits; no filter changes that one."""
    assert png.startswith(b"\x89PNG")
    at, data = 8, b""
    while at < len(png):
        length = int.from_bytes(png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    return tuple(zlib.decompressobj().decompress(data, 4)[1:4])
