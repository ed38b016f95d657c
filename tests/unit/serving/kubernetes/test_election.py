"""Election of one controller among several."""

import asyncio
from datetime import UTC, datetime

import pytest

from penstock.serving.kubernetes.api import ClusterError
from penstock.serving.kubernetes.election import DURATION_S, RENEW_S, Election
from support.fake_cluster import FakeCluster
from support.simulated_loop import SimulatedLoop


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def candidate(there, clock, name):
    return Election(there, "ns", name, clock, lambda _: None,
                    lambda: datetime.fromtimestamp(clock.now_s, UTC))


async def tried(one):
    begin_s = one._clock()
    if await one._try():
        one._renewed_s = begin_s
    one._judge()
    return one.leads.is_set()


def test_the_first_leads_and_the_second_waits_until_the_lease_expires():
    async def work():
        there, clock = FakeCluster(), Clock()
        first, second = (candidate(there, clock, name) for name in ("one", "two"))
        assert await tried(first)
        assert not await tried(second)
        for _ in range(10):
            clock.now_s += 5
            assert await tried(first)
            assert not await tried(second)
        clock.now_s += DURATION_S - 1
        assert not await tried(second)
        clock.now_s += 2
        assert await tried(second)
        spec = there.of("Lease")["penstock-controller"]["spec"]
        assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("two", 1)
        assert not await tried(first)
    asyncio.run(work())


def test_a_leader_without_the_server_stops_before_another_may_lead():
    async def work():
        there, clock = FakeCluster(), Clock()
        first = candidate(there, clock, "one")
        assert await tried(first)
        there.failing = ClusterError("gone")
        clock.now_s += RENEW_S - 1
        assert await tried(first)
        clock.now_s += 2
        assert not await tried(first)
        assert RENEW_S < DURATION_S
    asyncio.run(work())


def test_a_lease_that_is_given_up_is_taken_at_once():
    async def work():
        there, clock = FakeCluster(), Clock()
        first, second = (candidate(there, clock, name) for name in ("one", "two"))
        assert await tried(first)
        await first._release()
        assert there.of("Lease")["penstock-controller"]["spec"]["holderIdentity"] == ""
        assert await tried(second)
    asyncio.run(work())


def test_a_leader_that_was_stopped_for_a_while_may_not_act_when_it_goes_on():
    async def work():
        there, clock = FakeCluster(), Clock()
        first = candidate(there, clock, "one")
        assert await tried(first)
        clock.now_s += RENEW_S
        assert first.leads.is_set()  # nobody has looked at the clock yet
        assert not first.may_act
    asyncio.run(work())


def test_a_server_that_does_not_answer_does_not_keep_a_leader_from_the_clock():
    loop = SimulatedLoop(None, shuffled=False)

    class Hung(FakeCluster):
        async def replace(self, kind, document):
            await asyncio.sleep(3600.0)

    async def work():
        first = candidate(Hung(), loop.time, "one")
        task = asyncio.create_task(first.run())
        await first.leads.wait()
        led_s = loop.time()
        await first.lost.wait()
        assert loop.time() - led_s < DURATION_S
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def candidate(there, clock, name):
        return Election(there, "ns", name, clock, lambda _: None)

    loop.run_until_complete(work())
    loop.close()


@pytest.mark.parametrize("seed", range(30))
def test_there_are_never_two_leaders(seed):
    """Candidates whose calls fail at random, and whose clocks run apart."""
    from random import Random

    async def work():
        rng, there, now = Random(seed), FakeCluster(), Clock()
        clocks = [lambda offset=offset: now.now_s + offset for offset in (0, 1000, -50)]
        some = [Election(there, "ns", str(i), clock, lambda _: None,
                         lambda clock=clock: datetime.fromtimestamp(clock() + 10**6, UTC))
                for i, clock in enumerate(clocks)]
        led = set()
        for _ in range(400):
            now.now_s += rng.choice([0.1, 1.0, 2.0, 2.0, 9.0])
            one = rng.choice(some)
            there.failing = ClusterError("no") if rng.random() < 0.4 else None
            await tried(one)
            for each in some:  # everybody judges by its clock all the time
                each._judge()
            leaders = [each.identity for each in some if each.leads.is_set()]
            assert len(leaders) <= 1
            led |= set(leaders)
        assert len(led) > 1
    asyncio.run(work())
