"""HTTP of Inferno's loop."""

import asyncio

import aiohttp

from penstock.engines.http import listening
from penstock.published.inferno.cluster.data import ConfigMapData
from penstock.published.inferno.cluster.decide import Rules
from penstock.published.inferno.cluster.loop import InfernoLoop
from penstock.published.inferno.cluster.server import make_app
from support.fake_cluster import FakeCluster
from support.inferno_cluster import walkthrough


def ask(there, *paths, headers=None):
    """Status and document of each path, asked at once."""
    async def work():
        loop = InfernoLoop(there, ConfigMapData(there, "inferno"), None, Rules(), None, print)
        async with listening(make_app(loop, "127.0.0.1", print), "127.0.0.1", 0, 0.1) as url, \
                aiohttp.ClientSession(headers=headers) as session:
            async def one(path):
                async with session.get(url + path) as answer:
                    return answer.status, await answer.json()

            return await asyncio.gather(*map(one, paths))

    return asyncio.run(work())


def ready():
    there = FakeCluster()
    walkthrough(there)
    return there


def test_invoke_runs_a_cycle_and_cycles_do_not_overlap():
    there = ready()
    found = ask(there, "/invoke", "/invoke", "/invoke")
    assert sorted(document["cycle"] for _, document in found) == [1, 2, 3]
    assert len(there.actions) == 4  # only the first has anything to change


def test_collect_shows_servers_and_changes_nothing():
    there = ready()
    (status, document), health = ask(there, "/collect", "/healthz")
    assert (status, health) == (200, (200, {"status": "ok"}))
    assert [one["name"] for one in document["servers"]] == [
        "Free-large", "Free-small", "Premium-large", "Premium-small"]
    assert not there.actions


def test_a_cycle_that_is_skipped_has_inferno_s_status_and_one_line():
    (status, document), = ask(FakeCluster(), "/invoke")
    assert status == 404
    assert "cycle skipped: ConfigMap inferno/inferno-static-data: there is none" in str(document)


def test_a_page_of_another_site_cannot_make_a_browser_change_replicas():
    there = ready()
    (status, _), = ask(there, "/invoke", headers={"Sec-Fetch-Site": "cross-site"})
    assert status == 403
    (status, _), = ask(there, "/invoke", headers={"Host": "evil.example"})
    assert status == 403
    assert not there.actions


def test_the_operations_are_described():
    (_, document), = ask(ready(), "/openapi.json")
    assert {"/invoke", "/collect", "/healthz"} <= set(document["paths"])
