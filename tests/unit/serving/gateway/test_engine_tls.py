"""A gateway before engines that speak TLS and ask for its certificate."""

import asyncio
import json

import aiohttp
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")
pytest.importorskip("cryptography", reason="the extra 'attest' is not installed")

from aiohttp import web

from penstock.core.errors import InputError
from penstock.engines.http import listening
from penstock.engines.tls import ServerTls
from penstock.fleet.load import load_fleet
from penstock.fleet.write import resolved
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.gateway.reload import Reload
from support import misbehaving_engines as odd
from support.certificates import Authority

BODY = {"prompt": "x", "max_tokens": 5}


def section(folder, **changed):
    return {"ca": str(folder / "ca.pem"), "cert": str(folder / "gateway.pem"),
            "key": str(folder / "gateway-key.pem"), **changed}


def status_with(folder, engine_tls, work=None):
    """(status of a completion, notes) with a gateway before one engine that speaks TLS."""
    authority = Authority(folder)
    authority.issue("gateway")
    notes = []

    async def healthy(_):
        return web.Response()

    async def run():
        app = web.Application()
        app.router.add_get("/health", healthy)
        app.router.add_post("/v1/completions", odd.well)
        tls = ServerTls(*authority.issue("engine"), authority.file, lambda _: None)
        settings = {} if engine_tls is None else {"gateway": {"engine_tls": engine_tls}}
        async with listening(app, "127.0.0.1", 0, 0.1, tls=tls) as engine, odd.gateway(
                [engine], notes=notes, **settings) as (url, _), aiohttp.ClientSession(
                url) as session, session.post("/v1/completions", json=BODY) as answer:
            return answer.status

    return asyncio.run(asyncio.wait_for(run(), 60)), notes


def test_an_engine_of_the_ca_answers(tmp_path):
    assert status_with(tmp_path, section(tmp_path)) == (200, [])


@pytest.mark.parametrize("wrong", [None, {}, {"verify": True}])
def test_an_engine_that_nobody_vouches_for_gets_no_request(tmp_path, wrong):
    status, _ = status_with(tmp_path, wrong)
    assert status == 503


def test_verification_ends_only_where_the_file_says_so_and_a_note_tells(tmp_path):
    status, notes = status_with(tmp_path, section(tmp_path, ca=None, verify=False))
    assert status == 200
    assert [note for note in notes if "gateway.engine_tls.verify is false" in note]


@pytest.mark.parametrize(("wrong", "said"), [
    ({"cert": None}, "gateway.engine_tls.key: stands alone; expected cert beside it"),
    ({"ca": "nowhere.pem"}, "gateway.engine_tls.ca: no file 'nowhere.pem'"),
    ({"verify": False}, "gateway.engine_tls.ca: is of no use with verify: false"),
])
def test_a_section_that_makes_no_sense_is_refused(tmp_path, wrong, said):
    Authority(tmp_path).issue("gateway")
    with pytest.raises(InputError) as error:
        odd.fleet_of(["https://127.0.0.1:1"], gateway={"engine_tls": section(tmp_path, **wrong)})
    assert said in str(error.value)


def test_the_section_is_written_back(tmp_path):
    Authority(tmp_path).issue("gateway")
    fleet = odd.fleet_of(["https://127.0.0.1:1"], gateway={"engine_tls": section(tmp_path)})
    (tmp_path / "fleet.yaml").write_text(json.dumps(resolved(fleet)))
    assert load_fleet(tmp_path / "fleet.yaml").gateway == fleet.gateway


def test_another_section_needs_a_restart(tmp_path):
    Authority(tmp_path).issue("gateway")
    (tmp_path / "fleet.yaml").write_text("")
    notes = []

    async def run():
        async with odd.engine(odd.well) as url:
            changed = odd.fleet_of([url], gateway={"engine_tls": section(tmp_path)})
            reload = Reload(tmp_path / "fleet.yaml", lambda: changed, lambda _: LeastLoaded())
            async with odd.gateway([url], notes=notes, reload=reload):
                reload.asked.set()
                while not notes:
                    await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 60))
    assert notes == ["gateway.engine_tls has changed, which needs a restart of the gateway; the "
                     "gateway goes on with the fleet that it had"]
