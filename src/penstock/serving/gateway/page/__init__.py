"""The status page of a gateway: one file that fetches its figures from the gateway."""

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources
from string import Template

from penstock import __version__


@dataclass(frozen=True, slots=True)
class Page:
    """A page, and the content security policy that admits only its own script and style."""

    html: str
    policy: str


def status_page() -> Page:
    """Return the page, in the style of the reports."""
    here = resources.files(__package__)
    look = resources.files("penstock.report.html").joinpath("page.css").read_text("utf-8")
    style = look + here.joinpath("status.css").read_text("utf-8")
    script = here.joinpath("status.js").read_text("utf-8")
    html = Template(here.joinpath("status.html").read_text("utf-8")).substitute(
        version=__version__, style=style, script=script)
    # A bar's width follows its value, which needs a style attribute.
    return Page(html, f"default-src 'none'; script-src '{_hash(script)}'; "
                      f"style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; "
                      "form-action 'none'; frame-ancestors 'none'")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
