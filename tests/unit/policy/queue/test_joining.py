"""Requests that join those that run: nobody waits for others' accelerators, and nobody for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.policy.queue.values import Shared, Waiting
from penstock.serving.deployments.requests import make_queue


class Line:
    """A queue before deployments that come with their requests, and its starts by request."""

    def __init__(self, kind="penstock", **settings):
        self.queue = make_queue(kind, **settings)
        self.indices = {}
        self.running = {}

    def add(self, number, devices, slots=1, arrival_s=0.0, ahead=False):
        key = (frozenset(map(int, devices)), slots)
        if key not in self.indices:
            self.indices[key] = self.queue.deploy(Shared(key[:1], max_batch=slots, joins=True))
        self.queue.add(Waiting(number, self.indices[key], arrival_s, ahead=ahead))

    def started(self, now_s=0.0):
        found = []
        while (start := self.queue.next(now_s)) is not None:
            number, = start.request_ids
            self.running[number] = start
            found.append(number)
        return found

    def ended(self, number):
        self.queue.ended(self.running.pop(number))


def test_others_accelerators_hold_nobody_up():
    line = Line()
    for number, devices in enumerate(("01", "1", "2", "01")):
        line.add(number, devices)
    assert line.started() == [0, 2]
    line.ended(0)
    assert line.started() == [1]
    assert line.queue.num_waiting == 1


def test_as_published_everybody_waits_for_the_head():
    line = Line("maveriq")
    for number, devices in enumerate(("01", "1", "2", "01")):
        line.add(number, devices, slots=8)
    assert line.started() == [0]
    line.ended(0)
    assert line.started() == [1, 2]
    line.ended(1)
    assert line.started() == [3]


@pytest.mark.parametrize("kind", ["penstock", "maveriq"])
def test_the_head_goes_before_all_that_wait(kind):
    line = Line(kind)
    line.add(0, "0")
    assert line.started() == [0]
    line.add(1, "0")
    line.add(2, "0", ahead=True)
    line.add(3, "0", ahead=True)
    order = []
    while line.queue.num_waiting:
        line.ended(order[-1] if order else 0)
        order += line.started()
    assert order == [3, 2, 1]


def test_as_many_run_together_as_the_estimate_was_for():
    line = Line()
    for number in range(4):
        line.add(number, "01", slots=3)
    line.add(9, "1")
    assert line.started() == [0, 1, 2]
    for number in range(3):
        line.ended(number)
    assert line.started() == [3]
    line.ended(3)
    assert line.started() == [9]


def test_whoever_waited_long_gets_its_accelerators_next():
    line = Line(patience_s=2.0)
    line.add(0, "0")
    assert line.started() == [0]
    line.add(1, "01", arrival_s=0.5)
    line.add(2, "1", arrival_s=1.0)
    assert line.started(1.0) == [2]
    line.ended(2)
    line.add(3, "1", arrival_s=2.6)
    assert line.started(2.6) == []  # 1 waits for longer than its patience
    line.ended(0)
    assert line.started(2.7) == [1]


def test_nobody_joins_before_whoever_waited_long():
    line = Line(patience_s=2.0)
    line.add(0, "0", slots=2)
    assert line.started() == [0]
    line.add(1, "01", arrival_s=0.5)
    line.add(2, "0", slots=2, arrival_s=2.5)
    assert line.started(2.5) == []
    line.ended(0)
    assert line.started(2.6) == [1]


def test_what_is_unknown():
    with pytest.raises(InputError, match=r"queue: 'maverik' is unknown; did you mean 'maveriq'"):
        make_queue("maverik")


ARRIVALS = st.lists(st.tuples(st.sets(st.integers(0, 3), min_size=1), st.integers(1, 3),
                              st.booleans()), max_size=25)


@given(ARRIVALS, st.sampled_from(["penstock", "maveriq"]), st.randoms(use_true_random=False))
def test_laws(arrivals, kind, rng):
    line = Line(kind, patience_s=3.0)
    asked, done = {}, []
    for number, (devices, slots, ahead) in enumerate(arrivals):
        asked[number] = (frozenset(devices), slots)
        line.add(number, devices, slots, float(number), ahead)
    now_s = float(len(arrivals))
    while line.queue.num_waiting or line.running:
        line.started(now_s)
        assert line.running, "something must be able to start"
        for number in line.running:
            others = [asked[other] for other in line.running if asked[other][0] & asked[number][0]]
            assert set(others) == {asked[number]}
            assert len(others) <= asked[number][1]
        over = rng.choice(sorted(line.running))
        done.append(over)
        line.ended(over)
        now_s += 1.0
    assert sorted(done) == list(range(len(arrivals)))
