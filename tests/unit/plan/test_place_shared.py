"""Plans for deployments that share devices: what is chosen, and that it fits."""

import pytest

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.plan.place.options import (
    Forecast,
    PlacedReplicas,
    PlacementOption,
    best_ways,
    shared_of,
)
from penstock.plan.place.shared import Goal, NoRoomError, SharedPlan, plan_shared
from penstock.policy.place.values import Device


def way(num_devices: int, work_s: float, device_bytes: int = 10, *, growth: float = 1.0,
        max_batch: int = 1, precision: str = "int4") -> PlacementOption:
    return PlacementOption(Configuration(Parallelism(num_devices, 1), precision, "fp16"), work_s,
                           device_bytes, growth, max_batch)


def node(num_devices: int = 4, num_bytes: int = 100) -> list[Device]:
    return [Device(index, "node", num_bytes) for index in range(num_devices)]


def every(seconds: float, num: int, deployments: int = 1) -> Forecast:
    return Forecast(tuple(seconds * index for index in range(num)),
                    tuple(index % deployments for index in range(num)))


def fits(plan: SharedPlan, devices: list[Device]) -> bool:
    held = {device.device_id: 0 for device in devices}
    for seat in plan.seats:
        sets = [device for devices in seat.device_sets for device in devices]
        assert len(sets) == len(set(sets)), "sets of one deployment are disjoint"
        for device in sets:
            held[device] += seat.way.device_bytes
    return all(held[device.device_id] <= device.free_bytes for device in devices)


def test_at_low_load_wide_and_at_high_load_many() -> None:
    ways = [way(1, 1.0), way(4, 0.5)]
    calm = plan_shared([ways], node(), every(10.0, 20), Goal())
    assert calm.seats[0].way.num_devices == 4
    assert calm.e2e_s == pytest.approx(0.5)
    busy = plan_shared([ways], node(), every(0.3, 60), Goal())
    assert busy.seats[0].way.num_devices == 1
    assert len(busy.seats[0].device_sets) == 4
    assert busy.e2e_s == pytest.approx(1.0)
    assert fits(busy, node())


def test_what_a_device_second_is_worth_decides() -> None:
    ways = [way(1, 1.0), way(2, 0.6), way(4, 0.5)]
    chosen = [plan_shared([ways], node(), every(10.0, 20), Goal(worth)).seats[0].way.num_devices
              for worth in (0.0, 0.2, 5.0)]
    assert chosen == [4, 2, 1]


def test_a_limit_on_device_seconds_is_kept_where_it_can_be() -> None:
    ways = [way(1, 1.0), way(2, 0.6), way(4, 0.5)]
    assert plan_shared([ways], node(), every(10.0, 20),
                       Goal(0.0, 1.5)).device_s == pytest.approx(1.2)
    least = plan_shared([ways], node(), every(10.0, 20), Goal(0.0, 0.5))
    assert least.device_s == pytest.approx(1.0), "none keeps it, this comes nearest"


def test_a_busy_neighbour_is_kept_apart() -> None:
    """Both would be quickest on all devices, if the other were not there."""
    ways = [way(1, 1.0, 60), way(2, 0.55, 30)]
    forecast = Forecast(tuple(0.3 * index for index in range(60)),
                        tuple(index % 2 for index in range(60)))
    plan = plan_shared([ways, ways], node(2), forecast, Goal())
    alone = plan_shared([ways], node(2), every(10.0, 10), Goal())
    assert alone.seats[0].way.num_devices == 2
    assert all(seat.way.num_devices == 1 for seat in plan.seats)
    assert plan.seats[0].device_sets != plan.seats[1].device_sets


def test_memory_is_kept_and_deployments_make_room_for_each_other() -> None:
    large, small = [way(4, 1.0, 60), way(2, 1.5, 120)], [way(1, 0.5, 50), way(2, 0.4, 30)]
    plan = plan_shared([large, small, small], node(), every(1.0, 30, 3), Goal())
    assert fits(plan, node())
    assert plan.seats[0].way.num_devices == 4


def test_batches_take_fewer_device_seconds_under_load() -> None:
    forecast = every(0.5, 60)
    alone = plan_shared([[way(1, 1.0)]], node(1), forecast, Goal())
    batched = plan_shared([[way(1, 1.0, growth=0.1, max_batch=4)]], node(1), forecast, Goal())
    assert batched.e2e_s < 0.2 * alone.e2e_s
    assert batched.device_s < 0.7 * alone.device_s == pytest.approx(0.7)


def test_the_search_ends_where_it_is_told_to() -> None:
    ways = [way(1, 1.0), way(2, 0.6), way(4, 0.5)]
    plan = plan_shared([ways] * 3, node(), every(0.4, 60, 3), Goal(), max_simulated=3)
    assert plan.num_simulated <= 3 + 6, "the starts and no more"
    assert fits(plan, node())
    again = plan_shared([ways] * 3, node(), every(0.4, 60, 3), Goal(), max_simulated=3)
    assert again == plan


def test_senseless_questions_are_refused() -> None:
    with pytest.raises(NoRoomError, match="2 deployments: no configurations found that fit"):
        plan_shared([[way(1, 1.0, 80)]] * 2, node(1), every(1.0, 4, 2), Goal())
    with pytest.raises(InputError, match="deployment 1: no configuration"):
        plan_shared([[way(1, 1.0)], []], node(), every(1.0, 4), Goal())
    with pytest.raises(InputError, match="forecast: holds no arrivals"):
        plan_shared([[way(1, 1.0)]], node(), Forecast((), ()), Goal())


def test_of_ways_about_as_quick_the_smallest() -> None:
    ways = [way(1, 1.0, 30), way(1, 1.01, 20, precision="int8"), way(1, 1.5, 1), way(2, 0.9, 9)]
    assert [one.device_bytes for one in best_ways(ways)] == [20, 9]


def test_sets_that_others_want_least_come_first() -> None:
    one = way(1, 1.0)
    seats = [PlacedReplicas(one, (frozenset({0}), frozenset({1}))),
             PlacedReplicas(one, (frozenset({0}),))]
    assert shared_of(seats)[0].device_sets == (frozenset({1}), frozenset({0}))


def test_time_of_a_batch() -> None:
    batched = way(2, 1.0, growth=0.5, max_batch=4)
    assert batched.growth_of(1) == 1.0
    assert batched.growth_of(3) == 2.0
    assert batched.least_device_s == pytest.approx(2.0 * 2.5 / 4)
    assert way(2, 1.0, growth=3.0, max_batch=2).least_device_s == pytest.approx(2.0)
