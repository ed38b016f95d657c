"""Rules against requests that a web page makes a browser send to an application of ours."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web

from penstock.core.loopback import is_loopback
from penstock.serving.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Address:
    """Shared facts of the applications on one address: its ``title``, the ``host`` on which it
    listens, ``names`` of it besides, whether callers show keys, and the page that unknown paths
    refer to. ``code`` is that of errors of HTTP itself; ``size_hint`` says how a larger body is
    allowed."""

    title: str
    host: str = "127.0.0.1"
    names: Sequence[str] = ()
    needs_keys: Callable[[], bool] = field(default=lambda: False)
    see: str = "/openapi.json"
    code: str = "http_error"
    size_hint: str = ""


def own_site_rule(address: Address) -> Callable[[web.Request], None]:
    """Return a check that raises ServiceError, with status 403, for requests of other sites' pages.

    A page may come from this machine or from the very host that it asks. Where no key is needed,
    ``Host`` must be an address or name of this server: a page whose own name was bent to this
    address (DNS rebinding) comes from the host that it asks. Where keys are needed, such a page has
    none.
    """
    def is_own(name: str) -> bool:
        return is_loopback(name) or name == address.host or name in address.names

    def is_named(name: str) -> bool:
        """Whether a page of another site cannot have this name."""
        if is_own(name):
            return True
        return not is_loopback(address.host) and (_is_ip_address(name) or name in _machine_names())

    def check(request: web.Request) -> None:
        name = _hostname(f"//{request.host or ''}")
        if not address.needs_keys() and not is_named(name):
            raise ServiceError(403, f"Host: {name[:60]!r} is not an address of this server; "
                                    "--allow-host adds a name", address.code)
        origin = request.headers.get("Origin")
        if origin is not None:
            site = _hostname(origin)
            if not is_own(site) and (site != name or not name):
                raise ServiceError(403, f"Origin: {origin[:60]!r} is another site", address.code)
        elif request.method != "GET" and request.headers.get("Sec-Fetch-Site") == "cross-site":
            raise ServiceError(403, "Sec-Fetch-Site: a page of another site asks", address.code)

    return check


def check_content_type(request: web.Request, kinds: Sequence[str], code: str) -> None:
    """Raise ServiceError, with status 415, for a body of another content type.

    A browser lets pages of other sites send forms and plain text without asking.
    """
    if request.body_exists and request.content_type not in kinds:
        raise ServiceError(415, f"Content-Type: found {request.content_type[:60]!r}; expected "
                                f"{' or '.join(kinds)}", code)


@lru_cache(maxsize=1)
def _machine_names() -> frozenset[str]:
    return frozenset({socket.gethostname().lower(), socket.getfqdn().lower()})


@lru_cache(maxsize=1024)
def _is_ip_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=256)  # clients of one gateway use few names
def _hostname(url: str) -> str:
    """Return the host of a URL in lower case, empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
