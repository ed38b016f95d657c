"""Whose turn it is: nobody waits for others' accelerators, and nobody waits for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.serving.deployments.line import Line, Ticket


def ticket(number, devices, name=None, slots=1, arrival_s=0.0):
    return Ticket(number, name or f"on-{devices}", frozenset(map(int, devices)), slots, arrival_s)


def started(line, now_s=0.0):
    found = []
    while (one := line.next(now_s)) is not None:
        found.append(one.number)
    return found


def test_others_accelerators_hold_nobody_up():
    line = Line()
    for number, devices in enumerate(("01", "1", "2", "01")):
        line.add(ticket(number, devices))
    assert started(line) == [0, 2]
    assert line.ended(0)
    assert started(line) == [1]
    assert line.num_waiting == 1


def test_as_published_everybody_waits_for_the_head():
    line = Line("maveriq")
    for number, devices in enumerate(("01", "1", "2", "01")):
        line.add(ticket(number, devices, slots=8))
    assert started(line) == [0]
    line.ended(0)
    assert started(line) == [1, 2]
    line.ended(1)
    assert started(line) == [3]


def test_the_head_goes_before_all_that_wait():
    for kind in ("penstock", "maveriq"):
        line = Line(kind)
        line.add(ticket(0, "0"))
        assert started(line) == [0]
        line.add(ticket(1, "0"))
        line.add(ticket(2, "0"), head=True)
        line.add(ticket(3, "0"), head=True)
        order = []
        while line.num_waiting:
            line.ended(order[-1] if order else 0)
            order += started(line)
        assert order == [3, 2, 1]


def test_as_many_run_together_as_the_estimate_was_for():
    line = Line()
    for number in range(4):
        line.add(ticket(number, "01", slots=3))
    line.add(ticket(9, "1"))
    assert started(line) == [0, 1, 2]
    assert line.of("on-01") == (1, 3)
    for number in range(3):
        line.ended(number)
    assert started(line) == [3]
    line.ended(3)
    assert started(line) == [9]


def test_whoever_waited_long_gets_its_accelerators_next():
    line = Line(patience_s=2.0)
    line.add(ticket(0, "0"))
    assert started(line) == [0]
    line.add(ticket(1, "01", arrival_s=0.5))
    line.add(ticket(2, "1", arrival_s=1.0))
    assert started(line, 1.0) == [2]
    line.ended(2)
    line.add(ticket(3, "1", arrival_s=2.6))
    assert started(line, 2.6) == []  # 1 waits for longer than its patience
    line.ended(0)
    assert started(line, 2.7) == [1]


def test_what_is_unknown():
    with pytest.raises(InputError, match=r"queue: 'maverik' is unknown; did you mean 'maveriq'"):
        Line("maverik")
    assert not Line().ended(7)


ARRIVALS = st.lists(st.tuples(st.sets(st.integers(0, 3), min_size=1), st.integers(1, 3),
                              st.booleans()), max_size=25)


@given(ARRIVALS, st.sampled_from(["penstock", "maveriq"]), st.randoms(use_true_random=False))
def test_laws(arrivals, kind, rng):
    line = Line(kind, patience_s=3.0)
    running = {}
    done = []
    for number, (devices, slots, head) in enumerate(arrivals):
        name = "".join(map(str, sorted(devices)))
        line.add(Ticket(number, name, frozenset(devices), slots, float(number)), head=head)
    now_s = float(len(arrivals))
    while line.num_waiting or running:
        while (one := line.next(now_s)) is not None:
            running[one.number] = one
        assert running, "something must be able to start"
        for one in running.values():
            others = [other for other in running.values() if other.devices & one.devices]
            assert {other.name for other in others} == {one.name}
            assert len(others) <= max(other.slots for other in others)
        over = rng.choice(sorted(running))
        del running[over]
        done.append(over)
        assert line.ended(over)
        now_s += 1.0
    assert sorted(done) == list(range(len(arrivals)))
