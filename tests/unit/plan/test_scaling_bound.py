"""Accelerator-hours that no scaling policy undercuts."""

import pytest

from penstock.experiment.run import run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.plan.scaling_bound import least_gpu_hours

FLEET = """\
name: scaled
accelerators: [{{name: a100-80gb, count: 8}}]
models: [{{name: llama-3-8b}}]
service_classes: [{{name: chat, slo: {{ttft_s: 20, itl_s: 0.5, percentile: {percentile}}}}}]
traffic:
  - {{lengths: {{prompt: {{shares: [0, 1], tokens: [10, 3000]}}, output: {{fixed: 100}}}},
     rate_per_s: {rate}, duration_s: 120}}
replicas: [{{count: 2, min_replicas: {floor}, max_replicas: 8}}]
scaling: {{start_s: 10}}
policies: {{schedule: penstock, scale: static}}
"""


def bound(percentile: float = 99, rate: float = 30, floor: int = 0) -> float:
    fleet = parse_fleet(FLEET.format(percentile=percentile, rate=rate, floor=floor))
    found = least_gpu_hours(fleet, fleet_workload(fleet))
    assert found is not None
    return found


def test_more_requests_and_higher_objectives_need_more() -> None:
    assert bound(rate=60) == pytest.approx(2 * bound(rate=30), rel=0.1)
    assert bound(percentile=99) > bound(percentile=80)
    assert 0 < bound(percentile=50) < 0.5 * bound(percentile=99)  # the cheapest half


def test_the_floor_is_held_all_the_time() -> None:
    assert bound(rate=0.5, floor=2) == pytest.approx(2 * 120 / 3600, rel=0.1)


@pytest.mark.parametrize("rate", [5, 40, pytest.param(80, marks=pytest.mark.long)])
def test_no_fleet_that_meets_its_objectives_needs_less(rate: float) -> None:
    text = FLEET.format(percentile=90, rate=rate, floor=1)
    least = bound(90, rate, 1)
    for count in (1, 2, 4, 8):
        fleet = parse_fleet(text.replace("count: 2", f"count: {count}"))
        summary = run_fleet(fleet, fleet_workload(fleet), 0).summary
        if summary.overall.meets_slo:
            assert summary.scaling.gpu_hours >= least
            break
    else:
        pytest.fail("no count suffices")
