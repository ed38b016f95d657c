"""Who sends when, on a clock that stands still until it is told to move."""

import asyncio

import numpy as np
import pytest

from penstock.engines.client.answer import Answer
from penstock.experiment.load.drive import closed_loop, linked_loop, open_loop
from penstock.workload.links import all_links, links
from support.fake_clock import FakeLoop, play, settle


class Server:
    """Answers after ``takes_s``; notes when each request was sent and what became of it."""

    def __init__(self, loop: FakeLoop, takes_s: float) -> None:
        self.loop = loop
        self.takes_s = takes_s
        self.sent: dict[int, float] = {}
        self.taken: list[tuple[int, float]] = []
        self.under_way = self.most = 0

    async def sleep(self, wait_s: float) -> None:
        done = asyncio.Event()
        self.loop.call_at(self.loop.now_s + wait_s, done.set)
        await done.wait()

    def ready(self, number):
        async def send(answer: Answer) -> None:
            self.sent[number] = answer.sent_s = self.loop.now_s
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await self.sleep(self.takes_s)
            self.under_way -= 1

        return send

    def take(self, number, due_s, answer) -> None:
        self.taken.append((number, due_s))


def driven(work, calls=()):
    """Let ``work`` go on until no timer is left."""
    async def run():
        task = asyncio.create_task(work())
        await play(loop_of[0], calls)
        await settle()
        assert task.done()
        task.result()

    loop_of = [work.loop]
    asyncio.run(run())


class Work:
    def __init__(self, loop, make) -> None:
        self.loop, self.make = loop, make

    async def __call__(self) -> None:
        await self.make()


def test_a_stalled_server_delays_no_request() -> None:
    loop = FakeLoop()
    server = Server(loop, takes_s=100.0)
    arrivals = [0.5, 1.0, 1.0, 3.0]
    driven(Work(loop, lambda: open_loop(server.ready, server.take, arrivals, 10.0, loop.time,
                                        server.sleep)))
    assert server.sent == {0: 10.5, 1: 11.0, 2: 11.0, 3: 13.0}
    assert sorted(server.taken) == [(0, 10.5), (1, 11.0), (2, 11.0), (3, 13.0)]
    assert server.most == 4


def test_a_late_generator_says_so_and_catches_up() -> None:
    loop = FakeLoop(late_s=lambda: 0.25)
    server = Server(loop, takes_s=1.0)
    arrivals = [n * 0.1 for n in range(40)]
    driven(Work(loop, lambda: open_loop(server.ready, server.take, arrivals, 0.0, loop.time,
                                        server.sleep)))
    due = dict(server.taken)
    assert due == pytest.approx({n: n * 0.1 for n in range(40)})
    late = [server.sent[n] - due[n] for n in range(40)]
    assert max(late) == pytest.approx(0.25)
    assert min(late) >= 0.0


@pytest.mark.parametrize(("num", "concurrency", "most"), [(7, 3, 3), (2, 5, 2), (5, 1, 1)])
def test_a_closed_loop_keeps_so_many_under_way(num, concurrency, most) -> None:
    loop = FakeLoop()
    server = Server(loop, takes_s=1.0)
    driven(Work(loop, lambda: closed_loop(server.ready, server.take, concurrency, num,
                                          float("inf"), loop.time)))
    assert sorted(number for number, _ in server.taken) == list(range(num))
    assert server.most == most
    assert all(server.sent[number] == due_s for number, due_s in server.taken)


def test_a_closed_loop_ends_with_its_time() -> None:
    loop = FakeLoop()
    server = Server(loop, takes_s=1.0)
    driven(Work(loop, lambda: closed_loop(server.ready, server.take, 2, None, 4.5, loop.time)))
    assert len(server.taken) == 10
    assert max(server.sent.values()) == 4.0


def test_what_is_under_way_when_a_run_is_ended_is_taken_all_the_same() -> None:
    async def run():
        loop = FakeLoop()
        server = Server(loop, takes_s=100.0)
        work = asyncio.create_task(open_loop(server.ready, server.take, [1.0, 2.0, 9.0], 0.0,
                                             loop.time, server.sleep))
        await play(loop, [(5.0, work.cancel)])
        with pytest.raises(asyncio.CancelledError):
            await work
        return server.taken

    assert sorted(asyncio.run(run())) == [(0, 1.0), (1, 2.0)]


def linked(*pairs):
    """Links from (row, after, delay, on dispatch)."""
    return all_links([links(np.array([row]), np.array([after]), np.array([delay_s]), kind)
                      for row, after, delay_s, kind in pairs])


def test_next_turns_are_due_after_the_answers_they_wait_for() -> None:
    loop = FakeLoop()
    server = Server(loop, takes_s=4.0)
    # 1 follows 0; 2 begins 1 s after 0 began; 3 joins 1 and 2.
    found = linked((1, 0, 2.0, False), (2, 0, 1.0, True), (3, 1, 0.5, False), (3, 2, 9.0, False))
    driven(Work(loop, lambda: linked_loop(server.ready, server.take, [1.0, 1.0, 1.0, 1.0], found,
                                          10.0, loop.time, server.sleep)))
    assert server.sent == {0: 11.0, 2: 12.0, 1: 17.0, 3: 25.0}
    assert dict(server.taken) == server.sent


def test_a_late_generator_moves_no_due_time_that_counts_from_a_dispatch() -> None:
    loop = FakeLoop(late_s=lambda: 0.25)
    server = Server(loop, takes_s=1.0)
    found = linked((1, 0, 1.0, True), (2, 1, 1.0, True), (3, 0, 0.5, False))
    driven(Work(loop, lambda: linked_loop(server.ready, server.take, [1.0] * 4, found, 0.0,
                                          loop.time, server.sleep)))
    due_s = dict(server.taken)
    assert [due_s[number] for number in (0, 1, 2)] == [1.0, 2.0, 3.0]
    assert all(server.sent[number] - due_s[number] == pytest.approx(0.25) for number in due_s)
    # The answer was there when the client had it: the end of a request is not planned.
    assert due_s[3] == pytest.approx(server.sent[0] + 1.25 + 0.5)


def test_prompts_of_next_turns_are_made_while_the_answer_before_runs() -> None:
    loop = FakeLoop()
    server = Server(loop, takes_s=5.0)
    made: dict[int, float] = {}

    def ready(number):
        made[number] = loop.now_s
        return server.ready(number)

    found = linked((1, 0, 2.0, False), (2, 1, 2.0, False))
    driven(Work(loop, lambda: linked_loop(ready, server.take, [1.0] * 3, found, 0.0, loop.time,
                                          server.sleep)))
    assert made == {0: 1.0, 1: 1.0, 2: 8.0}
    assert server.sent == {0: 1.0, 1: 8.0, 2: 15.0}
