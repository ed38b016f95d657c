"""Loading and unloading of adapters on engines that the tests invent."""

import asyncio
from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engines.client.metrics_text import EngineLoad, LoraLoad
from penstock.engines.client.state import EngineFacts, EngineState
from penstock.fleet.values_adapters import Adapter, LoraOptions
from penstock.serving.adapters.adapters import Adapters
from penstock.serving.adapters.claims import OneProcess
from penstock.serving.adapters.shelf import AdapterError


def engine(number=0, **lora):
    return EngineState(EngineFacts(number, f"http://e{number}", "m", None, 10_000, 1.0,
                                   lora=LoraOptions(**lora)))


class FakeCalls:
    """Engines that hold what they are told, and tell a law-breaking order."""

    def __init__(self, most=10):
        self.there: dict[str, OrderedDict[str, None]] = {}
        self.most, self.broken, self.orders, self.pause_s = most, set(), [], 0.0
        self.overfull = False
        self.tick = lambda: None  # a load takes time

    def of(self, engine):
        return self.there.setdefault(engine.facts.url, OrderedDict())

    async def load(self, engine, adapter):
        self.orders.append(("load", adapter.name))
        self.tick()
        await asyncio.sleep(self.pause_s)
        if adapter.name in self.broken:
            raise AdapterError(f"could not load {adapter.name}")
        self.of(engine)[adapter.served_name] = None
        self.overfull |= len(self.of(engine)) > self.most

    async def unload(self, engine, name):
        self.orders.append(("unload", name))
        await asyncio.sleep(self.pause_s)
        del self.of(engine)[name]

    async def listed(self, engine):
        return OrderedDict(self.of(engine))


def made(calls, *names, engines=()):
    offered = {name: Adapter(name, f"/adapters/{name}") for name in names}
    clock = [0.0]
    notes = []
    return (Adapters(engines, calls, offered, lambda: clock[0], notes.append, OneProcess()),
            offered, clock, notes)


def run(test):
    return asyncio.run(test())


def test_an_adapter_is_loaded_once_however_many_ask():
    async def test():
        calls, one = FakeCalls(), engine(max_loras=2)
        calls.pause_s = 0.001
        adapters, offered, _, _ = made(calls, "a")

        async def ask():
            async with adapters.held(one, offered["a"]):
                assert "a" in calls.of(one)

        await asyncio.gather(*(ask() for _ in range(20)))
        assert calls.orders == [("load", "a")]
        assert adapters.loaded(one) == ["a"]

    run(test)


def test_the_least_recently_used_makes_way_and_one_in_use_never():
    async def test():
        calls, one = FakeCalls(2), engine(max_loras=1, max_cpu_loras=2)
        adapters, offered, _, _ = made(calls, "a", "b", "c", "d")
        async with adapters.held(one, offered["a"]):
            async with adapters.held(one, offered["b"]):
                pass
            async with adapters.held(one, offered["c"]):
                assert set(calls.of(one)) == {"a", "c"}, "a is older, and in use"
        assert not calls.overfull

    run(test)


@pytest.mark.parametrize(("evict", "stay"), [("demand", {"a", "c"}), ("lru", {"b", "c"})])
def test_the_adapter_of_the_least_demand_makes_way(evict, stay):
    async def test():
        calls, one = FakeCalls(2), engine(max_loras=1, max_cpu_loras=2, evict=evict)
        adapters, offered, clock, _ = made(calls, "a", "b", "c")
        calls.tick = lambda: clock.__setitem__(0, clock[0] + 1.0)
        for name in ("a", "a", "a", "b", "c"):
            calls.tick()
            async with adapters.held(one, offered[name]):
                pass
        assert set(calls.of(one)) == stay

    run(test)


def test_where_all_are_in_use_one_makes_way_after_its_requests():
    async def test():
        calls, one = FakeCalls(1), engine(max_loras=1)
        adapters, offered, _, _ = made(calls, "a", "b")
        order, go_on = [], asyncio.Event()

        async def ask(name, *, waits=False):
            async with adapters.held(one, offered[name]):
                assert name in calls.of(one)
                order.append(name)
                if waits:
                    await go_on.wait()

        first = asyncio.create_task(ask("a", waits=True))
        await asyncio.sleep(0.01)
        others = [asyncio.create_task(ask("b"))]
        await asyncio.sleep(0.01)
        others += [asyncio.create_task(ask(name)) for name in "aab"]
        await asyncio.sleep(0.01)
        assert order == ["a"], "those that come for a now wait behind b"
        assert adapters.refusal(one, offered["b"]) is None
        go_on.set()
        await asyncio.gather(first, *others)
        assert order == ["a", "b", "b", "a", "a"]
        assert not calls.overfull

    run(test)


def test_an_adapter_that_stays_in_use_makes_no_way(monkeypatch):
    async def test():
        monkeypatch.setattr("penstock.serving.adapters.adapters._LEAVE_S", 0.01)
        calls, one = FakeCalls(1), engine(max_loras=1)
        adapters, offered, _, _ = made(calls, "a", "b")
        async with adapters.held(one, offered["a"]):
            with pytest.raises(AdapterError, match="its adapters are in use"):
                async with adapters.held(one, offered["b"]):
                    pass
            async with adapters.held(one, offered["a"]):
                assert list(calls.of(one)) == ["a"]

    run(test)


def test_what_cannot_be_loaded_again_is_not_unloaded():
    async def test():
        calls, one = FakeCalls(1), engine(max_loras=1)
        calls.of(one)["static"] = None
        adapters, offered, _, _ = made(calls, "a")
        static = Adapter("static")
        async with adapters.held(one, static):
            pass
        with pytest.raises(AdapterError, match="no room"):
            async with adapters.held(one, offered["a"]):
                pass
        assert adapters.refusal(one, static) is None
        with pytest.raises(AdapterError, match="states no path"):
            async with adapters.held(one, Adapter("other")):
                pass

    run(test)


def test_a_failure_is_told_and_not_tried_again_at_once():
    async def test():
        calls, one = FakeCalls(), engine(max_loras=2)
        calls.broken.add("a")
        adapters, offered, clock, notes = made(calls, "a")
        for expected_s, num in ((5.0, 1), (10.0, 2), (20.0, 3)):
            for _ in range(2):
                with pytest.raises(AdapterError, match="could not load a") as error:
                    async with adapters.held(one, offered["a"]):
                        pass
                assert error.value.after_s == expected_s
            assert len(calls.orders) == num
            assert "could not load a" in adapters.refusal(one, offered["a"])
            clock[0] += expected_s
        assert len(notes) == 3
        calls.broken.clear()
        assert adapters.refusal(one, offered["a"]) is None
        async with adapters.held(one, offered["a"]):
            pass

    run(test)


def test_a_client_that_leaves_does_not_stop_the_loading():
    async def test():
        calls, one = FakeCalls(), engine(max_loras=1)
        calls.pause_s = 0.01
        adapters, offered, _, _ = made(calls, "a")

        async def ask():
            async with adapters.held(one, offered["a"]):
                return len(calls.orders)

        first, second = asyncio.create_task(ask()), asyncio.create_task(ask())
        await asyncio.sleep(0.001)
        first.cancel()
        assert await second == 1
        with pytest.raises(asyncio.CancelledError):
            await first

    run(test)


def test_an_engine_that_came_back_is_asked_what_it_has():
    async def test():
        calls, one = FakeCalls(), engine(max_loras=2)
        adapters, offered, _, _ = made(calls, "a")
        async with adapters.held(one, offered["a"]):
            pass
        one.observe(EngineLoad(), 1.0)
        one.lost()
        calls.of(one).clear()
        async with adapters.held(one, offered["a"]):
            assert "a" in calls.of(one)
        adapters.missing(one, offered["a"])
        calls.of(one).clear()
        async with adapters.held(one, offered["a"]):
            assert "a" in calls.of(one)

    run(test)


def test_an_adapter_of_another_path_is_loaded_anew_after_its_requests():
    async def test():
        calls, one = FakeCalls(2), engine(max_loras=2)
        adapters, offered, _, _ = made(calls, "a", "b")
        newer = Adapter("a", "/adapters/a2")
        release = await adapters.hold(one, offered["a"])
        adapters.adopt({"a": newer, "b": offered["b"]})
        later = asyncio.create_task(adapters.hold(one, newer))
        await asyncio.sleep(0.01)
        assert not later.done(), "the former version is still in use"
        release()
        (await later)()
        assert calls.orders == [("load", "a"), ("unload", "a"), ("load", "a")]
        adapters.adopt({"a": newer, "b": offered["b"]})
        (await adapters.hold(one, newer))()
        assert len(calls.orders) == 3

    run(test)


def test_an_adapter_that_is_no_longer_offered_makes_way():
    async def test():
        calls, one = FakeCalls(1), engine(max_loras=1)
        adapters, offered, _, _ = made(calls, "a", "b")
        (await adapters.hold(one, offered["a"]))()
        adapters.adopt({"b": offered["b"]})
        (await adapters.hold(one, offered["b"]))()
        assert adapters.loaded(one) == ["b"]
        adapters.adopt({"b": Adapter("b")})  # the engines have it from their start now
        with pytest.raises(AdapterError, match="no room"):
            await adapters.hold(one, Adapter("c", "/c"))

    run(test)


def test_requests_go_where_the_adapter_is_near():
    async def test():
        calls = FakeCalls()
        engines = [engine(number, max_loras=1, max_cpu_loras=2) for number in range(3)]
        adapters, offered, _, _ = made(calls, "a", "b", engines=engines)

        def chosen(name):
            return [one.facts.replica_id for one in adapters.near(
                engines, [one.snapshot(0.0) for one in engines], offered[name], 100)]

        assert chosen("a") == [0, 1, 2]
        async with adapters.held(engines[1], offered["a"]):
            assert chosen("a") == [1], "active"
            assert chosen("b") == [0, 2], "a slot is free"
        assert chosen("a") == [1], "loaded"
        async with adapters.held(engines[0], offered["a"]):
            assert chosen("a") == [0]
        engines[0].observe(EngineLoad(lora=LoraLoad(frozenset({"x"}), frozenset({"b"}))), 0.0)
        engines[2].observe(EngineLoad(lora=LoraLoad(frozenset({"x"}), frozenset())), 0.0)
        assert chosen("b") == [1]
        engines[1].observe(EngineLoad(lora=LoraLoad(frozenset({"y"}), frozenset())), 0.0)
        assert chosen("b") == [0], "its requests wait there"

    run(test)


def test_a_popular_adapter_spreads():
    async def test():
        calls = FakeCalls()
        engines = [engine(number, max_loras=2) for number in range(2)]
        adapters, offered, _, _ = made(calls, "a", engines=engines)
        async with adapters.held(engines[0], offered["a"]):
            snapshots = [one.snapshot(0.0) for one in engines]
            busy = [snapshots[0].replace(queued_prompt_tokens=50_000), snapshots[1]]
            assert adapters.near(engines, busy, offered["a"], 100) == [engines[1]]

    run(test)


ORDERS = st.lists(st.tuples(st.sampled_from("abcde"), st.booleans(), st.booleans()), max_size=30)


@given(ORDERS, st.sets(st.sampled_from("abcde"), max_size=2), st.integers(1, 3), st.data())
@settings(max_examples=60)
def test_laws(orders, broken, room, data):
    """A held adapter is loaded as long as it is held; no engine has more than its room; every
    request is held or told why not; nothing stays in use."""
    async def test():
        calls, one = FakeCalls(room), engine(max_loras=room)
        calls.broken = broken
        adapters, offered, _, _ = made(calls, *"abcde")
        outcomes = []

        async def ask(name, *, long, leaves):
            try:
                async with adapters.held(one, offered[name]):
                    for _ in range(5 if long else 1):
                        assert name in calls.of(one)
                        await asyncio.sleep(0)
                outcomes.append("held")
            except AdapterError:
                outcomes.append("refused")
            except asyncio.CancelledError:
                outcomes.append("left")
                raise

        tasks = []
        for name, long, leaves in orders:
            tasks.append(asyncio.create_task(ask(name, long=long, leaves=leaves)))
            for _ in range(data.draw(st.integers(0, 4))):
                await asyncio.sleep(0)
            if leaves:
                tasks[-1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not calls.overfull
        assert len(outcomes) <= len(tasks)
        assert not [task for task in tasks if not task.cancelled() and task.exception()]
        assert not adapters._shelf(one).users
        assert not adapters._shelf(one).wanted
        if not broken:
            assert "refused" not in outcomes

    asyncio.run(test())
