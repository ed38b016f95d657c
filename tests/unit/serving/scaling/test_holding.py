"""Requests that wait for a replica at the gateway."""

import asyncio

import pytest

from penstock.core.slo import ServiceClass, Slo
from penstock.policy.scale.demand import DemandMeter
from penstock.policy.scale.hopeless import HOPELESS
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask import Ask
from penstock.serving.scaling.holding import LiveHolding


def ask_of(model="m", deadline_s=None):
    return Ask({}, (model,), ServiceClass("chat", Slo()), stream=False, wants_usage=False,
               prompt_tokens=3, max_tokens=4, deadline_s=deadline_s)


class Door:
    """A holding for the model m, with ``ready`` as the test sets it."""

    def __init__(self, patience_s=10.0, most=5):
        self.ready = False
        self.woken = 0
        self.demand = DemandMeter()
        self.demand.arrived("m", "chat", 3)
        self.holding = LiveHolding({"m"}, patience_s, most, self.demand, lambda _: self.ready,
                                   self.wake)

    def wake(self):
        self.woken += 1

    @property
    def num_held(self):
        return self.demand.seen()[0].num_held

    async def waiting(self, num):
        tasks = [asyncio.create_task(self.holding.enter(ask_of())) for _ in range(num)]
        await asyncio.sleep(0)
        return tasks


def test_nobody_waits_where_an_engine_is_ready_or_none_can_be_started():
    async def run():
        door = Door()
        await door.holding.enter(ask_of("another"))
        door.ready = True
        await door.holding.enter(ask_of())
        return door

    assert asyncio.run(run()).woken == 0


def test_all_go_on_once_an_engine_is_ready():
    async def run():
        door = Door()
        looking = asyncio.create_task(door.holding.run())
        tasks = await door.waiting(3)
        assert (door.num_held, door.woken) == (3, 3)
        door.ready = True
        await asyncio.gather(*tasks)
        looking.cancel()
        assert (door.num_held, door.holding.num_waiting) == (0, 0)

    asyncio.run(run())


@pytest.mark.parametrize(("patience_s", "deadline_s"), [(0.01, None), (10.0, 0.01)])
def test_a_request_waits_no_longer_than_the_patience_and_its_deadline(patience_s, deadline_s):
    async def run():
        door = Door(patience_s)
        with pytest.raises(ServiceError) as caught:
            await door.holding.enter(ask_of(deadline_s=deadline_s))
        assert caught.value.status == 503
        assert caught.value.code == "no_replica"
        assert door.num_held == 0

    asyncio.run(run())


def test_too_many_are_refused_and_a_client_that_leaves_makes_room():
    async def run():
        door = Door(most=2)
        first, second = await door.waiting(2)
        with pytest.raises(ServiceError) as caught:
            await door.holding.enter(ask_of())
        assert caught.value.status == 429
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert door.num_held == 1
        (third,) = await door.waiting(1)
        assert door.num_held == 2
        second.cancel()
        third.cancel()
        await asyncio.gather(second, third, return_exceptions=True)

    asyncio.run(run())


def test_a_request_whose_objective_is_out_of_reach_is_refused_with_that_reason():
    async def run():
        door = Door()
        door.holding = LiveHolding({"m"}, 10.0, 5, door.demand, lambda _: False, door.wake,
                                   lambda _model, _class, tokens: tokens / 300)
        with pytest.raises(ServiceError) as caught:
            await door.holding.enter(ask_of())
        assert caught.value.code == "no_replica"
        assert HOPELESS in str(caught.value)
        assert door.num_held == 0

    asyncio.run(run())
