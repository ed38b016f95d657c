"""Laws of the waiting list: whatever the order of service, refusal, time and leaving, everybody
ends once, and no value is lost or given twice."""

import asyncio
from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from penstock.serving.waiting_list import WaitingList
from support.fake_clock import FakeLoop, settle

KEYS = st.integers(0, 1)
ACTIONS = st.one_of(
    st.tuples(st.just("add"), KEYS, st.sampled_from((1.0, 2.0, float("inf")))),
    st.tuples(st.sampled_from(("serve", "refuse", "cancel")), KEYS),
    st.tuples(st.just("time"), st.sampled_from((0.5, 1.0, 3.0))),
    st.tuples(st.just("settle")))


class RefusedError(Exception):
    """No value comes."""


class Scene:
    """A waiting list with everybody who ever waited, and what became of them."""

    def __init__(self):
        self.loop = FakeLoop()
        self.waiting = WaitingList(self.loop, left=self.left, unused=self.unused)
        self.tasks = {}
        self.ends = Counter()
        self.given, self.unclaimed, self.received = [], [], []
        self.num_added = self.num_values = 0

    def left(self, key):
        assert key not in self.waiting
        self.ends[key[1]] += 1

    def unused(self, value):
        self.unclaimed.append(value)
        self.ends[value[1]] += 1

    async def wait(self, key, coming):
        try:
            value = await self.waiting.wait(key, coming)
        except RefusedError:
            return
        assert value[1] == key[1]
        self.received.append(value)
        self.ends[key[1]] += 1

    def add(self, place, timeout_s):
        if place in self.tasks and not self.tasks[place][1].done():
            return
        key = (place, self.num_added)
        self.num_added += 1
        coming = self.waiting.add(key, timeout_s, self.expired)
        self.tasks[place] = key, asyncio.ensure_future(self.wait(key, coming))

    def serve(self, place):
        if place in self.tasks:
            key = self.tasks[place][0]
            waited, value = key in self.waiting, (self.num_values, key[1])
            self.num_values += 1
            if self.waiting.serve(key, value):
                assert waited
                self.given.append(value)
            elif waited:  # its caller is leaving: the owner knows, so it ends so
                self.ends[key[1]] += 1

    def refuse(self, place):
        if place in self.tasks:
            self.turn_away(self.tasks[place][0])

    def expired(self, key):
        assert key in self.waiting, "whoever does not wait any more has no time limit"
        self.turn_away(key)

    def turn_away(self, key):
        self.ends[key[1]] += key in self.waiting  # or its caller is leaving, which ends it, too
        self.waiting.refuse(key, RefusedError())

    def cancel(self, place):
        if place in self.tasks:
            self.tasks[place][1].cancel()

    def time(self, seconds):
        self.loop.now_s += seconds
        self.loop.fire()

    async def play(self, actions):
        for name, *rest in actions:
            if name == "settle":
                await settle()
            else:
                getattr(self, name)(*rest)
                if name == "add":
                    await asyncio.sleep(0)  # a task that never began has not waited
        self.time(10.0)
        await settle()
        for place in self.tasks:
            self.serve(place)
        await settle()


@example([("add", 0, 1.0), ("serve", 0), ("cancel", 0)])
@example([("add", 0, 1.0), ("cancel", 0), ("serve", 0)])
@example([("add", 0, 1.0), ("cancel", 0), ("time", 1.0)])
@example([("add", 0, 1.0), ("time", 1.0), ("cancel", 0), ("serve", 0)])
@example([("add", 0, 1.0), ("settle",), ("cancel", 0), ("settle",), ("add", 0, 2.0)])
@given(st.lists(ACTIONS, min_size=5, max_size=40))
def test_everybody_ends_once_and_no_value_is_lost(actions) -> None:
    scene = Scene()
    asyncio.run(scene.play(actions))
    assert all(task.done() for _, task in scene.tasks.values())
    assert len(scene.waiting) == 0
    assert scene.loop.next_s == float("inf"), "no timer is left behind"
    assert sorted(scene.given) == sorted(scene.received + scene.unclaimed)
    assert all(scene.ends[number] == 1 for number in range(scene.num_added)), scene.ends
