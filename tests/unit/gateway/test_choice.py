"""A choice is among the engines that there are when it is made."""

import asyncio
from types import SimpleNamespace

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

import odd_engines as odd
from penstock.core.snapshot import QueuedWork, ReplicaSnapshot
from penstock.engine.live.metrics_text import EngineLoad
from penstock.engine.live.of_fleet import facts_of
from penstock.engine.parts import dispatch_of
from penstock.gateway.ask import read_ask
from penstock.gateway.choice import Chooser, Decision
from penstock.gateway.engines import Engines
from penstock.gateway.outlook import Outlook
from penstock.gateway.proxy import _within_budget
from penstock.gateway.server import offer_of

A, B, C = "http://a", "http://b", "http://c"


def test_a_tenant_is_not_told_of_single_requests_of_others() -> None:
    seen = ReplicaSnapshot(0, "m", 0.0, 1, 0, 9, 0, 100, None, queue=(QueuedWork(9, 9, 5.0),))
    decision = Decision("d", 0.0, "m", "chat", 3, 5, candidates={A: seen})
    assert decision.document()["candidates"][0]["queue"] == seen.queue
    assert decision.document(for_tenant=True)["candidates"][0]["queue"] == ()


@pytest.mark.parametrize(("path", "body", "limited"), [
    ("/v1/completions", {}, {"max_tokens"}),
    ("/v1/completions", {"max_completion_tokens": 9}, {"max_tokens", "max_completion_tokens"}),
    ("/v1/chat/completions", {"max_completion_tokens": 9}, {"max_completion_tokens"}),
    ("/v1/chat/completions", {"max_completion_tokens": 9, "max_tokens": 9},
     {"max_tokens", "max_completion_tokens"})])
def test_an_answer_is_no_longer_than_its_budget_pays_for(path, body, limited) -> None:
    exchange = SimpleNamespace(path=path, ask=SimpleNamespace(body=body),
                               decision=SimpleNamespace(answer_tokens=4))
    assert _within_budget(exchange) == dict.fromkeys(limited, 4)


@pytest.mark.parametrize("turns", [1, 2])
def test_a_fleet_that_changes_between_a_question_and_its_answer(turns) -> None:
    before, after = (odd.fleet_of(urls, **{"policies.route": "joint"})
                     for urls in ((A, B, C), (C, B)))
    engines = Engines(facts_of(before))
    for engine in engines:
        engine.observe(EngineLoad(), 0.0)
    ask = read_ask(orjson.dumps({"prompt": "x", "max_tokens": 5}), {}, offer_of(before))

    async def run():
        chooser = Chooser(engines, dispatch_of(before, lambda n: 0))
        decisions = [chooser.open(f"d{number}", ask, 0.0) for number in range(4)]
        requests = [await Outlook().request(number, 0.0, ask) for number in range(4)]
        tasks = [asyncio.create_task(chooser.choose(request, decision, ask, [], 0.0))
                 for request, decision in zip(requests, decisions, strict=True)]
        for _ in range(turns):
            await asyncio.sleep(0)
        engines.adopt(facts_of(after))
        chooser.use(dispatch_of(after, lambda n: 0))
        return zip(await asyncio.gather(*tasks), decisions, strict=True)

    for engine, decision in asyncio.run(run()):
        assert engine.facts.url in (B, C)
        assert decision.candidates.keys() == {B, C}
        assert {p.replica_id for p in decision.prospects} == {0, 1}
