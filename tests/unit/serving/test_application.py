"""Whose pages may call an application, and by which names."""

import asyncio
import socket

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

import aiohttp
from aiohttp import web

from penstock.engines.http import listening
from penstock.serving.application import Part, make_application
from penstock.serving.callers import Address
from penstock.serving.error_document import error_document
from penstock.serving.errors import ServiceError


async def answer(_):
    return web.Response(text="here")


async def refuse(_):
    raise ServiceError(409, "not\n now", "busy", "field", details={"why": 1})


def asked(headers, path="/", **address):
    part = Part([("GET", "/", answer), ("GET", "/no", refuse)], lambda: {"paths": {}}, 1000)

    async def run():
        app = make_application(Address("test", **address), [part], print)
        async with listening(app, "127.0.0.1", 0, 0.1) as url, aiohttp.ClientSession(
                url) as session, session.get(path, headers=headers) as found:
            text = await found.text()
            return found.status, text if found.status == 200 else await found.json()

    return asyncio.run(run())


@pytest.mark.parametrize("headers", [
    {}, {"Host": "localhost:80"}, {"Host": "[::1]:80"}, {"Host": "127.8.8.8"},
    {"Origin": "http://localhost:3000"}, {"Origin": "http://127.0.0.1"}])
def test_this_machine_may_call(headers) -> None:
    assert asked(headers) == (200, "here")


@pytest.mark.parametrize(("headers", "said"), [
    ({"Host": "evil.example"}, "Host: 'evil.example' is not an address of this server"),
    ({"Host": "localhost.evil.example:80"}, "Host: "), ({"Host": "[::1"}, "Host: "),
    ({"Origin": "https://evil.example"}, "Origin: 'https://evil.example' is another site"),
    ({"Origin": "null"}, "Origin: 'null'")])
def test_no_page_of_another_site_may(headers, said) -> None:
    status, document = asked(headers)
    assert status == 403
    assert document["message"].startswith(said)
    by_name = "Origin" not in headers
    assert asked(headers, needs_keys=lambda: True)[0] == (200 if by_name else 403), (
        "where keys are needed, a page whose name was bent to this address has none")
    assert asked(headers, host="0.0.0.0")[0] == 403


def test_a_server_beyond_the_loopback_goes_by_its_addresses_its_names_and_those_that_are_stated(
        ) -> None:
    for name in ("10.1.2.3:8000", "[fd00::1]", socket.gethostname(), "gate.example"):
        for headers in ({"Host": name}, {"Host": name, "Origin": f"http://{name}"}):
            assert asked(headers, host="0.0.0.0", names=("gate.example",)) == (200, "here"), name


def test_a_page_that_the_server_itself_gave_may_call_it_where_keys_are_needed() -> None:
    headers = {"Host": "gate.example", "Origin": "https://gate.example"}
    assert asked(headers, host="0.0.0.0", needs_keys=lambda: True) == (200, "here")


def test_errors_have_one_form() -> None:
    assert asked({}, "/no") == (409, {"message": "not now", "error": {
        "message": "not now", "type": "conflict_error", "param": "field", "code": "busy",
        "details": {"why": 1}}})
    status, document = asked({}, "/nowhere")
    assert (status, document["message"]) == (404, "no operation '/nowhere'; see /openapi.json")
    assert document["error"]["code"] == "http_error"


@pytest.mark.parametrize("status", [400, 405, 413, 415])
def test_a_body_that_is_not_taken_is_the_callers_fault(status):
    assert error_document(status, "no")["error"]["type"] == "invalid_request_error"
