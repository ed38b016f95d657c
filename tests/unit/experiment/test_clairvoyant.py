"""What a clairvoyant needs, from below and from above."""

import numpy as np
import pytest

from penstock.experiment.clairvoyant import BIN_S, Demand, clairvoyant, schedule
from penstock.experiment.run import run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload

FLEET = """\
name: scaled
accelerators: [{name: a100-80gb, count: 8}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2, itl_s: 0.05, percentile: 99}}]
traffic:
  - {lengths: {prompt: {fixed: 1000}, output: {fixed: 100}}, rate_per_s: 5, duration_s: 40}
  - {lengths: {prompt: {fixed: 1000}, output: {fixed: 100}}, rate_per_s: 30, duration_s: 40,
     start_s: 40}
replicas: [{count: 1, max_replicas: 8}]
scaling: {start_s: 20}
policies: {schedule: penstock, scale: static}
"""


@pytest.mark.long
def test_the_bound_lies_between_the_relaxation_and_a_fleet_that_never_changes() -> None:
    fleet = parse_fleet(FLEET)
    workload = fleet_workload(fleet)
    said: list[str] = []
    found = clairvoyant(fleet, workload, 0, said.append)
    assert found is not None
    assert found.schedule_gpu_hours == found.gpu_hours
    assert 0 < found.low_gpu_hours <= found.gpu_hours
    assert said[0] == "the bound"
    constant = []
    for count in range(2, 5):
        static = parse_fleet(FLEET.replace("count: 1,", f"count: {count},"))
        summary = run_fleet(static, fleet_workload(static), 0).summary
        assert summary.scaling is not None
        if summary.overall.meets_slo:
            constant.append(summary.scaling.gpu_hours)
    assert found.gpu_hours < min(constant)
    assert found.low_gpu_hours < min(constant)


def test_targets_that_no_fleet_meets_leave_no_bound() -> None:
    fleet = parse_fleet(FLEET.replace("ttft_s: 2,", "ttft_s: 0.001,"))
    assert clairvoyant(fleet, fleet_workload(fleet), 0) is None


def test_groups_for_some_classes_only_have_no_bound() -> None:
    fleet = parse_fleet(FLEET.replace("replicas: [{", "replicas: [{service_classes: [chat], "))
    assert clairvoyant(fleet, fleet_workload(fleet), 0) is None


def timetable(*spans: tuple[float, float], load: float = 2.5) -> list[list[float]]:
    """The timetable of work that comes at ``load`` replicas within each (start, end)."""
    work_s = np.zeros(100)
    for begin_s, end_s in spans:
        work_s[round(begin_s / BIN_S):round(end_s / BIN_S)] = BIN_S * load
    demand = Demand(0, work_s, 0.9)
    return schedule(parse_fleet(FLEET), [demand], 1.0, 0.0, 1000.0)


def test_a_replica_is_ordered_a_start_before_its_work_and_kept_until_the_work_is_done() -> None:
    rows = timetable((400, 600))
    assert rows[0] == [0.0, 1]
    at_work = [row[0] for row in rows if row[1] == 3]
    # The mean of the minute around counts, so the third replica's work begins half a minute late.
    assert 400 - 20 - 30 <= at_work[0] <= 400 - 20 + 30
    after = [row[0] for row in rows if row[1] == 1 and row[0] > at_work[0]]
    assert 600 <= after[0] <= 640


def test_a_gap_shorter_than_a_start_is_not_worth_a_stop() -> None:
    assert len(timetable((300, 500), (520, 700))) == len(timetable((300, 700)))
    assert len(timetable((300, 400), (800, 900))) > len(timetable((300, 400)))


def test_the_bounds_of_the_fleet_hold() -> None:
    counts = [row[1] for row in timetable((100, 500), load=40.0)]
    assert min(counts) == 1
    assert max(counts) == 8
