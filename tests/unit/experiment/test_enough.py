from dataclasses import replace

import pytest

from penstock.experiment.capacity import Capacity
from penstock.experiment.enough import fields_to_raise, longest_target_s
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from support.small_fleet import FLEET

ENTRY = "  - mix: {chat: 0.6, batch: 0.4}"


def raised(text, rate_per_s=10.0, **changes):
    fleet = parse_fleet(text)
    fleet = replace(fleet, run=replace(fleet.run, **changes))
    return fields_to_raise(fleet, len(fleet_workload(fleet)), rate_per_s)


def test_five_times_the_longest_target_at_the_rate():
    assert longest_target_s(parse_fleet(FLEET)) == 300
    assert raised(FLEET) == {"traffic[0].num_requests": 15_000}
    assert raised(FLEET, 10.01) == {"traffic[0].num_requests": 16_000}


def test_enough_is_enough_and_without_targets_nothing_is():
    assert raised(FLEET, 60 / 1500) == {}
    assert raised(FLEET.replace("{ttft_s: 2, itl_s: 0.05}", "{}").replace("{e2e_s: 300}", "{}")) \
        == {}


def test_the_field_is_the_one_that_cuts():
    drawn = FLEET.replace("    num_requests: 60\n", "")
    assert raised(drawn) == {"traffic[0].num_requests": 15_000}
    assert raised(drawn, num_requests=30) == {"run.num_requests": 15_000}
    assert raised(FLEET, num_requests=30) == {"run.num_requests": 15_000,
                                              "traffic[0].num_requests": 15_000}
    timed = FLEET.replace("num_requests: 60", "duration_s: 20")
    found = raised(timed)
    assert set(found) == {"traffic[0].duration_s"}
    # 20 s at 5/s are about 100 requests of the 15,000.
    assert 2_000 < found["traffic[0].duration_s"] < 5_000


def test_entries_grow_alike():
    start, end = FLEET.index(ENTRY), FLEET.index("replicas:")
    entry = FLEET[start:end]
    both = FLEET[:end] + entry.replace("num_requests: 60", "num_requests: 120") + FLEET[end:]
    first, second = raised(both).values()
    assert second == pytest.approx(2 * first, rel=0.1)
    assert 15_000 <= first + second <= 16_500


def test_a_seed_at_its_bound_counts():
    assert Capacity(0.99, (3.0, 5.0), (), (4.0, 5.0)).reached_bound
    assert not Capacity(0.99, (3.0, 4.9), (), (4.0, 5.0)).reached_bound
    assert not Capacity(0.99, (3.0,), (), (float("inf"),)).reached_bound
