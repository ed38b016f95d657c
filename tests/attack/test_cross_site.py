"""Pages of other sites make a browser ask every path of every application: nothing happens."""

import asyncio

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.engines.http import listening
from penstock.serving.planning.deployments import make_app as deployments_app
from penstock.serving.planning.operations import OPERATIONS
from penstock.serving.planning.server import make_app as planning_app
from support import misbehaving_engines as odd
from support.gateway_with_keys import home

JSON = {"Content-Type": "application/json"}
FOREIGN = (
    {"Origin": "https://evil.example", **JSON},
    {"Origin": "null", **JSON},
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://evil.example"},
)
BENT = {"Host": "evil.example", "Origin": "http://evil.example", **JSON}


class Deployments:
    """A controller that must not be asked."""

    async def call(self, verb, name, order):
        raise AssertionError(f"{verb} was carried out")


async def every_path(session, headers_of):
    """The statuses of all operations of the OpenAPI document, for each of the headers."""
    async with session.get("/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    seen = {}
    for path, operations in paths.items():
        for method in operations:
            for headers in headers_of:
                url = path.replace("{name}", "x").replace("{id}", "x")
                body = b"{}" if "Content-Type" in headers and method == "post" else None
                async with session.request(method, url, headers=headers, data=body) as answer:
                    seen.setdefault((method, path), set()).add(answer.status)
    return seen


def posts_refused(seen, status=403):
    posts = {path: found for (method, path), found in seen.items() if method == "post"}
    assert posts
    return {path: found for path, found in posts.items() if found != {status}}


def served(app, headers_of):
    async def run():
        async with listening(app, "127.0.0.1", 0, 0.1) as url, aiohttp.ClientSession(url) as one:
            return await every_path(one, headers_of)

    return asyncio.run(asyncio.wait_for(run(), 60))


@pytest.mark.parametrize("make", [lambda: deployments_app(Deployments()),
                                  lambda: planning_app(OPERATIONS)])
def test_no_other_site_commands_deployments_or_planning(make) -> None:
    assert posts_refused(served(make(), [*FOREIGN, BENT])) == {}


def test_no_other_site_commands_a_gateway_with_keys_either(tmp_path) -> None:
    async def run():
        async with home(tmp_path) as here:
            return await every_path(here.sessions["admin"], FOREIGN)

    assert posts_refused(asyncio.run(run())) == {}


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_name_that_was_bent_to_a_keyless_gateway_is_not_answered(host) -> None:
    async def run():
        from penstock.policy.route.simple import LeastLoaded
        from penstock.serving.gateway.limits import Limits
        from penstock.serving.gateway.running import Access, running
        async with odd.engine(odd.well) as engine, running(
                odd.fleet_of([engine]), LeastLoaded(), host, 0, limits=Limits(),
                access=Access(open_to_all=True, host_names=("gate.example",))) as (url, _):
            port = url.rpartition(":")[2]
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                seen = await every_path(session, [BENT])
                async with session.get("/v1/models", headers={"Host": "gate.example"}) as answer:
                    return seen, answer.status

    seen, named = asyncio.run(run())
    assert {path for path, found in seen.items() if found != {403}} == set()
    assert named == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded",
                                  "multipart/form-data; boundary=x", "application/octet-stream"])
def test_bodies_that_pages_may_send_unasked_are_refused(kind) -> None:
    seen = served(planning_app(OPERATIONS), [{"Content-Type": kind}])
    assert posts_refused(seen, 415) == {}
