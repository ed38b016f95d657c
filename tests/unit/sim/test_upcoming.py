"""Requests that wait for others: joins, spawns, both triggers."""

import numpy as np

from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.core.units import PS_PER_S
from penstock.sim.kernel import NEVER_PS
from penstock.sim.upcoming import Dependent
from penstock.workload.links import all_links, links
from penstock.workload.workload import Loops, Workload

CHAT = ServiceClass("chat")


def waiting(arrival_s, pairs, loops=None):
    """Pairs are (row, after, delay, on dispatch)."""
    num = len(arrival_s)
    ones, empty = np.ones(num, np.int64), np.zeros(0, np.int64)
    zeros = np.zeros(num, np.int64)
    found = all_links([links(np.array([row]), np.array([after]), np.array([delay_s]), kind)
                       for row, after, delay_s, kind in pairs])
    workload = Workload(np.array(arrival_s, float), ones, ones, ones, ("m",), zeros, ("chat",),
                        zeros, ("t",), zeros, empty, empty, loops=loops, links=found)
    return Dependent([Request(number, at_s, 1, 1, CHAT) for number, at_s in enumerate(arrival_s)],
                   workload)


def due_s(upcoming):
    return upcoming.due_ps / PS_PER_S


def test_a_join_waits_for_the_latest_of_its_answers():
    upcoming = waiting([0.0, 1.0, 1.0], [(2, 0, 5.0, False), (2, 1, 0.5, False)])
    assert [upcoming.take().request_id, upcoming.take().request_id] == [0, 1]
    assert upcoming.due_ps == NEVER_PS
    upcoming.ended(1, 9 * PS_PER_S)
    assert upcoming.due_ps == NEVER_PS
    upcoming.ended(0, 6 * PS_PER_S)
    assert due_s(upcoming) == 11.0
    assert upcoming.take()[:2] == (2, 11.0)
    assert upcoming.arrived_s == {0: 0.0, 1: 1.0, 2: 11.0}


def test_a_spawn_may_begin_while_its_parent_runs():
    upcoming = waiting([0.0, 0.0, 0.0, 0.0], [(1, 0, 2.0, True), (2, 0, 1.0, True),
                                              (3, 2, 0.0, True)])
    assert upcoming.take().request_id == 0
    sent = []
    while upcoming.due_ps < NEVER_PS:
        request = upcoming.take()
        sent.append((request.request_id, request.arrival_s))
    assert sent == [(2, 1.0), (3, 1.0), (1, 2.0)]


def test_both_triggers_of_one_parent_count():
    upcoming = waiting([0.0, 30.0], [(1, 0, 0.0, False), (1, 0, 30.0, True)])
    upcoming.take()
    upcoming.ended(0, 7 * PS_PER_S)
    assert due_s(upcoming) == 30.0


def test_links_and_closed_loops_go_together():
    loops = Loops((np.zeros(1),), np.array([-1, -1, 0, 0]), np.zeros(4))
    upcoming = waiting([4.0, 4.0, 0.0, 0.0], [(1, 0, 3.0, False)], loops)
    assert upcoming.take().request_id == 2
    upcoming.ended(2, 2 * PS_PER_S)
    assert upcoming.take()[:2] == (3, 2.0)
    assert upcoming.take()[:2] == (0, 4.0)
    upcoming.ended(0, 5 * PS_PER_S)
    assert upcoming.take()[:2] == (1, 8.0)


def test_a_parent_that_never_ends_sends_nothing():
    upcoming = waiting([0.0, 1.0], [(1, 0, 0.0, False)])
    upcoming.take()
    assert upcoming.due_ps == NEVER_PS
    assert upcoming.arrived_s == {0: 0.0}
