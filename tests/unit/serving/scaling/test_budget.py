"""Live replicas under a budget: processes and receivers of a webhook wait for room."""

import asyncio

import aiohttp

from penstock.policy.scale.budget import Spending
from penstock.policy.scale.protocol import Budget, GroupFacts
from penstock.serving.deployments.deployments import State
from penstock.serving.scaling.budget import LiveBudget
from penstock.serving.scaling.groups import LiveReplica
from penstock.serving.scaling.processes import ProcessGroup
from penstock.serving.scaling.remote import AdvisedGroup, WebhookGroup
from support.scaled_group import Owner, engine
from support.scaled_loop import Group


def facts(cost: float, floor: int = 0) -> GroupFacts:
    return GroupFacts("m", floor, 9, floor, cost, 60.0, 1000)


def test_every_replica_that_does_not_wait_takes_of_the_budget() -> None:
    budget = LiveBudget(Spending(Budget(9), [facts(2), facts(1)]))
    budget.groups = [Group(LiveReplica(0, "ready", 0.0), LiveReplica(1, "waiting", 0.0)),
                     Group(LiveReplica(2, "draining", 0.0), LiveReplica(3, "starting", 0.0))]
    assert (budget.room(0, 1), budget.room(0, 9), budget.room(1, 9)) == (1, 2, 5)


def test_a_process_waits_until_the_budget_has_room() -> None:
    owner, now_s = Owner(), [100.0]
    budget = LiveBudget(Spending(Budget(2), [facts(1)]))
    group = ProcessGroup(range(4), owner, [engine(number) for number in range(4)],
                         lambda: now_s[0], [].append, lambda more: budget.room(0, more))
    budget.groups = [group]

    async def tend() -> None:
        now_s[0] += 1.0
        await group.tend()
        await asyncio.sleep(0)
        await group.tend()

    group.order(3)
    asyncio.run(tend())
    assert [one.state for one in group.replicas()] == ["starting", "starting", "waiting"]
    owner.put(0, State.FAILED)
    owner.found.pop(1)  # it has ended
    asyncio.run(tend())
    states = [one.state for one in group.replicas()]
    assert states.count("starting") == 2


def test_a_receiver_is_told_as_many_replicas_as_the_budget_holds() -> None:
    budget = LiveBudget(Spending(Budget(3), [facts(1), facts(1)]))
    other = Group(LiveReplica(5, "ready", 0.0))

    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            group = WebhookGroup(AdvisedGroup([], range(0), lambda: 0.0), lambda: 0.0, session,
                                 "http://127.0.0.1:1", {}, {}, [].append,
                                 lambda more: budget.room(0, more))
            budget.groups = [group, other]
            group.order(4)
            assert [one.state for one in group.replicas()] == [
                "starting", "starting", "waiting", "waiting"]
            budget.groups = [group, Group()]
            group.order(5)
            assert [one.state for one in group.replicas()].count("starting") == 3
            group.order(1)
            assert [one.state for one in group.replicas()] == ["starting"]

    asyncio.run(run())
