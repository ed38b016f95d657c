"""A gateway whose memory is nearly used up: the least urgent class is shed, before its body is
read, and the most urgent class is served."""

import asyncio

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from penstock.serving.gateway import server
from penstock.serving.overload import OverloadLimits, resident_bytes
from support import misbehaving_engines as odd
from support.raw_http import BODY, post, sent, statuses

CLASS = "X-Penstock-Class"


def under_pressure(monkeypatch, share, work):
    """What ``work`` makes of a gateway whose process uses about this share of its memory."""
    if not resident_bytes():
        pytest.skip("this system does not tell a process's memory")
    monkeypatch.setattr(server, "default_limits",
                        lambda *_: OverloadLimits(60.0, int(resident_bytes() / share), 2**30))

    async def measured(session, engines):
        await asyncio.sleep(0.2)
        return await work(session, engines)

    return odd.before([odd.well], measured)


async def everybody(session, _):
    found = {}
    for name in ("chat", "batch"):
        for place in ("header", "body"):
            more = {"headers": {CLASS: name}} if place == "header" else {}
            body = {"prompt": "x", "max_tokens": 5, "penstock": {"service_class": name}}
            async with session.post("/v1/completions", json=body, **more) as answer:
                error = (await answer.json()).get("error", {})
                found[name, place] = answer.status, error.get("code"), answer.headers.get(
                    "Retry-After")
    async with session.get("/health") as answer:
        assert answer.status == 200
    return found


SERVED, SHED = (200, None, None), (503, "overloaded", "1")


def test_the_least_urgent_class_is_shed_first(monkeypatch) -> None:
    assert under_pressure(monkeypatch, 0.85, everybody) == {
        ("chat", "header"): SERVED, ("chat", "body"): SERVED,
        ("batch", "header"): SHED, ("batch", "body"): SHED}


def test_at_the_limit_everybody_is_shed_and_health_is_told(monkeypatch) -> None:
    assert set(under_pressure(monkeypatch, 2.0, everybody).values()) == {SHED}


def test_a_class_that_a_header_tells_is_shed_without_its_body(monkeypatch) -> None:
    async def work(session, _):
        head = post(b"", b"Content-Length: %d" % len(BODY), b"X-Penstock-Class: batch")
        return statuses(await sent(str(session._base_url), head, 3.0, end=False))

    assert under_pressure(monkeypatch, 0.85, work) == [503]
