"""Deployments over HTTP: statuses, errors, the description, and the client that speaks it."""

import asyncio
import json
from contextlib import asynccontextmanager
from io import BytesIO
from typing import NamedTuple

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from aiohttp.test_utils import TestClient, TestServer

from penstock.core.errors import InputError
from penstock.engines.client.client import client_session
from penstock.serving.deployments.controller import Controller
from penstock.serving.deployments.deployments import RefusedError
from penstock.serving.deployments.remote import RemoteDeployments
from penstock.serving.deployments.verbs import VERBS, LocalDeployments
from penstock.serving.planning.deployments import STATUSES, make_app
from support.simulated_deployments import World


class Here(NamedTuple):
    client: TestClient
    world: World
    control: Controller


@asynccontextmanager
async def served(folder):
    world = World(folder)
    async with world.open() as control:
        app = make_app(LocalDeployments(control), on_bug=world.bugs.append)
        async with TestClient(TestServer(app)) as client:
            yield Here(client, world, control)


async def told(response):
    async with response as found:
        return found.status, await found.json()


def test_a_life_over_http(tmp_path):
    async def work():
        async with served(tmp_path) as here:
            async def post(path, **order):
                return await told(here.client.post(f"/v1/deployments{path}", json=order))

            status, one = await post("", name="a", model="llama-2-7b", engine="sim")
            assert (status, one["state"]) == (200, "registered")
            here.world.gate.clear()
            assert (await post("/a/profile"))[0] == 202
            status, answer = await post("/a/deploy")
            assert (status, answer["error"]["code"]) == (409, "busy")
            here.world.gate.set()
            assert (await post("/a/restart"))[1]["error"]["code"] in ("busy", "state")
            await here.control.settled("a")
            status, answer = await post("/a/deploy", dry_run=True)
            assert (status, answer["dry_run"]) == (200, True)
            assert answer["deployment"]["state"] == "profiled"
            status, answer = await post("/a/deploy", intent="min_lat", wait=True)
            assert (status, answer["deployment"]["state"]) == (200, "running")
            assert answer["deployment"]["placement"]["bytes_by_device"] == {"0": 20 << 30}
            status, answer = await post("/a/infer", prompt="x", max_tokens=10, head=True)
            assert (status, answer["output_tokens"], answer["simulated"]) == (200, 10, True)
            status, answer = await told(here.client.get("/v1/deployments"))
            assert [one["name"] for one in answer["deployments"]] == ["a"]
            status, answer = await told(here.client.get("/v1/devices"))
            assert [one["used_bytes"] >> 30 for one in answer["devices"]] == [20, 0, 0, 0]
            status, one = await post("/a/remove", wait=True)
            assert (status, one["state"]) == (200, "removed")
            status, answer = await told(here.client.get("/v1/deployments/a/events"))
            assert [event["state"] for event in answer["events"]][-2:] == ["removing", "removed"]
            assert not here.world.bugs

    asyncio.run(work())


@pytest.mark.parametrize(("path", "order", "status", "code", "message"), [
    ("/b/deploy", {}, 404, "unknown", "deployment: 'b' is unknown; did you mean 'busy'?"),
    ("", {"name": "b"}, 400, "input", "model"),
    ("", {"name": "b", "model": "llama-2-7", "engine": "sim"}, 400, "input",
     "did you mean 'llama-2-7b'?"),
    ("", {"name": "b", "modl": "x"}, 400, "input", "did you mean 'model'?"),
    ("/busy/deploy", {"intent": "min_late"}, 400, "input",
     "intent: 'min_late' is unknown; did you mean 'min_lat'?"),
    ("/busy/deploy", {"precisions": ["int5"]}, 400, "input",
     "precisions: 'int5' is unknown; did you mean 'int"),
    ("/busy/deploy", {"slo_s": -1}, 400, "input", "slo_s: expected more than 0"),
    ("/busy/deploy", {"batch": "4"}, 400, "input", "batch: "),
    ("/busy/deploy", {"placer": "balance"}, 400, "input", "did you mean 'balanced'?"),
    ("/busy/deploy", {"configuration": {"precision": "int4"}, "intent": "min_lat"}, 400, "input",
     "expected one of them"),
    ("/busy/deploy", {"configuration": {"tensor": 2}}, 400, "input", "configuration.precision"),
    ("/busy/deploy", {}, 409, "state", "busy is running: it cannot become deploying"),
    ("/idle/deploy", {"wait": True}, 502, "engine", "idle: it would not start"),
    ("/full/deploy", {}, 409, "no_room", "GiB"),
    ("/idle/infer", {"prompt": "x"}, 409, "state", "idle is registered; it takes requests"),
    ("/busy/infer", {}, 400, "input", "expected either prompt or messages"),
    ("/busy/infer", {"prompt": "x", "max_tokens": 0}, 400, "input",
     "max_tokens: expected at least 1, found 0"),
])
def test_what_is_wrong_is_told_in_one_form(tmp_path, path, order, status, code, message):
    async def work():
        async with served(tmp_path) as here:
            for name in ("busy", "idle", "full"):
                here.control.register(name, "llama-2-7b", "sim", {})
            async with here.client.post("/v1/deployments/busy/deploy", json={"wait": True}) as done:
                assert done.status == 200
            here.world.broken.add("idle")
            here.world.num_gib["full"] = (90, 1)
            before = here.control.deployments()
            found, answer = await told(here.client.post(f"/v1/deployments{path}", json=order))
            assert (found, answer["error"]["code"]) == (status, code)
            assert message in answer["error"]["message"]
            assert "\n" not in answer["error"]["message"]
            assert set(answer["error"]) == {"code", "message", "details", "type", "param"}
            if code != "engine":
                assert here.control.deployments() == before
            here.control.check_integrity()

    asyncio.run(work())


@pytest.mark.parametrize(("arguments", "status", "message"), [
    ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 400, "is not JSON"),
    ({"json": []}, 400, "expected a JSON object"),
    ({"data": b"{}", "headers": {"Content-Type": "text/plain"}}, 415, "'text/plain'"),
    ({"data": {"name": "a"}}, 415, "application/x-www-form-urlencoded"),
    ({"json": {}, "headers": {"Host": "evil.example:80"}}, 403, "'evil.example'"),
    ({"data": BytesIO(b" " * 5_000_000), "headers": {
        "Content-Type": "application/json"}}, 413, "larger than 4 MB"),
])
def test_bodies_that_are_not_taken(tmp_path, arguments, status, message):
    async def work():
        async with served(tmp_path) as here:
            found, answer = await told(here.client.post("/v1/deployments", **arguments))
            assert found == status
            assert message in answer["error"]["message"]
            assert here.control.deployments() == []

    asyncio.run(work())


def test_paths_methods_and_health(tmp_path):
    async def work():
        async with served(tmp_path) as here:
            for path, status in (("/nowhere", 404), ("/health", 200), ("/openapi.json", 200)):
                assert (await told(here.client.get(path)))[0] == status
            assert (await told(here.client.delete("/v1/devices")))[0] == 405
            for name in ("127.0.0.1:1", "localhost", "[::1]:9"):
                async with here.client.get("/health", headers={"Host": name}) as response:
                    assert response.status == 200

    asyncio.run(work())


def test_a_bug_is_told_as_one(tmp_path):
    async def work():
        async with served(tmp_path) as here:
            here.control.register("a", "llama-2-7b", "sim", {})

            async def choose(*_):
                raise ZeroDivisionError("secret")

            object.__setattr__(here.control._dependencies, "choose", choose)
            status, answer = await told(here.client.post("/v1/deployments/a/deploy", json={}))
            assert (status, answer["error"]["code"]) == (500, "bug")
            assert "secret" not in answer["error"]["message"]
            assert "secret" in here.world.bugs[0]

    asyncio.run(work())


def test_the_description_has_every_verb_and_no_loose_end(tmp_path):
    async def work():
        async with served(tmp_path) as here:
            _, document = await told(here.client.get("/openapi.json"))
        for verb in VERBS.values():
            entry = document["paths"][verb.path][verb.method.lower()]
            assert entry["operationId"] == verb.name
            assert ("requestBody" in entry) == (verb.method == "POST")
            assert str(verb.begun) in entry["responses"]
        text = json.dumps(document)
        assert "#/$defs" not in text
        order = document["paths"]["/v1/deployments/{name}/deploy"]["post"]["requestBody"]
        properties = order["content"]["application/json"]["schema"]["properties"]
        assert "dry_run" in properties
        assert all("description" in value for value in properties.values())

    asyncio.run(work())


def test_the_client_gets_what_it_would_get_here(tmp_path):
    async def work():
        async with served(tmp_path) as here:
            remote = RemoteDeployments(here.client.session,
                                       str(here.client.make_url("")).rstrip("/"))
            local = LocalDeployments(here.control)
            await remote.call("register", "", {"name": "a", "model": "llama-2-7b"})
            for verb in ("show", "events"):
                assert await remote.call(verb, "a", {}) == await local.call(verb, "a", {})
            for verb in ("list", "devices"):
                assert await remote.call(verb, "", {}) == await local.call(verb, "", {})
            for asked in (remote, local):
                with pytest.raises(InputError, match=r"'b/\.\.' is unknown"):
                    await asked.call("show", "b/..", {})
                with pytest.raises(InputError, match="did you mean 'intent'"):
                    await asked.call("deploy", "a", {"intend": "min_lat"})
                with pytest.raises(RefusedError, match="a is registered") as refused:
                    await asked.call("infer", "a", {"prompt": "x"})
                assert (refused.value.code, refused.value.details["state"]) == (
                    "state", "registered")

    asyncio.run(work())


def test_a_server_that_is_gone():
    async def work():
        async with client_session() as session:
            with pytest.raises(InputError, match="does not answer"):
                await RemoteDeployments(session, "http://127.0.0.1:9").call("list", "", {})

    asyncio.run(work())


def test_every_code_has_a_status():
    assert set(STATUSES.values()) <= {409, 422, 502}
