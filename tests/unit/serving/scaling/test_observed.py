"""Observations through Prometheus: what is seen, what is missing, and what the loop makes of it."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from penstock.core.slo import ServiceClass
from penstock.fleet.values_observe import PrometheusOptions
from penstock.policy.scale.protocol import GroupFacts
from penstock.policy.scale.values import Gauges
from penstock.serving.scaling.loop import LiveScaling
from penstock.serving.scaling.observed import DOWN_S, ObservedGroup, PrometheusSource
from penstock.serving.scaling.prometheus import Prometheus
from penstock.serving.scaling.remote import WebhookGroup
from support.fake_prometheus import FakePrometheus, engine_samples, matrix_sample
from support.scaled_loop import Record, Scripted

FACTS = GroupFacts("m", 1, 8, 1, 2.0, 60.0, 1000)


class World:
    """A source over the fake server, whose clock is that of the loop, with ``posted`` orders."""

    def __init__(self, *, webhook=False, arrivals=None, models=("m",), may_begin_empty=False):
        self.now_s = 1000.0
        self.notes, self.posted = [], []
        self.fake = FakePrometheus(clock=lambda: self.now_s)
        self.webhook = webhook
        self.options = PrometheusOptions("http://p", arrivals=arrivals)
        self.observed = [ObservedGroup(model, lambda: self.now_s, may_begin_empty=may_begin_empty)
                         for model in models]

    def run(self, script):
        """Run a coroutine with the source and its groups."""
        async def receive(request):
            self.posted.append((await request.json())["replicas"])
            return web.Response()

        async def run():
            app = web.Application()
            app.router.add_post("/scale", receive)
            runner = web.AppRunner(app)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/scale"
            async with self.fake.server() as at, aiohttp.ClientSession() as session:
                self.groups = [WebhookGroup(one, lambda: self.now_s, session, url, {"model": "m"},
                                            {}, self.notes.append) if self.webhook else one
                               for one in self.observed]
                self.source = PrometheusSource(
                    Prometheus(session, at, {}), self.options, self.groups, self.observed,
                    ServiceClass("chat"), [one.model for one in self.observed],
                    lambda: self.now_s, self.notes.append)
                try:
                    return await script()
                finally:
                    await runner.cleanup()

        return asyncio.run(run())

    async def look(self, *engines, after_s=10.0):
        """Read these engines' series, and return what is seen."""
        self.now_s += after_s
        self.fake.engines = [sample for one in engines
                             for sample in engine_samples(**{"at_s": self.now_s - 4.0, **one})]
        await self.source.read()
        return self.source.seen(1000.0, self.now_s)


def test_replicas_gauges_and_demand_come_from_the_series():
    world = World()

    async def script():
        await world.look({"pod": "a"}, {"pod": "b", "finished": 50})
        return await world.look({"pod": "a", "finished": 4, "running": 3},
                                {"pod": "b", "finished": 52, "running": 2, "waiting": 5, "kv": 0.7})

    seen = world.run(script)
    group, (demand,) = seen.groups[0], seen.demand
    assert (seen.observed_s, group.target, group.totals.num_finished) == (20.0, 2, 6)
    assert [(one.state, one.observed_s) for one in group.replicas] == [("ready", 16.0)] * 2
    assert group.replicas[1].gauges == Gauges(2, 5, 0.7)
    assert (demand.num_arrived, demand.num_finished, demand.recent) == (16, 6, ((100, 10),))
    assert (demand.model, demand.service_class) == ("m", "chat")
    assert world.source.problem is None
    assert world.notes == []


async def unwell(_):
    return web.Response(status=503)


@pytest.mark.parametrize(("change", "said"), [
    (lambda fake: setattr(fake, "answer", unwell), "status 503"),
    (lambda fake: fake.engines.clear(), "no series of engines of m"),
    (lambda fake: fake.engines.__delitem__(3), "no counter of finished requests of m"),
    (lambda fake: fake.engines.__delitem__(0), "no counter of finished requests of m"),
    (lambda fake: setattr(fake, "clock", lambda: 1.0), "time that does not go on")])
def test_what_is_missing_is_told_once_and_the_replicas_stay(change, said):
    world = World()

    async def script():
        first = await world.look({"pod": "a", "running": 1})
        sound = world.fake.engines, world.fake.clock
        found = []
        for _ in range(2):
            world.now_s += 10.0
            world.fake.engines = list(sound[0])
            change(world.fake)
            await world.source.read()
            found.append(world.source.seen(1000.0, world.now_s))
        world.fake.answer, world.fake.clock = None, sound[1]
        return first, found, await world.look({"pod": "a", "running": 1})

    first, found, last = world.run(script)
    assert first.demand is not None
    for one in found:
        assert one.demand is None
        assert (one.groups[0].target, one.groups[0].totals) == (1, None)
        assert [(r.state, r.gauges, r.observed_s) for r in one.groups[0].replicas] == [
            ("ready", None, None)]
    assert last.demand is not None
    assert len(world.notes) == 2, world.notes
    assert said in world.notes[0]
    assert "metrics are missing, and the number of replicas stays" in world.notes[0]
    assert world.notes[1].endswith("metrics are back")


def test_before_the_first_reading_nothing_is_known_and_nothing_is_decided():
    world = World(webhook=True)
    scaler, record = Scripted(1), Record()

    async def script():
        loop = LiveScaling(scaler, [FACTS], world.groups, world.source, record,
                           lambda: world.now_s, lambda: 1e9, advise=False)
        world.fake.answer = unwell
        await loop.decide()
        assert (loop.num_decisions, loop.problem) == (0, "answers with status 503, and not with a "
                                                         "result")
        world.fake.answer = None
        world.fake.engines = engine_samples("a", at_s=world.now_s)
        await loop.decide()
        return loop.num_decisions

    assert world.run(script) == 1
    assert scaler.seen[0][0].groups[0].target == 1


def test_orders_by_webhook_count_as_starting_until_they_are_scraped():
    world = World(webhook=True)

    async def script():
        await world.look({"pod": "a"})
        world.groups[0].order(3)
        await world.groups[0].tend()
        more = await world.look({"pod": "a"}, {"pod": "b"})
        gone = await world.look({"pod": "b"})
        return more, gone

    more, gone = world.run(script)
    assert world.posted == [3]
    assert (more.groups[0].target, more.groups[0].num_ready) == (3, 2)
    assert [one.state for one in more.groups[0].replicas] == ["ready", "ready", "starting"]
    assert (gone.groups[0].target, gone.groups[0].num_ready, gone.groups[0].num_ordered) == (3, 1,
                                                                                            3)
    assert gone.groups[0].replicas[0].replica_id == 1


@pytest.mark.parametrize("arrivals", [None, "gateway_total"])
def test_a_replica_that_cannot_be_scraped_hides_demand_for_a_while(arrivals):
    world = World(arrivals=arrivals)

    async def script():
        world.fake.arrivals = [matrix_sample({"__name__": "gateway_total"}, 9, 0.0)]
        await world.look({"pod": "a"}, {"pod": "b"})
        world.fake.down = [{"pod": "b"}, {"pod": "other"}]
        soon = await world.look({"pod": "a"})
        return soon, await world.look({"pod": "a"}, after_s=DOWN_S)

    soon, late = world.run(script)
    assert (soon.demand is None) == (arrivals is None)
    assert [one.state for one in late.groups[0].replicas] == ["ready", "starting"]
    assert late.demand is not None
    assert late.groups[0].target == 2


def test_arrivals_are_those_of_the_stated_counter_and_missing_without():
    world = World(arrivals="gateway_total")

    async def script():
        found = []
        for value in (100, 130, None):
            world.fake.arrivals = [] if value is None else [
                matrix_sample({"__name__": "gateway_total"}, value, 0.0)]
            found.append(await world.look({"pod": "a"}))
        return found

    first, second, third = world.run(script)
    assert (first.demand[0].num_arrived, second.demand[0].num_arrived) == (0, 30)
    assert third.demand is None
    assert "no counter of arrivals of m" in world.notes[0]


def test_a_fleet_at_zero_is_seen_by_the_counter_of_arrivals():
    world = World(webhook=True, arrivals="gateway_total", may_begin_empty=True)

    async def script():
        world.fake.arrivals = [matrix_sample({"__name__": "gateway_total"}, 5, 0.0)]
        await world.look()
        world.fake.arrivals = [matrix_sample({"__name__": "gateway_total"}, 8, 0.0)]
        found = await world.look()
        world.groups[0].order(1)
        return found, await world.look()

    found, ordered = world.run(script)
    assert (found.groups[0].target, found.demand[0].num_arrived) == (0, 3)
    assert ordered.demand is None, "an engine is ordered, and none is scraped"


def test_groups_are_told_apart_by_their_model():
    world = World(models=("m", "n"))

    async def script():
        return await world.look({"pod": "a"}, {"pod": "b", "model": "n", "running": 2})

    seen = world.run(script)
    assert [group.num_ready for group in seen.groups] == [1, 1]
    assert [(one.model, one.num_arrived) for one in seen.demand] == [("m", 0), ("n", 2)]


def test_a_missing_gauge_is_missing_for_its_replica_alone():
    world = World()

    async def script():
        return await world.look({"pod": "a", "kv": None}, {"pod": "b", "kv": "NaN"}, {"pod": "c"})

    replicas = world.run(script).groups[0].replicas
    assert [one.gauges is None for one in replicas] == [True, True, False]


def test_a_new_replica_never_has_the_number_of_another() -> None:
    group = ObservedGroup("m", lambda: 0.0)
    group.see(["a", "b"], [])
    assert [one.number for one in group.replicas()] == [0, 1]
    group.see(["b", "c"], [])
    assert [one.number for one in group.replicas()] == [1, 2]
