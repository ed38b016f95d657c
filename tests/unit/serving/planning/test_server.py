import asyncio
import json

import pytest

from penstock.serving.planning.operation import Answer, Operation
from penstock.serving.planning.operations import OPERATIONS
from penstock.serving.planning.queue import EXAMPLE

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from aiohttp import ClientSession
from aiohttp.test_utils import TestClient, TestServer

from penstock.engines.http import listening
from penstock.serving.planning.fleet_plan import EXAMPLE as FLEET_FILE
from penstock.serving.planning.jobs import Limits
from penstock.serving.planning.server import make_app


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
                async with client.request(method, path, data=body,
                                          headers={"Content-Type": "application/json"}) as response:
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
        "/v1/plan", "/openapi.json", *(operation.path for operation in (*OPERATIONS, BROKEN))}
    assert page[1]["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(("method", "path", "body", "status", "message"), [
    ("POST", "/v1/queue/solve", "{", 400, "is not JSON"),
    ("POST", "/v1/queue/solve", "", 400, "is not JSON"),
    ("POST", "/v1/queue/solve", '{"mode": NaN}', 400, "is not JSON"),
    ("POST", "/v1/queue/solve", "[]", 400, "body: expected a JSON object, found a list"),
    ("POST", "/v1/nothing", "{}", 404, "no operation '/v1/nothing'"),
    ("GET", "/v1/queue/solve", None, 405, "does not take GET"),
    ("POST", "/v1/queue/solve", "x" * 20_000, 413,
     "body: larger than 0.00954 MB, the most that this server takes (plan-server --max-body-mb)"),
])
def test_errors_are_json(method, path, body, status, message) -> None:
    found, _, text = one(method, path, body)
    assert found == status
    assert message in json.loads(text)["message"]


@pytest.mark.parametrize("path", ["/v1/queue/solve", "/v1/plan"])
def test_a_body_that_is_not_encoded_as_its_header_says(path) -> None:
    """It is the caller's fault, and the server goes on."""
    bugs = []

    async def run():
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        app = make_app(OPERATIONS, on_bug=bugs.append)
        async with listening(app, "127.0.0.1", 0, 1.0) as url, ClientSession(url) as client, \
                client.post(path, data=b"{}", headers=headers) as response:
            status, document = response.status, await response.json()
        return status, document["message"]

    assert asyncio.run(run()) == (
        400, "body: cannot be decoded; Content-Encoding says 'gzip'")
    assert bugs == []


def test_a_plan_is_described_with_its_forms_and_query() -> None:
    (description, page), _ = ask(("GET", "/openapi.json", None), ("GET", "/docs", None))
    entry = json.loads(description[2])["paths"]["/v1/plan"]["post"]
    assert set(entry["requestBody"]["content"]) == {"application/json", "application/yaml"}
    assert [one["name"] for one in entry["parameters"]] == ["seed", "what_if", "time_limit_s"]
    assert {"415", "422", "429", "504"} <= set(entry["responses"])
    assert b"<code>what_if</code>" in page[2]


def plans(*requests, limits=None):
    """Status, headers and document of each request for a plan: content type, query and body."""
    async def run():
        app = make_app((), **({"limits": limits} if limits else {}))
        found = []
        async with TestClient(TestServer(app)) as client:
            for content_type, query, body in requests:
                async with client.post(f"/v1/plan{query}", data=body, headers={
                        "Content-Type": content_type}) as response:
                    found.append((response.status, response.headers, await response.json()))
        return found

    return asyncio.run(run())


def test_a_fleet_file_is_planned_whatever_its_form() -> None:
    text = json.dumps(FLEET_FILE)
    (as_json, as_yaml) = plans(("application/json; charset=utf-8", "?seed=3", text),
                               ("application/yaml", "?seed=3", text.replace("{", "{ ")))
    assert as_json[0] == as_yaml[0] == 200
    assert as_json[2]["replicas"] == as_yaml[2]["replicas"] != []
    assert as_json[2]["seed"] == as_yaml[2]["seed"] == 3


@pytest.mark.parametrize(("content_type", "query", "body", "status", "message"), [
    ("text/plain", "", "{}", 415, "Content-Type: found 'text/plain'; expected application/json"),
    ("application/json", "", "{", 400, "body: is not JSON"),
    ("application/yaml", "", "", 400, "body: empty"),
    ("application/yaml", "?sed=1", "{}", 400, "did you mean 'seed'?"),
    ("application/yaml", "", "what: 3", 400, "body:1: "),
    ("application/yaml", "?what_if=a", json.dumps(FLEET_FILE), 400, "what_if 'a': expected KEY="),
])
def test_a_plan_that_cannot_be_made(content_type, query, body, status, message) -> None:
    ((found, _, document),) = plans((content_type, query, body))
    assert found == status
    assert message in document["message"]


def test_a_full_queue_is_429_with_the_time_to_come_back() -> None:
    async def run():
        app = make_app((), limits=Limits(num_at_once=1, num_waiting=0, time_limit_s=5))
        async with TestClient(TestServer(app)) as client:
            async def ask_for():
                async with client.post("/v1/plan", json=FLEET_FILE) as response:
                    return response.status, response.headers.get("Retry-After")
            return await asyncio.gather(*(ask_for() for _ in range(3)))

    found = asyncio.run(run())
    refused = [after for status, after in found if status == 429]
    assert len(refused) == 2
    assert all(int(after) >= 1 for after in refused)


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
                async with client.post("/v1/queue/solve", data=body,
                                       headers={"Content-Type": "application/json"}) as response:
                    return (await response.json())["offered_per_s"]
            return await asyncio.gather(*(post(rate) for rate in range(1, 13)))

    assert asyncio.run(run()) == list(range(1, 13))
