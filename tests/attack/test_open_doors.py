"""A gateway that needed keys once needs keys until it is started anew, whatever is taken away."""

import asyncio
import sqlite3

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.policy.route.simple import LeastLoaded
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.reload import Reload
from penstock.serving.gateway.running import Access, running
from support import misbehaving_engines as odd

PATHS = ("/v1/models", "/v1/penstock/status", "/v1/penstock/spend", "/metrics")
SHOP = {"gateway": {"tenants": [{"name": "shop"}]}}


async def refused(session):
    """The statuses of a client without a key."""
    async with session.post("/v1/completions", json={"prompt": "x", "max_tokens": 5}) as answer:
        found = {answer.status}
    for path in PATHS:
        async with session.get(path) as answer:
            found.add(answer.status)
    return found


def with_reload(tmp_path, before, after, work, key=None):
    """What ``work`` makes of a session and a function that reloads, on a gateway with a ledger."""
    ledger = f"sqlite:///{tmp_path}/ledger.db"

    async def run():
        async with odd.engine(odd.well) as url:
            fleets = [odd.fleet_of([url], **before), odd.fleet_of([url], **after)]
            file = tmp_path / "fleet.yaml"
            file.write_text("")
            notes = []
            reload = Reload(file, lambda: fleets[1], lambda _: LeastLoaded())
            if key is not None:
                key(tmp_path)
            async with running(fleets[0], LeastLoaded(), "127.0.0.1", 0, limits=Limits(),
                               access=Access(ledger, open_to_all=True), reload=reload,
                               on_bug=notes.append) as (base, _), aiohttp.ClientSession(
                    base) as session:
                async def again():
                    reload.asked.set()
                    while not any("was read again" in note for note in notes):
                        await asyncio.sleep(0.01)

                return await work(session, again)

    return asyncio.run(asyncio.wait_for(run(), 60))


async def before_and_after(session, again):
    first = await refused(session)
    await again()
    return first, await refused(session)


def test_tenants_without_a_key_open_nothing_nor_do_tenants_that_a_reload_removes(tmp_path) -> None:
    assert with_reload(tmp_path, SHOP, {}, before_and_after) == ({401}, {401})


def test_a_reload_may_close_an_open_gateway(tmp_path) -> None:
    assert with_reload(tmp_path, {}, SHOP, before_and_after) == ({200}, {401})


def make_key(tmp_path, tenant="shop"):
    from penstock.serving.tenants.keys import new_key
    from penstock.serving.tenants.store import open_store
    store = open_store(f"sqlite:///{tmp_path}/ledger.db")
    text, key = new_key(tenant, 0.0, lambda n: bytes(n))
    store.add_key(key)
    store.close()
    return text


def test_keys_that_are_deleted_from_the_table_open_nothing(tmp_path) -> None:
    async def work(session, again):
        first = await refused(session)
        with sqlite3.connect(f"{tmp_path}/ledger.db") as connection:
            connection.execute("delete from penstock_keys")
        await asyncio.sleep(2.5)  # a look at the ledger is due every two seconds
        return first, await refused(session)

    assert with_reload(tmp_path, {}, {}, work, make_key) == ({401}, {401})


def test_the_key_of_a_tenant_that_a_reload_removes_opens_nothing(tmp_path) -> None:
    """Without its entry the tenant would have no limit at all."""
    texts = []

    async def work(session, again):
        seen = []
        for _ in range(2):
            async with session.get("/v1/models", headers={
                    "Authorization": f"Bearer {texts[0]}"}) as answer:
                seen.append(answer.status)
            await again()
        return seen

    assert with_reload(tmp_path, SHOP, {}, work,
                       lambda path: texts.append(make_key(path))) == [200, 403]
