"""Draining engines: they finish their requests and get no new ones."""

from typing import Any

from yarl import URL

from penstock.core.disclosure import Disclosure
from penstock.core.errors import nearest
from penstock.engines.http_body import read_json
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.audited import Act
from penstock.serving.gateway.confidential import any_confidential
from penstock.serving.gateway.engines import Engines


def drain(engines: Engines, body: bytes, act: Act, disclosure: Disclosure) -> dict[str, Any]:
    """Drain the engines at a URL, or undo that, and return their state. Raises ServiceError."""
    try:
        wanted = read_json(body)
        url, draining = wanted["url"].rstrip("/"), wanted.get("drain", True)
    except (ValueError, TypeError, KeyError, AttributeError):
        url = draining = None
    if not isinstance(draining, bool):
        raise ServiceError(400, 'expected {"url": ENGINE, "drain": true or false}',
                           "invalid_value")
    found = [one for one in engines if one.facts.url == url and not engines.leaving(one)]
    if not found:
        urls = [one.facts.url for one in engines]
        raise ServiceError(404, f"no engine {str(url)[:200]!r}{nearest(str(url)[:200], urls)}",
                           "not_found", "url")
    act.target = f"{URL(url).with_user(None)}{'' if draining else ' (undone)'}"
    for engine in found:
        engine.draining = draining
    number = sum(len(one.in_flight) for one in found)
    if any_confidential(found):
        number = disclosure.count(number)
    return {"url": url, "draining": draining, "num_in_flight": number}
