import asyncio
import json

import pytest

from penstock.api.operation import Answer, Operation
from penstock.api.operations import OPERATIONS
from penstock.api.queue import EXAMPLE

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from aiohttp.test_utils import TestClient, TestServer

from penstock.api.server import make_app


def broken(body) -> Answer:
    raise ZeroDivisionError("secret detail")


BROKEN = Operation("/broken", "fails", broken, {"properties": {}}, {}, {}, {})


def ask(*requests, max_body_bytes=10_000):
    """Status, headers and body of each request, and what was said about bugs."""
    bugs = []

    async def run():
        app = make_app((*OPERATIONS, BROKEN), max_body_bytes, bugs.append)
        found = []
        async with TestClient(TestServer(app)) as client:
            for method, path, body in requests:
                async with client.request(method, path, data=body) as response:
                    found.append((response.status, response.headers, await response.read()))
        return found

    return asyncio.run(run()), bugs


def one(method, path, body=None, **more):
    (answer,), _ = ask((method, path, body), **more)
    return answer


def test_an_operation_answers_json() -> None:
    status, headers, body = one("POST", "/v1/queue/solve",
                                json.dumps(EXAMPLE | {"rate_per_s": 1.0}))
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body)["throughput_per_s"] == pytest.approx(1.0)


def test_description_and_page_are_served() -> None:
    (description, page), _ = ask(("GET", "/openapi.json", None), ("GET", "/docs", None))
    assert set(json.loads(description[2])["paths"]) == {
        operation.path for operation in (*OPERATIONS, BROKEN)}
    assert page[1]["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(("method", "path", "body", "status", "message"), [
    ("POST", "/v1/queue/solve", "{", 400, "is not JSON"),
    ("POST", "/v1/queue/solve", "", 400, "is not JSON"),
    ("POST", "/v1/queue/solve", '{"mode": NaN}', 400, "is not JSON"),
    ("POST", "/v1/queue/solve", "[]", 400, "expected an object"),
    ("POST", "/v1/nothing", "{}", 404, "no operation '/v1/nothing'"),
    ("GET", "/v1/queue/solve", None, 405, "does not take GET"),
    ("POST", "/v1/queue/solve", "x" * 20_000, 413, "Maximum request body size"),
])
def test_errors_are_json(method, path, body, status, message) -> None:
    found, _, text = one(method, path, body)
    assert found == status
    assert message in json.loads(text)["message"]


def test_a_bug_shows_no_traceback_to_the_caller() -> None:
    ((status, _, body),), bugs = ask(("POST", "/broken", "{}"))
    assert status == 500
    assert b"secret" not in body
    assert "ZeroDivisionError" in json.loads(body)["message"]
    assert "secret detail" in bugs[0]


def test_requests_at_the_same_time() -> None:
    async def run():
        app = make_app(OPERATIONS)
        async with TestClient(TestServer(app)) as client:
            async def post(rate):
                body = json.dumps(EXAMPLE | {"rate_per_s": rate})
                async with client.post("/v1/queue/solve", data=body) as response:
                    return (await response.json())["offered_per_s"]
            return await asyncio.gather(*(post(rate) for rate in range(1, 13)))

    assert asyncio.run(run()) == list(range(1, 13))
