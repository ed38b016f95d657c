"""A gateway that asks its engines for evidence: a challenge each time, and what follows from it."""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from functools import partial

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("jwt", reason="the extra 'attest' is not installed")

import aiohttp
from aiohttp import web

from penstock.attest.signed import Device
from penstock.attest.values import Challenge, Rules
from penstock.core.attestation import attestation_violation
from penstock.core.errors import InputError
from penstock.engines.client.state import EngineFacts, EngineState, EvidencePlace
from penstock.fleet.load import parse_fleet
from penstock.serving.attest.agent import agent
from penstock.serving.attest.evidence import EvidenceWatcher
from support import misbehaving_engines as odd
from support.nvidia_evidence import NONCE, NOW_S, Nras, Signer
from support.small_fleet import FLEET

SECRET = {"X-Penstock-Confidential": "true"}


class Agent:
    """What stands beside an engine and answers challenges; ``make`` gives evidence for a nonce."""

    def __init__(self, make) -> None:
        self.make = make
        self.nonces: list[str] = []
        self.status = 200

    @asynccontextmanager
    async def listening(self):
        async def answer(request):
            self.nonces.append(request.query["nonce"])
            return web.Response(status=self.status, body=self.make(request.query["nonce"]))

        app = web.Application()
        app.router.add_get("/attestation", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/attestation"
        finally:
            await runner.cleanup()


class Watched:
    """One engine, a watcher of its evidence, and clocks that are moved by hand."""

    def __init__(self, session, rules, source, nonce=None, devices=("GPU-1",)) -> None:
        self.now_s = 0.0
        self.notes: list[str] = []
        self.engine = EngineState(EngineFacts(
            0, "http://engine", "m", None, 1000, 1.0, confidential=True,
            evidence=EvidencePlace(source, nonce, devices)))
        self.watcher = EvidenceWatcher([self.engine], rules, session, lambda: NOW_S + self.now_s,
                                       lambda: self.now_s, self.notes.append)

    async def at(self, now_s: float) -> str | None:
        """Why no confidential request may go there at that time, after evidence was asked for."""
        self.now_s = now_s
        await self.watcher.look()
        found = attestation_violation(self.engine.confidentiality, NOW_S + now_s)
        return None if found is None else str(found)


def watched(work, rules, make=None, **settings):
    """What ``work`` makes of an engine and its agent."""
    async def run():
        agent = Agent(make)
        async with agent.listening() as url, aiohttp.ClientSession() as session:
            return await work(Watched(session, rules, settings.pop("source", url), **settings),
                              agent)

    return asyncio.run(run())


@pytest.fixture
def signer(tmp_path) -> Signer:
    return Signer(tmp_path)


def test_evidence_is_asked_for_with_a_new_challenge_whenever_it_is_due(signer) -> None:
    rules = Rules("test", str(signer.keys_path), max_age_s=100.0, renew_s=50.0)

    async def work(one, agent):
        agent.make = lambda nonce: signer.sign("GPU-1", nonce=nonce, now_s=NOW_S + one.now_s)
        found = [await one.at(now_s) for now_s in (0, 1, 49, 50, 51, 149.0)]
        assert len(agent.nonces) == len(set(agent.nonces)) == 3
        assert all(len(nonce) == 64 for nonce in agent.nonces)
        assert one.notes == ["engine http://engine: attested"]
        return found

    assert watched(work, rules) == [None] * 6


def test_evidence_that_ends_before_it_is_due_again_is_asked_for_in_time(signer) -> None:
    rules = Rules("test", str(signer.keys_path), renew_s=600.0)

    async def work(one, agent):
        agent.make = lambda nonce: signer.sign("GPU-1", nonce=nonce, now_s=NOW_S + one.now_s,
                                               valid_s=60)
        found = [await one.at(now_s) for now_s in (0, 29, 30, 59, 60, 89)]
        assert len(agent.nonces) == 3
        return found

    assert watched(work, rules) == [None] * 6


def test_an_old_answer_does_not_pass_for_a_new_one(signer) -> None:
    async def work(one, agent):
        old = []
        agent.make = lambda nonce: old[0] if old else (
            old.append(signer.sign("GPU-1", nonce=nonce)) or old[0])
        assert await one.at(0) is None
        return await one.at(20)

    rules = Rules("test", str(signer.keys_path), renew_s=10.0)
    assert "has no attestation (its evidence answers another challenge" in watched(work, rules)


def test_an_agent_that_is_silent_leaves_what_was_shown_until_it_ends(signer) -> None:
    rules = Rules("test", str(signer.keys_path), max_age_s=60.0, renew_s=30.0)

    async def work(one, agent):
        agent.make = lambda nonce: signer.sign("GPU-1", nonce=nonce, now_s=NOW_S + one.now_s)
        found = [await one.at(0)]
        agent.status = 503
        found += [await one.at(now_s) for now_s in (30, 59, 60)]
        agent.status = 200
        return [*found, await one.at(66)], one.notes

    found, notes = watched(work, rules)
    assert found[:3] == [None] * 3
    assert "expired (0 s ago; its evidence cannot be had" in found[3]
    assert "status 503" in found[3]
    assert found[4] is None
    assert len(notes) == 3


@pytest.mark.parametrize(("device", "said"), [
    (Device("GPU-1", debug="enabled"), "debug of 'GPU-1' is 'enabled'"),
    (Device("GPU-1", mode="devtools"), "mode 'devtools', not confidential"),
    (Device("GPU-7"), "is of another device, 'GPU-7'")])
def test_bad_evidence_takes_away_at_once_what_was_shown_before(signer, device, said) -> None:
    rules = Rules("test", str(signer.keys_path), renew_s=10.0)

    async def work(one, agent):
        agent.make = lambda nonce: signer.sign(device if one.now_s else "GPU-1", nonce=nonce)
        assert await one.at(0) is None
        return await one.at(10), await one.at(12), len(agent.nonces)

    first, second, asked = watched(work, rules)
    assert said in first
    assert second == first
    assert asked == 2, "it is asked again, but not at once"


def test_evidence_in_a_file_answers_the_challenge_that_is_written_beside_it(signer,
                                                                            tmp_path) -> None:
    path = tmp_path / "evidence.json"
    path.write_bytes(signer.sign("GPU-1", valid_s=100))
    rules = Rules("test", str(signer.keys_path), renew_s=10.0)

    async def work(one, agent):
        found = [await one.at(0), await one.at(101)]
        path.write_bytes(signer.sign("GPU-1", now_s=NOW_S + 105))
        found.append(await one.at(110))
        path.unlink()
        return [*found, await one.at(120), agent.nonces]

    found = watched(work, rules, source=str(path), nonce=NONCE)
    assert found[0] is None
    assert "no attestation (its evidence expired 1 s ago)" in found[1]
    assert found[2:] == [None, None, []]


def test_bundles_of_nvidia_are_asked_for_in_the_same_way(tmp_path) -> None:
    nras = Nras(tmp_path)
    rules = Rules("nvidia", str(nras.keys_path))

    async def work(one, agent):
        agent.make = lambda nonce: json.dumps(nras.bundle(
            nras.device("GPU-1", nonce=nonce), nonce=nonce)).encode()
        return await one.at(1)

    assert watched(work, rules) is None


def test_other_rules_judge_anew(signer, tmp_path) -> None:
    rules = Rules("test", str(signer.keys_path))
    strict = Rules("test", str(signer.keys_path), reference={"vbios": ("9",)})

    async def work(one, agent):
        agent.make = lambda nonce: signer.sign("GPU-1", nonce=nonce)
        assert await one.at(0) is None
        one.watcher.adopt(rules)
        assert attestation_violation(one.engine.confidentiality, NOW_S) is None
        one.watcher.adopt(strict)
        assert "not verified by the present rules" in str(
            attestation_violation(one.engine.confidentiality, NOW_S))
        assert "vbios is null" in await one.at(1)
        one.watcher.adopt(None)
        return await one.at(2)

    assert "has no attestation" in watched(work, rules)


def test_keys_that_cannot_be_read_stop_a_gateway_from_starting(tmp_path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text("{}")

    async def run():
        async with odd.gateway(["http://127.0.0.1:9"], attestation={
                "verifier": "test", "keys": str(keys)}):
            pass

    with pytest.raises(InputError, match=r"keys\.json: is not a JSON Web Key Set"):
        asyncio.run(run())


def test_from_evidence_to_an_answer(signer) -> None:
    """The whole way: an engine, its agent, a gateway, a client."""
    agent = Agent(None)

    async def reply(_):
        return web.json_response({"choices": [{"text": "x", "finish_reason": "stop"}],
                                  "usage": {"prompt_tokens": 1, "completion_tokens": 1}})

    def made(device, nonce):
        return signer.sign(device, nonce=nonce, now_s=time.time())

    async def run():
        outcomes = []
        async with odd.engine(reply) as engine, agent.listening() as url:
            for device in (Device("GPU-1"), Device("GPU-1", debug="enabled")):
                agent.make = partial(made, device)
                async with odd.gateway([engine], accelerators=[
                        {"name": "h100-80gb", "count": 4, "confidential": True}], replicas=[
                            {"count": 1, "endpoints": [engine], "attestation": {
                                "evidence": [url], "devices": [["GPU-1"]]}}], attestation={
                                    "verifier": "test", "keys": str(signer.keys_path)}) as (
                                        at, _), aiohttp.ClientSession(at) as session:
                    for headers in ({}, SECRET):
                        async with session.post("/v1/completions", headers=headers, json={
                                "prompt": "x", "max_tokens": 2}) as answer:
                            outcomes.append((answer.status, await answer.text()))
        return outcomes

    outcomes = asyncio.run(run())
    assert [status for status, _ in outcomes] == [200, 200, 200, 503]
    assert "debug of 'GPU-1' is 'enabled'" in outcomes[-1][1]


def test_a_fleet_s_engines_are_asked_once_for_a_person(signer, tmp_path) -> None:
    from penstock.serving.attest.evidence import attestation_status

    path = tmp_path / "evidence.json"
    path.write_bytes(signer.sign("GPU-1", now_s=time.time()))
    fleet = parse_fleet(FLEET, overrides={
        "accelerators": [{"name": "h100-80gb", "count": 4, "confidential": True}],
        "attestation": {"verifier": "test", "keys": str(signer.keys_path)},
        "replicas": [{"count": 2, "endpoints": ["http://a", "http://b"], "attestation": {
            "evidence": [str(path)] * 2, "nonce": NONCE, "devices": [["GPU-1"], ["GPU-2"]]}}]})
    first, second = asyncio.run(attestation_status(fleet))
    assert first == ("http://a", None)
    assert second[0] == "http://b"
    assert "is of another device, 'GPU-1'" in str(second[1])


@pytest.mark.parametrize(("query", "status", "said"), [
    ({"nonce": "ab" * 32}, 200, "penstock-test-evidence-1"), ({}, 400, "expected 16 to 64 bytes"),
    ({"nonce": "xy" * 32}, 400, "hexadecimal"), ({"nonce": "ab" * 65}, 400, "16 to 64"),
    ({"nonce": "fa" * 16}, 503, "no hardware today")])
def test_the_agent_answers_challenges_and_says_what_is_none(signer, query, status, said) -> None:
    def make(nonce):
        if nonce == "fa" * 16:
            raise InputError("no hardware today")
        return signer.sign("GPU-1", nonce=nonce, now_s=time.time())

    async def run():
        async with agent(make, "127.0.0.1", 0, bugs.append) as url, \
                aiohttp.ClientSession() as session, session.get(url, params=query) as answer:
            return answer.status, await answer.text()

    bugs: list[str] = []
    found, text = asyncio.run(run())
    assert (found, bugs) == (status, [])
    assert said in text
    if status == 200:
        assert signer.verifier().verify(text.encode(), Challenge("ab" * 32, ("GPU-1",)),
                                        time.time())
