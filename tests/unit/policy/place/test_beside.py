"""Where a deployment waits least for those that run already."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.place.beside import Neighbour, Placed, Traffic, place_beside, waiting_s
from penstock.policy.place.penstock import PenstockPlacer
from penstock.policy.place.values import Footprint, Infeasible
from support.small_placements import node

ONE, PAIR = (Footprint("m", 4, tensor, 1, 2) for tensor in (1, 2))


def place(footprint: Footprint, neighbours: list[Neighbour], *free: int, service_s: float = 1.0,
          rate: float = 0.0) -> Placed:
    found = place_beside(PenstockPlacer(), footprint, node(*free), neighbours, service_s, rate)
    assert isinstance(found, Placed)
    return found


def at(name: str, *devices: int, busy: float | None = 0.5) -> Neighbour:
    return Neighbour(name, frozenset(devices), None if busy is None else Traffic(busy, 1.0))


def test_waiting_by_pollaczek_and_khinchine() -> None:
    assert waiting_s(1.0, 0.5, ()) == pytest.approx(0.5)
    assert waiting_s(1.0, 0.25, (Traffic(0.25, 2.0),)) == pytest.approx(
        (0.25 + 1.0) / (2 * (1 - 0.75)))
    assert waiting_s(1.0, 1.0, ()) is None


def test_without_traffic_it_is_the_placers_own() -> None:
    own = PenstockPlacer().place(ONE, node(9, 60, 60))
    assert place(ONE, [], 9, 60, 60).placement == own
    assert place(ONE, [at("a", 0, busy=None)], 9, 60, 60) == Placed(
        own, (at("a", 0, busy=None),)), "nobody knows what it is asked: it counts as idle"


def test_idle_devices_before_the_tightest() -> None:
    """The placer alone takes device 0, where least is left over."""
    assert place(ONE, [], 9, 60, 60).placement.device_ids == (0,)
    found = place(ONE, [at("a", 0, 1)], 9, 60, 60)
    assert (found.placement.device_ids, found.beside) == ((2,), ())


def test_the_least_busy_where_none_is_idle() -> None:
    neighbours = [at("a", 0, busy=0.6), at("b", 1, busy=0.3), at("c", 2, busy=0.4)]
    found = place(ONE, neighbours, 9, 60, 60)
    assert (found.placement.device_ids, found.beside) == ((1,), (neighbours[1],))


def test_memory_comes_first() -> None:
    found = place(ONE, [at("a", 2)], 1, 1, 60)
    assert (found.placement.device_ids, found.beside) == ((2,), (at("a", 2),))
    short = place_beside(PenstockPlacer(), ONE, node(1, 1), [at("a", 1)], 1.0)
    assert isinstance(short, Infeasible)


def test_two_that_share_no_device_are_both_waited_for() -> None:
    """Each device of the pair has a neighbour of its own; together they leave no time."""
    found = place(PAIR, [at("a", 0, busy=0.6), at("b", 1, busy=0.6)], 60, 60)
    assert {one.name for one in found.beside} == {"a", "b"}
    assert waiting_s(1.0, 0.0, [Traffic(0.6, 1.0)] * 2) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0.0, 0.9)), max_size=6),
       st.lists(st.integers(8, 60), min_size=6, max_size=6), st.floats(0.0, 0.1))
def test_never_a_longer_wait_than_the_placers_own(taken, free, rate) -> None:
    neighbours = [at(str(i), device, busy=busy) for i, (device, busy) in enumerate(taken)]
    own = PenstockPlacer().place(PAIR, node(*free))
    assert not isinstance(own, Infeasible)
    found = place(PAIR, neighbours, *free, rate=rate)

    def wait_s(devices) -> float:
        wait = waiting_s(1.0, rate, [one.traffic for one in neighbours if one.traffic is not None
                                     and one.device_ids & set(devices)])
        return float("inf") if wait is None else wait

    assert wait_s(found.placement.device_ids) <= wait_s(own.device_ids)
