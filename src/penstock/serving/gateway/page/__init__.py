"""The page that shows a gateway's status: one file that asks the gateway itself for its figures."""

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources
from string import Template

from penstock import __version__


@dataclass(frozen=True, slots=True)
class Page:
    """A page and the policy that lets nothing but its own script and style run."""

    html: str
    policy: str


def status_page() -> Page:
    """The page, with the look of the reports."""
    here = resources.files(__package__)
    look = resources.files("penstock.report.html").joinpath("page.css").read_text("utf-8")
    style = look + here.joinpath("status.css").read_text("utf-8")
    script = here.joinpath("status.js").read_text("utf-8")
    html = Template(here.joinpath("status.html").read_text("utf-8")).substitute(
        version=__version__, style=style, script=script)
    # Bars of the page are as wide as their value, which takes a style attribute.
    return Page(html, f"default-src 'none'; script-src '{_hash(script)}'; "
                      f"style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; "
                      "form-action 'none'; frame-ancestors 'none'")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
