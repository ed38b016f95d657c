"""A choice is among the engines that there are when it is made."""

import asyncio
from types import SimpleNamespace

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from penstock.core.disclosure import USUAL
from penstock.core.slo import ServiceClass
from penstock.core.snapshot import QueuedWork, ReplicaSnapshot
from penstock.engines.client.metrics_text import EngineLoad
from penstock.engines.client.of_fleet import facts_of
from penstock.engines.client.state import EngineFacts, EngineState, InFlight
from penstock.fleet.replica_factory import dispatch_of
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask import Offer, read_ask
from penstock.serving.gateway.choice import Chooser, Decision
from penstock.serving.gateway.confidential import ConfidentialCounts
from penstock.serving.gateway.engines import Engines
from penstock.serving.gateway.exchange import body_within_budget
from penstock.serving.gateway.forecasts import Forecasts
from penstock.serving.gateway.metrics import GatewayMetrics
from penstock.serving.gateway.server import offer_of
from support import misbehaving_engines as odd

A, B, C = "http://a", "http://b", "http://c"


def test_a_tenant_is_not_told_of_requests_of_others() -> None:
    seen = ReplicaSnapshot(0, "m", 0.0, 1, 0, 9, 0, 100, None, queue=(QueuedWork(9, 9, 5.0),))
    decision = Decision("d", 0.0, "m", "chat", 3, 5, candidates=(seen,), urls=(A,))
    assert decision.document()["candidates"][0]["queue"] == seen.queue
    assert decision.document_for_tenant({A: "replica 0"})["candidates"] == [
        {"replica": "replica 0", "model": "m"}]


@pytest.mark.parametrize("order", [1, -1])
def test_several_models_at_one_address_are_told_apart(order) -> None:
    engines = [EngineState(EngineFacts(number, A, model, None, 1000, 1.0)) for number, model in
               enumerate(("small", "large"))][::order]
    offer = Offer({"chat": ServiceClass("chat")}, {"small": 1000, "large": 1000})
    chooser, metrics = Chooser(engines, LeastLoaded()), GatewayMetrics(ConfidentialCounts(USUAL))

    def choose(**body):
        ask = read_ask(orjson.dumps({"prompt": "x", "max_tokens": 5, **body}), {}, offer)
        decision = chooser.open("d", ask, 0.0)

        async def run():
            request = await Forecasts().request(0, 0.0, ask)
            return await chooser.choose(request, decision, ask, [], 0.0)

        try:
            return asyncio.run(run()).facts.model, decision.document()["candidates"]
        except ServiceError as error:
            return str(error)

    assert choose(model="small").endswith(": replica 0 was never seen")
    metrics.show(engines, 0, 0.0, 0.0)
    assert b'engine_available{url="http://a"} 0.0' in metrics.text()
    for engine in engines:
        engine.observe(EngineLoad(), 0.0)
        engine.begin(7, InFlight(10))
    assert choose(model="large")[0] == "large"
    assert {seen["model"] for seen in choose(model="auto")[1]} == {"small", "large"}
    metrics.show(engines, 0, 0.0, 0.0)
    assert b'requests_in_flight{url="http://a"} 2.0' in metrics.text()
    metrics.show([], 0, 0.0, 0.0)
    assert b"http://a" not in metrics.text()


@pytest.mark.parametrize(("path", "body", "limited"), [
    ("/v1/completions", {}, {"max_tokens"}),
    ("/v1/completions", {"max_completion_tokens": 9}, {"max_tokens", "max_completion_tokens"}),
    ("/v1/chat/completions", {"max_completion_tokens": 9}, {"max_completion_tokens"}),
    ("/v1/chat/completions", {"max_completion_tokens": 9, "max_tokens": 9},
     {"max_tokens", "max_completion_tokens"})])
def test_an_answer_is_no_longer_than_its_budget_pays_for(path, body, limited) -> None:
    exchange = SimpleNamespace(path=path, ask=SimpleNamespace(body=body),
                               decision=SimpleNamespace(answer_tokens=4))
    assert body_within_budget(exchange) == dict.fromkeys(limited, 4)


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
        requests = [await Forecasts().request(number, 0.0, ask) for number in range(4)]
        tasks = [asyncio.create_task(chooser.choose(request, decision, ask, [], 0.0))
                 for request, decision in zip(requests, decisions, strict=True)]
        for _ in range(turns):
            await asyncio.sleep(0)
        engines.adopt(facts_of(after))
        chooser.use(dispatch_of(after, lambda n: 0))
        return zip(await asyncio.gather(*tasks), decisions, strict=True)

    for engine, decision in asyncio.run(run()):
        assert engine.facts.url in (B, C)
        assert set(decision.urls) == {B, C}
        assert {p.replica_id for p in decision.prospects} == {0, 1}
