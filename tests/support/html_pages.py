"""Reading the report's pages: their outline, and what a real browser makes of them."""

import re
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

VOID = {"meta", "line", "rect", "path", "input"}

class Outline(HTMLParser):
    """Open elements, headings, figures and text of a page."""

    def __init__(self):
        super().__init__()
        self.open, self.headings, self.figures, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if "data-figure" in attributes:
            assert attributes["aria-label"]
            self.figures.append(attributes["data-figure"])
        if tag == "th":
            assert attributes["scope"] in ("col", "row", "rowgroup")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    parser.close()
    return parser


def headings_descend_by_one(levels: list[int]) -> bool:
    return (levels[:1] == [1] and levels.count(1) == 1
            and all(deeper - level <= 1 for level, deeper in pairwise(levels)))


def browsed(page: Path, profile: Path) -> subprocess.CompletedProcess:
    """The page's document after its scripts ran (stdout) and the console's messages (stderr)."""
    return subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-quic", "--no-first-run", f"--user-data-dir={profile}",
         "--virtual-time-budget=4000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True)


def overflow_px(page: Path, profile: Path, width_px: int) -> int:
    """By how much a page is wider than a window of this width; its tables may scroll inside."""
    inner = page.read_text().replace("&", "&amp;").replace('"', "&quot;")
    frame = page.with_name(f"framed-{page.name}")
    frame.write_text(
        f'<!doctype html><iframe id=f width={width_px} height=800 style="border:0" '
        f'srcdoc="{inner}"></iframe><script>setTimeout(() => {{ const d = f.contentDocument'
        ".documentElement; document.title = `wide ${d.scrollWidth} of ${d.clientWidth}`; }, 2500);"
        "</script>")
    found = re.search(r"wide (\d+) of (\d+)", browsed(frame, profile).stdout)
    assert found is not None, "the page was not measured"
    return int(found[1]) - int(found[2])
