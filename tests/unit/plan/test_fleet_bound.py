import pytest

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.plan.bound import throughput_bound
from penstock.plan.fleet_bound import fleet_bound_per_s, group_bounds
from support.small_fleet import FLEET


def bound_of(replicas):
    fleet = parse_fleet(FLEET.replace("[{count: 1}]", replicas))
    return fleet_bound_per_s(fleet, fleet_workload(fleet))


def test_replicas_of_all_requests_add_up():
    one = bound_of("[{count: 1}]")
    assert one > 5
    assert bound_of("[{count: 1}, {count: 2}]") == pytest.approx(3 * one)


def test_the_group_that_gives_way_first_decides():
    fleet = parse_fleet(FLEET.replace("[{count: 1}]", "[{service_classes: [chat]}, "
                                      "{service_classes: [batch], count: 3}]"))
    workload = fleet_workload(fleet)
    chat, batch = group_bounds(fleet, workload)
    assert chat.share + batch.share == pytest.approx(1)
    expected = min(chat.bound.rate_per_s / chat.share, 3 * batch.bound.rate_per_s / batch.share)
    assert fleet_bound_per_s(fleet, workload) == pytest.approx(expected)


def test_steps_that_take_no_time_have_no_bound():
    zero = "{base_s: 0, prefill_token_s: 0, work_s: 0, decode_seq_s: 0, context_s: 0}"
    with pytest.raises(InputError, match="a step time above 0"):
        bound_of(f"[{{step_time: {{kind: linear, coefficients: {zero}}}}}]")


def test_groups_that_overlap_in_part_have_no_simple_bound():
    assert bound_of("[{service_classes: [chat]}, {count: 1}]") is None


def test_a_group_without_traffic_is_left_out():
    fleet = parse_fleet(FLEET.replace("[{count: 1}]", "[{count: 1}, {service_classes: [batch]}]")
                        .replace("{chat: 0.6, batch: 0.4}", "{chat: 1.0}"))
    workload = fleet_workload(fleet)
    found = group_bounds(fleet, workload)
    assert [bound.group for bound in found] == [fleet.replicas[0]]
    assert found[0].bound == throughput_bound(fleet, fleet.replicas[0], workload)
