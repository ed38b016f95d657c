"""Whatever engines do, every request ends exactly once, and no device holds more than it can."""

import asyncio
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.multiplex.beliefs import LoadTable
from penstock.policy.multiplex.values import BatchTime, HostedModel
from support import multiplexing_cases as resident
from support.fake_pool_engines import FirstCome, Stage

NUM_MODELS = 4
EVENTS = st.lists(st.one_of(
    st.tuples(st.just("ask"), st.integers(0, NUM_MODELS - 1), st.floats(0.1, 9.0),
              st.integers(0, 2), st.sampled_from([5.0, 30.0, inf])),
    st.tuples(st.just("die"), st.integers(0, 1), st.integers(0, NUM_MODELS - 1)),
    st.tuples(st.just("fail"), st.integers(0, 1), st.integers(0, NUM_MODELS - 1),
              st.integers(1, 4)),
    st.tuples(st.just("hang"), st.integers(0, 1), st.integers(0, NUM_MODELS - 1), st.booleans()),
    st.tuples(st.just("stick"), st.integers(0, 1), st.integers(0, NUM_MODELS - 1), st.booleans()),
    st.tuples(st.just("slow"), st.integers(0, 1), st.integers(0, NUM_MODELS - 1),
              st.sampled_from([0.0, 3.0])),
    st.tuples(st.just("leave"), st.integers(0, 30)),
    st.tuples(st.just("look")),
    st.tuples(st.just("wait"), st.floats(0.0, 20.0))), max_size=40)
POLICIES = st.sampled_from([None, *resident.POLICIES])


def policy_named(name):
    if name is None:
        return FirstCome(NUM_MODELS)
    models = [HostedModel(f"m{index}", 10, BatchTime(1.0, 0.1), 1, 4)
              for index in range(NUM_MODELS)]
    return resident.multiplexing(name, models, LoadTable([5.0] * NUM_MODELS))


def befall(engine, kind, how=None):
    if kind == "die":
        engine.held = False
    elif kind == "fail":
        engine.fails += how
    else:
        setattr(engine, {"hang": "hangs", "stick": "unload_fails", "slow": "unload_s"}[kind], how)


async def happen(stage, events):
    tasks, ended = [], []
    for kind, *what in events:
        if kind == "ask":
            model, service_s, num_failed, deadline_s = what
            task = stage.begin(model, service_s, range(num_failed), deadline_s)
            task.add_done_callback(ended.append)
            tasks.append(task)
        elif kind == "leave" and what[0] < len(tasks):
            tasks[what[0]].cancel()
        elif kind == "look":
            await stage.driver.look()
        elif kind == "wait":
            await stage.until(stage.loop.now_s + what[0])
        elif kind in ("die", "fail", "hang", "stick", "slow"):
            device, model, *more = what
            befall(stage.engines[device][model], kind, *more)
    for row in stage.engines:
        for engine in row:
            engine.hangs = engine.unload_fails = False
    await stage.until()
    return tasks, ended


@given(EVENTS, POLICIES, st.booleans())
def test_every_request_ends_once_whatever_fails(events, name, continuous) -> None:
    async def run():
        stage = Stage(NUM_MODELS, memory=24, num_devices=2, policy=policy_named(name),
                      continuous=continuous, request_bytes=1, load_timeout_s=20.0,
                      set_apart_s=10.0)
        tasks, ended = await happen(stage, events)
        assert len(ended) == len(tasks), "somebody waits for ever"
        for task in tasks:
            assert task.cancelled() or task.exception() is None
        said = len(stage.answered) + len(stage.refused)
        assert said == sum(not task.cancelled() for task in tasks)
        assert all(reason for *_, reason in stage.refused)
        assert stage.policy.num_waiting == 0
        for engine in (one for row in stage.engines for one in row):
            assert not engine.clashes, "a load and an unload at once"
        for device in stage.devices:
            assert device.free_bytes >= 0
            assert not any(one.num_running for one in device.residents.values())
        assert not any("bug" in note or "cannot be:" in note for note in stage.notes), stage.notes

    asyncio.run(run())
