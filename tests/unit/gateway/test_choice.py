"""A choice is among the engines that there are when it is made."""

import asyncio

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

import odd_engines as odd
from penstock.engine.live.metrics_text import EngineLoad
from penstock.engine.live.of_fleet import facts_of
from penstock.engine.parts import dispatch_of
from penstock.gateway.ask import read_ask
from penstock.gateway.choice import Chooser
from penstock.gateway.engines import Engines
from penstock.gateway.outlook import Outlook
from penstock.gateway.server import offer_of

A, B, C = "http://a", "http://b", "http://c"


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
