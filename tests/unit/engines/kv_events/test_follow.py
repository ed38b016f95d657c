"""Following an engine's KV events over ZeroMQ: gaps, replays, restarts and garbage."""

import asyncio
import time
from contextlib import asynccontextmanager, suppress

import pytest

pytest.importorskip("msgspec", reason="the extra 'kv-events' is not installed")
pytest.importorskip("zmq", reason="the extra 'kv-events' is not installed")

import msgspec
import zmq.asyncio

from penstock.engines.kv_events.decode import Removed, Stored, written
from penstock.engines.kv_events.follow import Follower, Source
from penstock.engines.kv_events.keys import prompt_keys
from penstock.engines.kv_events.learned import LearnedBlocks
from penstock.policy.route.live_index import LiveIndex
from support.fake_kv_engine import FakeKvEngine

SIZE = 4
TOKENS = tuple(range(64))
KEYS = prompt_keys(TOKENS, SIZE)


def block(number, at_s=None):
    """A batch in which block ``number`` of the prompt is stored after the one before."""
    start = number * SIZE
    return written(time.time() if at_s is None else at_s, [
        Stored((number + 1,), number or None, TOKENS[start:start + SIZE], SIZE)])


@asynccontextmanager
async def followed(engine, *, replay=True):
    context = zmq.asyncio.Context()
    index = LiveIndex()
    follower = Follower(Source(engine.events, engine.replay if replay else None),
                        LearnedBlocks(index, 0), context)
    task = asyncio.create_task(follower.run())
    try:
        await engine.subscribed()
        yield follower, index
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        context.destroy(0)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def run(test, **more):
    async def whole():
        engine = FakeKvEngine()
        try:
            async with followed(engine, **more) as (follower, index):
                await test(engine, follower, index)
        finally:
            await engine.close()

    asyncio.run(whole())


def test_messages_in_order_are_applied():
    async def test(engine, follower, index):
        for number in range(3):
            await engine.publish(number, block(number))
        await until(lambda: index.match(0, KEYS) == 3)
        await engine.publish(3, written(time.time(), [Removed((2,))]))
        await until(lambda: index.match(0, KEYS) == 1)
        assert index.is_whole(0)
        assert (follower.counts.gaps, follower.counts.broken) == (0, 0)
        assert follower.counts.lag_s < 20

    run(test, replay=False)


def test_events_as_arrays_are_applied():
    async def test(engine, follower, index):
        await engine.publish(0, msgspec.msgpack.encode(
            [1.0, [["BlockStored", [9], None, list(TOKENS[:4]), 4, None, "GPU"]]]))
        await until(lambda: index.match(0, KEYS) == 1)

    run(test, replay=False)


def test_a_gap_is_closed_by_a_replay():
    async def test(engine, follower, index):
        await engine.publish(0, block(0))
        await until(lambda: index.match(0, KEYS) == 1)
        await engine.publish(1, block(1), send=False)
        await engine.publish(2, block(2))
        await until(lambda: index.match(0, KEYS) == 3)
        assert index.is_whole(0)
        assert (follower.counts.gaps, follower.counts.drops) == (1, 0)
        assert engine.asked[-1] == 1

    run(test)


@pytest.mark.parametrize("replay", [True, False])
def test_a_gap_without_a_replay_forgets_the_engine_s_blocks(replay):
    async def test(engine, follower, index):
        await engine.publish(0, block(0))
        await engine.publish(1, block(1))
        await until(lambda: index.match(0, KEYS) == 2)
        engine.kept.clear()
        await engine.publish(3, block(3), keep=False)
        await until(lambda: follower.counts.drops == 1)
        await engine.publish(4, block(0))
        await until(lambda: index.match(0, KEYS) == 1)
        assert not index.is_whole(0)
        await engine.publish(5, block(1))  # hashes keep their keys
        await until(lambda: index.match(0, KEYS) == 2)

    run(test, replay=replay)


def test_what_was_published_before_is_asked_for():
    async def whole():
        engine = FakeKvEngine()
        try:
            for number in range(3):
                await engine.publish(number, block(number))
            async with followed(engine) as (follower, index):
                await until(lambda: index.match(0, KEYS) == 3)
                assert index.is_whole(0)
                assert follower.counts.messages == 3
        finally:
            await engine.close()

    asyncio.run(whole())


def test_a_late_follower_without_a_replay_knows_that_blocks_are_missing():
    async def test(engine, follower, index):
        await engine.publish(7, block(1))
        await until(lambda: follower.counts.messages == 1)
        assert index.follows(0)
        assert not index.is_whole(0)
        assert follower.blocks.num_orphans == 1
        assert (follower.counts.gaps, follower.counts.drops) == (0, 0)

    run(test, replay=False)


def test_garbage_is_counted_and_nothing_stops():
    async def test(engine, follower, index):
        await engine.publish(0, block(0))
        await until(lambda: index.match(0, KEYS) == 1)
        await engine.raw(b"topic")
        await engine.raw(b"topic", b"short", b"payload")
        await engine.publish(1, b"\xc1 no msgpack")
        await engine.publish(2, block(1))
        await until(lambda: index.match(0, KEYS) == 2)
        assert follower.counts.broken == 3

    run(test, replay=False)


@pytest.mark.parametrize("replay", [True, False])
def test_an_engine_that_starts_anew_has_an_empty_cache(replay):
    async def test(engine, follower, index):
        for number in range(3):
            await engine.publish(number, block(number))
        await until(lambda: index.match(0, KEYS) == 3)
        engine.kept.clear()
        await engine.publish(0, block(0))
        await until(lambda: index.match(0, KEYS) == 1)
        assert follower.counts.restarts == 1
        assert index.is_whole(0)

    run(test, replay=replay)


def test_a_message_that_a_replay_has_overtaken_is_not_a_restart():
    async def test(engine, follower, index):
        for number in range(3):
            await engine.publish(number, block(number, at_s=number))
        await until(lambda: index.match(0, KEYS) == 3)
        await engine.publish(1, block(1, at_s=1))
        await engine.publish(3, block(3, at_s=3))
        await until(lambda: index.match(0, KEYS) == 4)
        assert follower.counts.restarts == 0

    run(test)


@pytest.mark.parametrize("is_same", [True, False])
def test_after_a_broken_connection_only_the_same_engine_keeps_its_blocks(is_same):
    async def whole():
        engine = FakeKvEngine()
        async with followed(engine) as (follower, index):
            for number in range(3):
                await engine.publish(number, block(number))
            await until(lambda: index.match(0, KEYS) == 3)
            await engine.close()
            await until(lambda: not index.follows(0))
            other = FakeKvEngine(engine.events, engine.replay)
            try:
                if is_same:
                    other.kept = {**engine.kept, 3: block(3)}
                await until(lambda: index.is_whole(0))
                assert index.match(0, KEYS) == (4 if is_same else 0)
                assert follower.counts.restarts == (not is_same)
            finally:
                await other.close()

    asyncio.run(whole())
