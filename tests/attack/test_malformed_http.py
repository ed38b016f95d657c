"""Bytes that are no HTTP, or nearly: thousands of drawn cases, and framings that are ambiguous."""

import asyncio
import select
import socket
import time

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

import orjson

from penstock.serving.gateway import server
from penstock.serving.gateway.limits import Limits
from penstock.serving.overload import OverloadLimits
from support import misbehaving_engines as odd
from support.raw_http import BODY, Grammar, length, post, sent, statuses

CASES, AT_ONCE = 2400, 150
PATIENT = Limits(connect_s=10.0, silence_s=10.0)  # the engine shares a loop with 150 clients
VICTIM = {"prompt": "the victim's", "max_tokens": 5}
SMUGGLED = post(b'{"prompt":"smuggled","max_tokens":5}', b"Content-Length: 36")
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
TE = b"Transfer-Encoding: chunked"


async def still_well(session):
    async with session.post("/v1/completions", json=VICTIM) as answer:
        assert (answer.status, await answer.json()) == (200, odd.WHOLE)
    async with session.get("/health") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("seed", range(4))
def test_drawn_requests_get_no_server_error_and_harm_nobody(seed, caplog) -> None:
    grammar, notes = Grammar(seed), []

    async def work(session, _):
        url, found = str(session._base_url), []
        for _ in range(CASES // 4 // AT_ONCE):
            cases = [grammar.case() for _ in range(AT_ONCE)]
            answers = await asyncio.gather(*(sent(url, one, 0.4, end=False) for one in cases))
            found += [(case, answer) for case, answer in zip(cases, answers, strict=True)
                      if any(status >= 500 for status in statuses(answer))]
            await still_well(session)
        return found

    assert odd.before([odd.well], work, notes=notes, limits=PATIENT) == []
    assert notes == []
    assert "smuggled" not in caplog.text


@pytest.mark.parametrize("path", [b"/v1/completions", b"/no/such/path", b"/health"])
@pytest.mark.parametrize("expected", [b"\xff\xfe", b"nothing", b"200-ok"])
def test_an_expectation_that_nobody_knows_is_ignored(path, expected) -> None:
    async def work(session, _):
        return statuses(await sent(str(session._base_url), post(
            BODY, length(BODY), b"Expect: " + expected, path=path), 1.0, end=False))

    assert odd.before([odd.well], work) in ([200], [404], [405])


AMBIGUOUS = {
    "length and chunked": post(CHUNKED + SMUGGLED, TE, length(BODY)),
    "chunked and length": post(CHUNKED + SMUGGLED, length(CHUNKED), TE),
    "length 0 and chunked": post(CHUNKED + SMUGGLED, b"Content-Length: 0", TE),
    "two lengths": post(BODY + SMUGGLED, length(BODY), length(BODY + SMUGGLED)),
    "two equal lengths": post(BODY + SMUGGLED, length(BODY), length(BODY)),
    "list of lengths": post(BODY + SMUGGLED, b"Content-Length: %d, %d" % (len(BODY), 500)),
    "signed length": post(BODY + SMUGGLED, b"Content-Length: +%d" % len(BODY)),
    "spaced length": post(BODY + SMUGGLED, b"Content-Length : %d" % len(BODY)),
    "folded length": post(BODY + SMUGGLED, b"Content-Length:\r\n %d" % len(BODY)),
    "obscured chunked": post(CHUNKED + SMUGGLED, b"Transfer-Encoding: xchunked", length(BODY)),
    "vertical tab chunked": post(CHUNKED + SMUGGLED, b"Transfer-Encoding: \x0bchunked",
                                 length(BODY)),
    "chunked twice": post(CHUNKED + SMUGGLED, TE, TE),
    "chunked, identity": post(CHUNKED + SMUGGLED, b"Transfer-Encoding: chunked, identity"),
    "spaced chunked name": post(CHUNKED + SMUGGLED, b"Transfer-Encoding : chunked", length(BODY)),
    "bare line feeds": post(CHUNKED.replace(b"\r\n", b"\n") + SMUGGLED, TE),
    "long chunk size": post(b"0000000000000000" + CHUNKED + SMUGGLED, TE),
    "chunk extension": post(CHUNKED.replace(b"\r\n", b";x=\"\r\n", 1) + SMUGGLED, TE),
    "trailers": post(CHUNKED[:-2] + b"Content-Length: 9\r\n\r\n" + SMUGGLED, TE),
    "chunk too short": post(b"1\r\n" + CHUNKED[4:] + SMUGGLED, TE),
    "header in a value": post(BODY + SMUGGLED, b"X: y\rContent-Length: 5", length(BODY)),
    "null in a name": post(BODY + SMUGGLED, b"Content-Length\x00: 5", length(BODY)),
    "body of a GET": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + length(SMUGGLED)
                     + b"\r\n\r\n" + SMUGGLED,
    "old version, chunked": post(CHUNKED + SMUGGLED, TE).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "expect": post(BODY + SMUGGLED, length(BODY), b"Expect: 100-continue"),
    "pipelined": post(BODY, length(BODY)) + SMUGGLED,
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_no_framing_reaches_into_the_next_request_at_the_engine(name) -> None:
    """The engine gets whole requests only, each as one client asked it, whatever an attacker
    appends: its connections are shared with the victim's requests."""
    got = []

    async def recording(request):
        got.append((request.method, request.path, await request.read(),
                    request.headers.get("Transfer-Encoding")))
        return await odd.well(request)

    async def work(session, _):
        url, marked = str(session._base_url), []
        for _ in range(3):
            marked += statuses(await sent(url, AMBIGUOUS[name], 0.15, end=False))
            await still_well(session)
        return marked

    found = odd.before([recording], work)
    assert all(status < 500 for status in found)
    prompts = [orjson.loads(body)["prompt"] for _, _, body, _ in got]
    assert {(method, path, packing) for method, path, _, packing in got} == {
        ("POST", "/v1/completions", None)}
    assert set(prompts) <= {"x", "smuggled", "the victim's"}
    assert prompts.count("the victim's") == 3
    assert len(prompts) <= 3 + 2 * 3  # no more than the attacker's own bytes could ask


def test_slow_clients_and_floods_of_headers_hold_up_nobody() -> None:
    """Heads that never end, bodies that never come, a thousand headers, giant heads and URLs."""
    limits = Limits(head_s=1.0, body_s=0.5)
    head = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    slow = [head, head + b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"]
    floods = [head + b"X: y\r\n" * 20_000, head + b"X: " + b"y" * 2**20, b"GET /" + b"a" * 2**20,
              head + b"".join(b"X-%d: y\r\n" % n for n in range(5000)) + b"\r\n", b"\r\n" * 100_000,
              b"\x00" * 2**20]

    async def work(session, _):
        url = str(session._base_url)
        held = [asyncio.create_task(sent(url, slow[n % 2], 3.0, end=False)) for n in range(100)]
        await asyncio.sleep(0.1)
        answers = await asyncio.gather(*(sent(url, one, 1.0) for one in floods))
        await still_well(session)
        return [statuses(one) for one in answers], [statuses(one) for one in
                                                    await asyncio.gather(*held)]

    floods_got, slow_got = odd.before([odd.well], work, limits=limits)
    assert all(status in (400, 403, 404, 408, 411, 413, 414, 415, 431)
               for found in floods_got for status in found)
    assert {tuple(found) for found in slow_got} <= {(), (408,), (400,)}


def test_a_burst_of_connections_finds_room_while_the_event_loop_is_busy() -> None:
    """A client whose connection finds no room tries again after a second."""
    async def work(session, _):
        port, burst = session._base_url.port, [socket.socket() for _ in range(400)]
        for one in burst:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        time.sleep(0.3)  # nobody accepts meanwhile
        _, open_now, _ = select.select([], burst, [], 0)
        for one in burst:
            one.close()
        return len(open_now)

    assert odd.before([odd.well], work) == 400


def test_bodies_of_many_connections_are_bounded_together(monkeypatch) -> None:
    """One connection may hold as much as thirty may not: the others get a status that says so."""
    monkeypatch.setattr(server, "default_limits", lambda *_: OverloadLimits(60.0, 2**40, 2**21))
    part = post(b'{"prompt":"' + b"x" * 200_000, b"Content-Length: 300000")

    async def work(session, _):
        url = str(session._base_url)
        found = await asyncio.gather(*(sent(url, part, 1.0, end=False) for _ in range(30)))
        await still_well(session)
        async with session.get("/v1/penstock/status") as answer:
            status = await answer.json()
        async with session.get("/metrics") as answer:
            text = await answer.text()
        return [one for each in found for one in statuses(each)], status["overload"], text

    found, overload, text = odd.before([odd.well], work)
    assert found.count(503) >= 15
    assert overload["pressures"]["bodies"] == 0.0
    assert overload["num_shed"]["unknown"] == found.count(503)
    assert f'penstock_overload_shed{{service_class="unknown"}} {found.count(503)}.0' in text
