"""The gateway makes the simulation's routing decisions when it is shown the same snapshots.

A simulation is recorded: every request, the snapshots that the router was shown, what it chose, and
what it was told afterwards. The gateway's chooser is then shown the same, with a router made anew.
"""

import asyncio
from typing import Any

import numpy as np
import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.engines.client.state import EngineFacts, EngineState
from penstock.fleet.load import parse_fleet
from penstock.fleet.replica_factory import dispatch_of
from penstock.fleet.sources import fleet_workload
from penstock.serving.gateway.ask import CLASS_HEADER, Offer, read_ask
from penstock.serving.gateway.choice import Chooser
from penstock.sim import simulation
from support.small_fleet import FLEET

ROUTERS = ["round_robin", "random", "least_loaded", "two_choices", "shortest_queue",
           "fewest_waiting", "free_kv", "predictive", "joint"]


class Recording:
    """A router that notes what it is asked and told, in order."""

    def __init__(self, router: Any) -> None:
        self.router = router
        self.looks_into_queues = router.looks_into_queues
        self.learns = router.learns
        self.records: list[tuple[str, Any, Any, float, Any]] = []

    def route(self, request: Any, replicas: Any, now_s: float) -> Any:
        found = self.router.route(request, replicas, now_s)
        self.records.append(("route", request, tuple(replicas), now_s, found))
        return found

    def ended(self, departure: Any) -> None:
        self.router.ended(departure)
        self.records.append(("ended", departure, None, 0.0, None))


class Shown(EngineState):
    """An engine that looks as it is told to."""

    seen: Any = None

    def unavailable(self, now_s: float) -> str | None:
        return None if self.seen is not None else "is not a candidate"

    def snapshot(self, now_s: float = 0.0, **_: Any) -> Any:
        return self.seen


def draw():
    rng = np.random.default_rng(7)
    return lambda n: int(rng.integers(n))


def recorded(fleet, monkeypatch):
    """What the simulation asked its router, with one of a known random source."""
    kept: list[Recording] = []

    def make(of_fleet, _draw, **more):
        kept.append(Recording(dispatch_of(of_fleet, draw(), **more)))
        return kept[-1]

    monkeypatch.setattr(simulation, "dispatch_of", make)
    result = simulation.simulate(fleet, fleet_workload(fleet))
    return kept[0].records, result


@pytest.mark.parametrize("name", ROUTERS)
def test_the_gateway_chooses_as_the_simulation_did(name, monkeypatch) -> None:
    fleet = parse_fleet(FLEET, overrides={
        "replicas": [{"count": 3}], "policies.route": name, "traffic[0].rate_per_s": 30,
        "traffic[0].num_requests": 300, "accelerators[0].count": 8, "run.beliefs": "exact"})
    records, result = recorded(fleet, monkeypatch)
    router = dispatch_of(fleet, draw())
    engines = [Shown(EngineFacts(
        replica_id=index, url=f"http://engine-{index}", model="llama-3-8b", service_classes=None,
        kv_total_tokens=1 << 30, speed=1.0)) for index in range(3)]
    offer = Offer({one.name: one for one in fleet.service_classes}, {"llama-3-8b": 8192})
    chooser = Chooser(engines, router)
    chosen, simulated = [], []
    for kind, what, snapshots, now_s, route in records:
        if kind == "ended":
            router.ended(what)
            continue
        for engine in engines:
            engine.seen = next((one for one in snapshots
                                if one.replica_id == engine.facts.replica_id), None)
        body = {"model": what.model, "prompt": [1] * what.prompt_tokens,
                "max_tokens": what.max_tokens}
        ask = read_ask(orjson.dumps(body), {CLASS_HEADER: what.service_class.name}, offer)
        assert (ask.prompt_tokens, ask.service_class) == (what.prompt_tokens, what.service_class)
        decision = chooser.open(f"decision-{len(chosen)}", ask, now_s)
        engine = asyncio.run(chooser.choose(what, decision, ask, [], now_s))
        chosen.append(engine.facts.replica_id)
        simulated.append(route.replica_id)
        assert decision.terms == dict(route.terms)
    assert len(chosen) == 300
    assert chosen == simulated == result.table.replica.tolist()
    assert len(set(chosen)) == 3, "a trace that takes all replicas says more"
