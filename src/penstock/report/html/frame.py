"""Frame of every page: an HTML document without network requests, and its plot library."""

import re
from collections.abc import Mapping
from html import escape, unescape
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from penstock.core.errors import InputError
from penstock.report.files import LIBRARY, write_bytes

Parts = tuple[bytes, bytes, bytes]

# Folders of the plot library, seen from a page.
BESIDE, ABOVE = ".", ".."
_FEWEST_LINKS = 3


class Page(NamedTuple):
    """Parts that differ from page to page. ``body`` is HTML, already escaped; the rest is plain
    text.

    ``stamp`` names the origin beside the brand, ``figures`` are plotly's by the names that the
    body's plots give. ``scripts`` are files of this package that run after the page's own.
    """

    title: str
    version: str
    stamp: str
    body: str
    footer: str
    figures: Mapping[str, Any]
    scripts: tuple[str, ...] = ()


def page_title(document: Mapping[str, Any], default: str) -> str:
    """The title of a page about something that may have a name."""
    return f"{document.get('name') or default} - Penstock"


def stamp(document: Mapping[str, Any]) -> str:
    """Name, engine, seed and version, as far as they are known."""
    parts = [str(document[key]) for key in ("name", "engine") if document.get(key)]
    parts += [f"{key} {document[key]}" for key in ("seed", "version")
              if document.get(key) is not None]
    return " · ".join(parts)


def framed(page: Page) -> Parts:
    """The self-contained page as what comes before plotly.js, plotly.js itself, and the rest."""
    before, after = _halves(page, "'unsafe-inline'")
    # The 5 MB script goes between the two halves as bytes and is never handled as text.
    return before + b"<script>\n", plotly_script(), b"\n</script>" + after


def write_framed(path: Path, page: Page, library: str | None = BESIDE) -> None:
    """Write the page, all or nothing.

    ``library`` is the folder of plotly.js, seen from the page; several pages may share it. None
    makes the page self-contained.
    """
    if library is None:
        write_bytes(path, *framed(page))
        return
    script = plotly_path()
    shared = path.parent / library / LIBRARY
    if not shared.is_file() or shared.stat().st_size != script.stat().st_size:
        write_bytes(shared, script.read_bytes())
    # Browsers take a file beside a page opened from a disk for another origin than the page's.
    before, after = _halves(page, "'unsafe-inline' 'self' file:")
    source = LIBRARY if library == BESIDE else f"{library}/{LIBRARY}"
    write_bytes(path, before, f'<script src="{source}"></script>'.encode(), after)


def _halves(page: Page, sources: str) -> tuple[bytes, bytes]:
    """The page before and after plotly.js; ``sources`` are those of scripts that may run."""
    body, contents = _with_contents(page.body)
    fields = {
        "title": escape(page.title), "version": escape(page.version), "sources": sources,
        "contents": contents, "script": "\n".join(map(_asset, ("page.js", *page.scripts))),
        "style": _asset("page.css"), "stamp": escape(page.stamp),
        "body": body, "footer": escape(page.footer), "figures": _embedded(page.figures)}
    before, after = (Template(half).substitute(fields).encode()
                     for half in _asset("page.html").split("$plotly"))
    return before, after


def _with_contents(body: str) -> tuple[str, str]:
    """The body, its sections with anchors, and links to them; none for a few sections.

    Sections say only their headings, so that no page has to keep a list of its own.
    """
    links: dict[str, str] = {}

    def anchored(found: re.Match[str]) -> str:
        # The prefix keeps a class named "main" or "figures" from the page's own ids.
        anchor = "section-" + re.sub(r"[^a-z0-9]+", "-", unescape(found[1]).lower()).strip("-")
        anchor += f"-{len(links) + 1}" * (anchor in links)
        links[anchor] = found[1]
        return f'<section id="{anchor}"><h2>{found[1]}</h2>'

    body = re.sub(r"<section><h2>(.*?)</h2>", anchored, body)
    if len(links) < _FEWEST_LINKS:
        return body, ""
    listed = "\n".join(f'<a href="#{anchor}">{title}</a>' for anchor, title in links.items())
    return body, f'<nav class="contents wrap" aria-label="Sections">\n{listed}\n</nav>'


def plotly_script() -> bytes:
    """plotly.js from the installed plotly package."""
    return plotly_path().read_bytes()


def plotly_path() -> Path:
    """Where the plotly package has plotly.js, without an import of its Python side.

    Raises InputError when the package is missing or does not contain the script.
    """
    spec = find_spec("plotly")
    origin = Path(spec.origin) if spec and spec.origin else Path("plotly")
    script = origin.parent / "package_data" / "plotly.min.js"
    if not script.is_file():
        raise InputError(f"{script}: plotly.js not found; expected the plotly package, version 6 "
                         "or later (pip install plotly)")
    return script


def _asset(name: str) -> str:
    return files("penstock.report.html").joinpath(name).read_text(encoding="utf-8")


def _embedded(figures: Mapping[str, Any]) -> str:
    """JSON that cannot end its script element, whatever names it contains."""
    import orjson

    text = orjson.dumps(figures, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return text.replace("<", "\\u003c")
