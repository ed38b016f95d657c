"""The live loop: what is seen, ordered and recorded."""

import asyncio

import pytest

from penstock.engines.client.metrics_text import EngineLoad
from penstock.policy.scale.protocol import GroupFacts
from penstock.serving.scaling import loop as loop_module
from penstock.serving.scaling.groups import STALE_S, LiveReplica
from penstock.serving.scaling.loop import LiveScaling
from support.scaled_group import busy, engine
from support.scaled_loop import Group, Record, Scripted, source_of

FACTS = GroupFacts("m", 1, 4, 1, 2.0, 60.0, 1000)


def loop_of(scaler, group, clock=lambda: 50.0, advise=False):
    record = Record()
    return LiveScaling(scaler, [FACTS], [group], source_of(group), record, clock, lambda: 1e9,
                       advise=advise), record


@pytest.mark.parametrize(("decided", "ordered"), [(3, 3), (9, 4), (0, 1)])
def test_orders_are_within_the_bounds_and_recorded_with_the_decision(decided, ordered):
    group = Group()
    loop, record = loop_of(Scripted(decided), group)
    asyncio.run(loop.decide())
    assert group.orders == [ordered]
    wall_s, now_s, seen, targets, decision = record.lines[0]
    assert (wall_s, now_s, targets, decision.targets) == (1e9, 0.0, (ordered,), (decided,))
    assert seen.groups[0].target == 1


def test_advice_orders_nothing_and_tells_changes_once():
    group = Group()
    loop, record = loop_of(Scripted(3, 3, 2), group, advise=True)
    for _ in range(3):
        asyncio.run(loop.decide())
    assert group.orders == []
    assert [change["targets"] for change in loop.document()["changes"]] == [(3,), (2,)]
    assert len(record.lines) == 3
    assert loop.document()["groups"][0]["advised"] == 2


def test_gauges_have_their_age_and_old_ones_are_missing():
    new, old, never = engine(0), engine(1), engine(2)
    busy(new, 5)
    new.observe(EngineLoad(num_running=3, num_waiting=2, kv_used_share=0.5), 95.0)
    busy(old)
    old.observe(EngineLoad(), 100.0 - STALE_S - 1.0)
    group = Group(LiveReplica(0, "ready", 60.0, new), LiveReplica(1, "ready", 60.0, old),
                  LiveReplica(2, "starting", 90.0, never), LiveReplica(3, "waiting", 95.0))
    times = iter([50.0, 100.0])
    loop, _ = loop_of(Scripted(1), group, lambda: next(times))
    first, second, third, fourth = loop.observe().groups[0].replicas
    assert (first.gauges.num_running, first.gauges.num_waiting, first.gauges.kv_used_share) == (
        3, 2, 0.5)
    assert (first.since_s, first.observed_s) == (10.0, 45.0)
    assert (second.gauges, second.observed_s) == (None, None)
    assert (third.gauges, third.state, fourth.state) == (None, "starting", "waiting")


@pytest.mark.parametrize(("wakes", "num"), [(True, 2), (False, 1)])
def test_a_request_without_a_replica_asks_those_that_want_it(wakes, num, monkeypatch):
    monkeypatch.setattr(loop_module, "_APART_S", 0.01)

    async def run():
        scaler = Scripted(1, wakes=wakes)
        loop, _ = loop_of(scaler, Group())
        running = asyncio.create_task(loop.run())
        await asyncio.sleep(0.05)
        for _ in range(5):
            loop.on_held()
        for _ in range(500 if wakes else 10):  # a busy machine takes longer
            await asyncio.sleep(0.01)
            if wakes and len(scaler.seen) >= num:
                break
        running.cancel()
        return scaler

    assert len(asyncio.run(run()).seen) == num


def test_a_new_loop_leaves_the_replicas_of_an_earlier_one_until_it_has_a_history():
    times = iter([0.0, 0.0, 0.0, 0.0, 59.0, 59.0, 59.0, 61.0, 61.0, 61.0])
    group = Group()
    group.target, group.inherited = 3, 3
    loop, record = loop_of(Scripted(1), group, lambda: next(times))
    for _ in range(3):
        asyncio.run(loop.decide())
    assert [line[3] for line in record.lines] == [(3,), (3,), (1,)]
    assert record.lines[0][4].targets == (1,), "the record has what the policy decided"
