"""AlpaServe's groups judged by the simulation that judges Penstock's plans."""

import numpy as np
import pytest

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.plan.place.options import Forecast, PlacedReplicas, PlacementOption
from penstock.plan.place.outcome import outcome_of
from penstock.plan.place.simulated_groups import plan_groups
from penstock.policy.place.values import Device


def way(tensor: int, work_s: float, device_bytes: int = 10, pipeline: int = 1,
        precision: str = "int4") -> PlacementOption:
    return PlacementOption(Configuration(Parallelism(tensor, pipeline), precision, "fp16"), work_s,
               device_bytes)


def node(num_devices: int = 2, num_bytes: int = 25) -> list[Device]:
    return [Device(index, "node", num_bytes) for index in range(num_devices)]


def bursts(*deployments: int, each: int = 4, gap_s: float = 20.0) -> Forecast:
    """Several requests at once for one deployment after another."""
    return Forecast(tuple(gap_s * turn for turn in range(len(deployments)) for _ in range(each)),
                    tuple(place for place in deployments for _ in range(each)))


# -- what comes of seats --------------------------------------------------------------------------


def test_requests_of_who_is_left_out_are_never_answered() -> None:
    forecast = Forecast((0.0, 0.0, 1.0, 2.0), (0, 1, 2, 0))
    ones = [PlacedReplicas(way(1, 1.0), (frozenset({0}),)), None,
            PlacedReplicas(way(2, 4.0), (frozenset({0, 1}),))]
    found = outcome_of(ones, forecast)
    # The third starts at 1 s, when device 0 is free, and the fourth waits for its end.
    assert found.e2e_s.tolist() == [1.0, np.inf, 4.0, 4.0]
    assert found.device_s.tolist() == [1.0, 0.0, 8.0, 1.0]
    assert found.answered == 0.75
    assert found.attainment([1.0, 100.0, 4.0]) == 0.5
    assert found.attainment([4.0, 100.0, 4.0]) == 0.75


def test_nobody_has_a_seat() -> None:
    found = outcome_of([None], Forecast((0.0, 1.0), (0, 0)))
    assert (found.answered, found.attainment([1e9]), found.device_s.sum()) == (0.0, 0.0, 0.0)


# -- groups ---------------------------------------------------------------------------------------


def test_bursts_are_better_served_by_both_devices_together() -> None:
    """A device each has half of a burst late; a group of both holds both models."""
    ways = [way(1, 1.0, 20), way(2, 0.5, 10)]
    found = plan_groups([ways, ways], node(), bursts(0, 1), [2.0, 2.0])
    assert (found.attainment, found.complete) == (1.0, True)
    assert found.seats == (PlacedReplicas(ways[1], (frozenset({0, 1}),)),) * 2


def test_replicas_where_they_pay_and_who_does_not_pay_is_left_out() -> None:
    """Memory for one model each: the one that is asked often gets both devices."""
    often, seldom = [way(1, 1.0, 20)], [way(1, 1.0, 20)]
    found = plan_groups([often, seldom], node(), bursts(0, 0, 0, 1, each=2), [1.0, 1.0])
    assert found.seats == (PlacedReplicas(often[0], (frozenset({0}), frozenset({1}))), None)
    assert found.attainment == 0.75


def test_what_is_reported_is_what_the_simulation_says_of_the_seats() -> None:
    ways = [[way(1, 1.0, 12), way(2, 0.7, 6), way(1, 0.9, 6, 2)], [way(1, 2.0, 12), way(2, 1.2, 6)]]
    forecast = bursts(0, 1, 0, each=3, gap_s=2.0)
    found = plan_groups(ways, node(4), forecast, [2.0, 3.0])
    assert outcome_of(found.seats, forecast).attainment([2.0, 3.0]) == found.attainment > 0.0
    held = dict.fromkeys(range(4), 0)
    for seat in filter(None, found.seats):
        for device in seat.devices:
            held[device] += seat.way.device_bytes
    assert max(held.values()) <= 25


def test_of_ways_in_one_configuration_the_quickest_counts() -> None:
    ways = [way(1, 1.0, 5, precision="fp16"), way(1, 0.5, 20), way(1, 0.5, 10)]
    found = plan_groups([ways], node(1), bursts(0, each=1), [0.6])
    assert found.seats[0] is not None
    assert found.seats[0].way == ways[2]


def test_the_search_ends_by_its_limit() -> None:
    ways = [[way(1, 1.0)]] * 3
    found = plan_groups(ways, node(4), bursts(0, 1, 2), [0.5] * 3, max_simulated=2)
    assert (found.num_simulated, found.complete) == (2, False)


def test_what_means_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="no arrivals"):
        plan_groups([[way(1, 1.0)]], node(), Forecast((), ()), [1.0])
    with pytest.raises(InputError, match="2 for 1 deployments"):
        plan_groups([[way(1, 1.0)]], node(), bursts(0), [1.0, 1.0])
