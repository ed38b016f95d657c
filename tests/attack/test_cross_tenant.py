"""Every path of the OpenAPI document, asked by everybody: who gets which status, and nobody a byte
of another tenant."""

import secrets

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

import aiohttp
import orjson

from support.gateway_with_keys import through

CANARY = f"canary{secrets.token_hex(6)}"
EVERYBODY = ("/health", "/openapi.json")
ASKING = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
ANY_KEY = ("/v1/models", "/v1/penstock/spend")
DECISION = "/v1/penstock/decisions/{id}"
UNKNOWN = dict.fromkeys(("nobody", "malformed", "revoked", "gone"), 401) | {"gone": 403}
WORKS = "neither 401, 403 nor a server error"
BODIES = {"/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
          "/v1/completions": {"prompt": [1] * 10}, "/v1/embeddings": {"input": "x"}}
IDENTITIES = ("nobody", "malformed", "revoked", "gone", "shop", "bar", "admin")


def expected(path):
    """The status that everybody gets of a path."""
    if path in EVERYBODY:
        return dict.fromkeys(IDENTITIES, 200)
    if path in ASKING:
        return UNKNOWN | {"shop": WORKS, "bar": WORKS, "admin": 403}
    if path in ANY_KEY:
        return UNKNOWN | {"shop": 200, "bar": 200, "admin": 200}
    if path == DECISION:
        return UNKNOWN | {"shop": 200, "bar": 404, "admin": 200}
    return UNKNOWN | {"shop": 403, "bar": 403, "admin": WORKS}


async def matrix(here):
    """Status and answer by path, method and identity, and the first tenant's own words."""
    here.sessions["malformed"] = aiohttp.ClientSession(here.url, headers={
        "Authorization": "Bearer psk-x"})
    answer, _ = await here.ask("shop", penstock={"session": CANARY})
    decision = answer.headers["X-Penstock-Decision"]
    _, document = await here.get("nobody", "/openapi.json")
    found = {}
    for path, operations in document["paths"].items():
        url = path.replace("{id}", decision).replace("{name}", "x")
        for method in operations:
            body = orjson.dumps({"max_tokens": 3, **BODIES.get(path, {})})
            for who in IDENTITIES:
                async with here.sessions[who].request(
                        method, url, data=body if method == "post" else None,
                        headers={"Content-Type": "application/json"}) as one:
                    found[path, method, who] = one.status, await one.read()
    return found, decision


def allowed(status, wanted):
    return status not in (401, 403) and status < 500 if wanted == WORKS else status == wanted


def test_everybody_gets_what_is_theirs_and_no_more(tmp_path) -> None:
    found, decision = through(tmp_path, matrix)
    wrong = {place: status for place, (status, _) in found.items()
             if not allowed(status, expected(place[0])[place[2]])
             and (place[0], status) != ("/v1/embeddings", 501)}
    assert wrong == {}
    assert len({path for path, _, _ in found}) > 15
    secret = (CANARY.encode(), decision.encode())
    leaks = [place for place, (_, text) in found.items()
             if place[2] not in ("shop", "admin") and any(one in text for one in secret)]
    assert leaks == []
    named = [place for place, (_, text) in found.items()
             if place[2] not in ("shop", "admin") and place[0] not in EVERYBODY
             and b'"shop"' in text]
    assert named == []
