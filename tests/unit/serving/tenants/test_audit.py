"""The audit log: who administered, what, with which outcome, and no secret."""

import asyncio
import json
import os
import secrets
import stat

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.core.errors import InputError
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.reload import Reload
from penstock.serving.gateway.running import Access, running
from penstock.serving.planning.deployments import part as deployments_part
from penstock.serving.tenants.administration import list_entries
from penstock.serving.tenants.audit import AuditFile, AuditLog
from penstock.serving.tenants.audit_entry import audit_entry
from penstock.serving.tenants.keys import new_key
from penstock.serving.tenants.store import open_store
from support import misbehaving_engines as odd


class Deployments:
    """A controller that removes anything."""

    async def call(self, verb, name, order):
        return {"verb": verb, "name": name}


async def administered(session, engine, text=None):
    """The statuses of acts, and of attempts without the right."""
    headers = {"Authorization": f"Bearer {text}"} if text else {}
    statuses = []
    for method, path, body in (
            ("POST", "/v1/penstock/engines/drain", {"url": engine}),
            ("POST", "/v1/penstock/engines/drain", {"url": engine, "drain": False}),
            ("POST", "/v1/penstock/engines/drain", {"url": "http://CANARY@nowhere"}),
            ("GET", "/v1/penstock/spend", None), ("GET", "/v1/penstock/status", None),
            ("POST", "/v1/deployments/mine/remove", {}), ("GET", "/v1/deployments", None)):
        async with session.request(method, path, json=body, headers=headers) as answer:
            statuses.append(answer.status)
    return statuses


def through(tmp_path, work, access, **overrides):
    async def run():
        notes = []
        async with odd.engine(odd.well) as engine:
            fleet = odd.fleet_of([engine], **overrides)
            file = tmp_path / "fleet.yaml"
            file.write_text("")
            reload = Reload(file, lambda: fleet, lambda _: LeastLoaded())
            async with running(fleet, LeastLoaded(), "127.0.0.1", 0, limits=Limits(), access=access,
                               reload=reload, on_bug=notes.append,
                               beside=[deployments_part(Deployments())]) as (url, _), \
                    aiohttp.ClientSession(url) as session:
                found = await work(session, engine)
                reload.asked.set()
                while not any("was read again" in note for note in notes):
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)
                return found, engine

    return asyncio.run(asyncio.wait_for(run(), 60))


def acts(entries, engine):
    return [tuple(text.replace(engine, "ENGINE") for text in (one.action, one.target, one.outcome))
            for one in entries]


EXPECTED = [
    ("drain", "ENGINE", "done"), ("drain", "ENGINE (undone)", "done"),
    ("drain", "", "refused: not_found"), ("read spending", "all tenants", "done"),
    ("remove a deployment", "mine", "done")]


def test_who_administers_with_a_key_stands_in_the_ledger(tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    store = open_store(url)
    text, key = new_key("", 0.0, secrets.token_bytes, admin=True)
    shops, other = new_key("shop", 0.0, secrets.token_bytes)
    store.add_key(key)
    store.add_key(other)

    async def work(session, engine):
        assert await administered(session, engine, shops) == [403, 403, 403, 200, 403, 403, 403]
        return await administered(session, engine, text)

    statuses, engine = through(tmp_path, work, Access(url))
    assert statuses == [200, 200, 404, 200, 200, 202, 200]
    entries = store.transact(list_entries)
    store.close()
    assert acts(entries, engine)[:-1] == EXPECTED
    assert [(one.key_id, one.peer) for one in entries[:-1]] == [(key.key_id, "127.0.0.1")] * 5
    reload = entries[-1]
    assert (reload.action, reload.outcome, reload.key_id) == ("reload", "done", "")
    assert reload.target.endswith("fleet.yaml")
    for path in tmp_path.iterdir():
        for secret in (text.split("-", 2)[2], "CANARY"):
            assert secret.encode() not in path.read_bytes()


def test_a_keyless_gateway_writes_a_file_of_its_owners_alone(tmp_path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text("")
    path.chmod(0o644)
    statuses, engine = through(tmp_path, administered, Access(audit_file=AuditFile(path)))
    assert statuses == [200, 200, 404, 200, 200, 202, 200]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = [tuple(str(line[name]).replace(engine, "ENGINE")
                   for name in ("action", "target", "outcome")) for line in lines]
    assert found[:-1] == EXPECTED
    assert all(line["peer"] == "127.0.0.1" and line["at_s"] > 0 for line in lines[:-1])
    assert lines[-1]["action"] == "reload"
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_entry_is_printable_and_short() -> None:
    entry = audit_entry(1.0, "k", "act\n", "evil\u202e\x1b[2J" + "x" * 999, "done", "::1")
    assert entry.action == "act?"
    assert entry.target.startswith("evil??[2Jxxx")
    assert len(entry.target) == 200


def test_a_file_that_cannot_be_written_is_refused_at_the_start_and_told_of_later(tmp_path) -> None:
    with pytest.raises(InputError, match=r"--audit .*: cannot be written"):
        AuditFile(tmp_path / "no" / "file")
    folder = tmp_path / "there"
    folder.mkdir()
    file, notes = AuditFile(folder / "audit"), []
    (folder / "audit").unlink()
    folder.rmdir()
    asyncio.run(AuditLog(None, file, lambda: 1.0, notes.append).add("k", "drain", "e", "done", "p"))
    assert len(notes) == 1
    assert "the audit file cannot be written" in notes[0]
    assert "action='drain'" in notes[0]
