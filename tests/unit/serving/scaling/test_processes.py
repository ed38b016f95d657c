"""Replicas as processes: ordered, started, drained and stopped."""

import asyncio

from penstock.engines.client.metrics_text import EngineLoad
from penstock.serving.deployments.deployments import State
from penstock.serving.scaling.processes import ProcessGroup
from support.scaled_group import Owner, busy, engine


class World:
    """Four places for replicas, of which the first ``num`` run and serve."""

    def __init__(self, num: int = 0, **owner: object) -> None:
        self.now_s = 100.0
        self.notes: list[str] = []
        self.owner = Owner(**owner)
        self.engines = [engine(number) for number in range(4)]
        for number in range(num):
            self.owner.put(number, State.RUNNING)
            self.engines[number].observe(EngineLoad(), 0.0)
        self.group = ProcessGroup(range(4), self.owner, self.engines, lambda: self.now_s,
                                  self.notes.append)

    def tend(self, num: int = 1) -> None:
        async def run() -> None:
            for _ in range(num):
                self.now_s += 1.0
                await self.group.tend()
                await asyncio.sleep(0)
            await self.group.tend()

        asyncio.run(run())

    def order(self, target: int) -> None:
        async def run() -> None:
            self.group.order(target)
            await asyncio.sleep(0)
            await self.group.tend()

        asyncio.run(run())

    @property
    def states(self) -> dict[int, str]:
        return {one.number: one.state for one in self.group.replicas()}


def test_running_replicas_are_adopted_as_the_target() -> None:
    world = World(num=3)
    assert world.group.target == 3
    assert world.states == {0: "ready", 1: "ready", 2: "ready"}


def test_an_ordered_replica_waits_starts_and_is_ready_once_its_engine_answers() -> None:
    world = World(num=1)
    world.group.order(2)
    assert world.states == {0: "ready", 1: "waiting"}
    world.tend()
    assert world.states == {0: "ready", 1: "starting"}
    world.owner.put(1, State.RUNNING)
    assert world.states[1] == "starting", "its engine has not answered"
    world.engines[1].observe(EngineLoad(), 0.0)
    assert world.states == {0: "ready", 1: "ready"}


def test_without_room_a_replica_waits_and_is_tried_again() -> None:
    world = World(num=1, room=1)
    world.group.order(2)
    world.tend(3)
    assert world.states == {0: "ready", 1: "waiting"}
    assert world.notes == []
    world.owner.room = 2
    world.tend()
    assert world.states == {0: "ready", 1: "starting"}


def test_a_failed_start_is_told_and_repeated_with_a_growing_delay() -> None:
    world = World(fails=True)
    world.group.order(1)
    world.tend(16)
    assert [note.split(":")[0] for note in world.notes] == [
        f"replica 0 did not start, the next try is in {delay} s" for delay in (1, 2, 4, 8)]
    world.owner.fails = False
    world.tend(16)
    assert world.states == {0: "starting"}


def test_replicas_that_wait_are_given_up_first_then_the_youngest_start_then_the_idlest() -> None:
    world = World(num=2, room=3)
    busy(world.engines[0], 2)
    busy(world.engines[1], 1)
    world.group.order(4)
    world.tend()
    assert world.states == {0: "ready", 1: "ready", 2: "starting", 3: "waiting"}
    world.order(3)
    assert 3 not in world.states
    world.order(2)
    assert world.states == {0: "ready", 1: "ready"}
    world.order(1)
    assert world.states == {0: "ready", 1: "draining"}
    assert world.group.target == 1


def test_a_replica_with_requests_is_stopped_after_its_last_one() -> None:
    world = World(num=2)
    busy(world.engines[1])
    busy(world.engines[0], 2)
    world.order(1)
    world.tend(5)
    assert world.engines[1].draining
    assert world.owner.left == {1}
    assert world.owner.ended == []
    world.engines[1].end(0)
    world.tend(2)
    assert world.owner.ended == [1]
    assert world.states == {0: "ready"}


def test_a_place_that_drains_is_not_used_for_a_new_replica() -> None:
    world = World(num=4)
    for one in world.engines:
        busy(one)
    world.order(2)
    world.order(4)
    assert sorted(world.states.values()) == ["draining", "draining", "ready", "ready"]
    assert world.group.target == 2, "as many as there are places"


def test_orders_are_written_down_before_their_replicas_start() -> None:
    world = World(num=1)
    world.group.order(3)
    assert world.owner.registered == [1, 2]
