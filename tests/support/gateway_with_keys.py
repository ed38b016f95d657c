"""A gateway that asks for keys, before emulated engines, and a session of each who asks."""

import asyncio
import secrets
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import orjson

from penstock.engines.emulated.cluster import EmulatorOptions, emulated_cluster
from penstock.fleet.load import parse_fleet
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.running import Access, running
from penstock.serving.planning.jobs import Jobs
from penstock.serving.planning.operations import OPERATIONS
from penstock.serving.planning.server import USUAL, in_threads, part
from penstock.serving.tenants.keys import new_key
from penstock.serving.tenants.store import open_store
from support.small_fleet import FLEET

PRICE = {"input_per_million": 1.0, "output_per_million": 10.0}
TENANTS = [{"name": "shop", "budget": {"amount": 5.0}, "defaults": {"service_class": "batch"}},
           {"name": "bar"}]
STREAM = {"prompt": [1] * 10, "max_tokens": 20, "ignore_eos": True, "stream": True}


class Home:
    """A gateway's URL and everybody's session."""

    def __init__(self, url, sessions):
        self.url = url
        self.sessions = sessions

    async def ask(self, who, path="/v1/completions", headers=None, **body):
        async with self.sessions[who].post(path, json={**STREAM, **body},
                                           headers=headers) as answer:
            return answer, await answer.read()

    async def post(self, who, path, body, headers=None):
        """The answer to these very bytes."""
        async with self.sessions[who].post(path, data=body, headers=headers) as answer:
            return answer, await answer.read()

    async def get(self, who, path):
        async with self.sessions[who].get(path) as answer:
            text = await answer.read()
            return answer.status, orjson.loads(text) if text[:1] in (b"{", b"[") else text


@asynccontextmanager
async def home(tmp_path, tenants=TENANTS, speed=2000.0, urls=None, log=None, **more):
    url = f"sqlite:///{tmp_path}/ledger.db"
    store, texts = open_store(url), {}
    for name, tenant, revoked_s in (
            ("shop", "shop", None), ("bar", "bar", None), ("admin", "", None),
            ("gone", "gone", None), ("revoked", "shop", 1.0)):
        texts[name], key = new_key(tenant, 0.0, secrets.token_bytes, admin=not tenant)
        store.add_key(replace(key, revoked_s=revoked_s))
    store.close()
    overrides = {"models": [{"name": "llama-3-8b", "price": PRICE}]}
    async with emulated_cluster(parse_fleet(FLEET), EmulatorOptions(speed=speed)) as found:
        fleet = parse_fleet(FLEET, overrides={
            **overrides, "replicas": [{"count": 1, "endpoints": urls or [found.replicas[0].url]}],
            "gateway": {"tenants": tenants, **more}})
        async with running(fleet, LeastLoaded(), "127.0.0.1", 0, limits=Limits(),
                           access=Access(url), beside=[planning()], log=log) as (url, _):
            sessions = {name: aiohttp.ClientSession(url, headers={
                "Authorization": f"Bearer {text}"}) for name, text in texts.items()}
            sessions["nobody"] = aiohttp.ClientSession(url)
            try:
                yield Home(url, sessions)
            finally:
                for session in sessions.values():
                    await session.close()


def planning():
    return part(OPERATIONS, Jobs(USUAL, print), in_threads())


def through(tmp_path, work, *arguments, **settings):
    async def run():
        async with home(tmp_path, *arguments, **settings) as found:
            return await work(found)

    return asyncio.run(asyncio.wait_for(run(), 60))
