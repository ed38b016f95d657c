"""Frame of every page: one self-contained HTML document without network requests."""

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from penstock.core.errors import InputError

Parts = tuple[bytes, bytes, bytes]


class Page(NamedTuple):
    """Parts that differ from page to page. ``body`` is HTML, already escaped; the rest is plain
    text.

    ``stamp`` names the origin beside the brand, ``figures`` are plotly's by the names that the
    body's plots give.
    """

    title: str
    version: str
    stamp: str
    body: str
    footer: str
    figures: Mapping[str, Any]


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
    """The page as what comes before plotly.js, plotly.js itself, and the rest."""
    fields = {
        "title": escape(page.title), "version": escape(page.version),
        "style": _asset("page.css"), "script": _asset("page.js"), "stamp": escape(page.stamp),
        "body": page.body, "footer": escape(page.footer), "figures": _embedded(page.figures)}
    # The 5 MB script goes between the two halves as bytes and is never handled as text.
    before, after = (Template(half).substitute(fields).encode()
                     for half in _asset("page.html").split("$plotly"))
    return before, plotly_script(), after


def plotly_script() -> bytes:
    """plotly.js from the installed plotly package, read without importing its Python side.

    Raises InputError when the package is missing or does not contain the script.
    """
    spec = find_spec("plotly")
    origin = Path(spec.origin) if spec and spec.origin else Path("plotly")
    script = origin.parent / "package_data" / "plotly.min.js"
    if not script.is_file():
        raise InputError(f"{script}: plotly.js not found; expected the plotly package, version 6 "
                         "or later (pip install plotly)")
    return script.read_bytes()


def _asset(name: str) -> str:
    return files("penstock.report.html").joinpath(name).read_text(encoding="utf-8")


def _embedded(figures: Mapping[str, Any]) -> str:
    """JSON that cannot end its script element, whatever names it contains."""
    import orjson

    text = orjson.dumps(figures, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return text.replace("<", "\\u003c")
