"""Requests that a live gateway holds back."""

import asyncio

import pytest

from penstock.core.request import CONFIDENTIAL, NO_NEEDS
from penstock.core.slo import ServiceClass, Slo
from penstock.policy.scale.deferral import Deferral
from penstock.policy.scale.protocol import GroupFacts, ReplicaRate, ScalerContext
from penstock.policy.scale.values import Observation
from penstock.serving.gateway.ask import Ask
from penstock.serving.scaling.deferring import LiveDeferring

BATCH = ServiceClass("batch", Slo(ttft_s=900.0), defer_s=600.0)


def ask_of(service_class=BATCH, deadline_s=None, needs=NO_NEEDS):
    return Ask({}, ("m",), service_class, stream=False, wants_usage=False, prompt_tokens=3,
               max_tokens=4, deadline_s=deadline_s, needs=needs)


class Door:
    """Holds requests back by a clock that the test moves."""

    def __init__(self, most=5):
        self.now_s = 0.0
        context = ScalerContext((GroupFacts("m", 0, 9, 1, 1.0, 60.0, 1000),), {"batch": BATCH},
                                (lambda _: ReplicaRate(2.0, 2.5),))
        self.deferral = Deferral(context)
        self.deferring = LiveDeferring(self.deferral, most, lambda: Observation(0.0, (), None),
                                       lambda: self.now_s)

    async def waiting(self, num):
        tasks = [asyncio.create_task(self.deferring.enter(ask_of())) for _ in range(num)]
        await asyncio.sleep(0)
        return tasks

    async def send(self):
        sending = asyncio.create_task(self.deferring.run())
        await asyncio.sleep(0)
        sending.cancel()


@pytest.mark.parametrize("ask", [
    ask_of(ServiceClass("chat", Slo())), ask_of(deadline_s=5.0), ask_of(needs=CONFIDENTIAL)])
def test_other_requests_are_sent_at_once(ask):
    assert asyncio.run(Door().deferring.enter(ask)) is False


def test_held_requests_go_into_spare_capacity_or_when_their_slack_ends():
    async def run():
        door = Door()
        tasks = await door.waiting(2)
        assert door.deferring.num_waiting == 2
        door.deferral.allow([1.0])
        door.now_s = 1.0
        await door.send()
        assert await tasks[0] is True
        door.deferral.allow([0.0])
        door.now_s = 600.0
        await door.send()
        assert await tasks[1] is False
        assert (door.deferring.num_waiting, door.deferral.num_held) == (0, 0)

    asyncio.run(run())


def test_at_most_so_many_are_held_back():
    async def run():
        door = Door(most=1)
        tasks = await door.waiting(2)
        assert await tasks[1] is False
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        assert (door.deferring.num_waiting, door.deferral.num_held) == (0, 0)

    asyncio.run(run())


def test_missing_metrics_leave_no_spare_capacity():
    async def run():
        door = Door()
        looking = asyncio.create_task(door.deferring.look())
        tasks = await door.waiting(1)
        await asyncio.sleep(0.01)
        await door.send()
        assert not tasks[0].done()
        for task in (looking, *tasks):
            task.cancel()

    asyncio.run(run())
