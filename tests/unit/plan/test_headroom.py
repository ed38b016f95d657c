"""How much a demand may grow before its replicas miss."""

from dataclasses import replace

import pytest

from penstock.fleet.sources import fleet_workload
from penstock.plan.demands import demands_of
from penstock.plan.headroom import MOST, headroom, meets_grown
from penstock.plan.judge import judge
from penstock.plan.variants import variants_of
from penstock.workload.mixing import scale_rate
from support.small_plans import BATCH, fleet, lengths, planned, traffic

BUSY = traffic(rate_per_s=30, num_requests=150, lengths=lengths(1500, 30))
STRICT = [{"name": "chat", "slo": {"ttft_s": 0.6}}, BATCH]


def ready(count, *entries, **sections):
    found = fleet(*(entries or (BUSY,)), service_classes=STRICT, **sections)
    demand, = demands_of(found, (fleet_workload(found),))
    return found, demand, (replace(variants_of(found, demand.model, 1600)[0][0].group,
                                   count=count),)


def test_growth_holds_to_headroom_and_not_much_further():
    found, demand, groups = ready(4)
    growth = headroom(found, demand, groups, seed=0)
    assert 0 < growth < MOST - 1 / 32

    def holds(factor):
        grown = replace(demand, workloads=(scale_rate(demand.sample, 1 + factor),))
        return judge(found, grown, groups, seed=0).meets

    assert holds(growth)
    assert not holds(growth + 1 / 32)


@pytest.mark.parametrize("turn", range(4))
def test_the_growth_holds_with_every_seed_and_more_does_not(turn):
    """The seeds come in every order, since the first of them is searched in another way."""
    found, demand, groups = ready(4)
    workloads = [fleet_workload(found, seed) for seed in range(4)]
    demand = replace(demand, workloads=(*workloads[turn:], *workloads[:turn]))
    growth = headroom(found, demand, groups, seed=0)

    def meets(growth):
        return [meets_grown(found, replace(demand, workloads=(one,)), groups, growth, seed=number)
                for number, one in enumerate(demand.workloads)]

    assert growth > 0
    assert all(meets(growth))
    assert not all(meets(growth + 1 / 32))


def test_more_replicas_have_more_headroom():
    found = [headroom(*ready(count), seed=0) for count in (3, 4, 6)]
    assert found == sorted(found)


def test_an_idle_replica_has_the_most_that_is_searched():
    assert headroom(*ready(4, traffic()), seed=0) == pytest.approx(MOST, abs=1 / 32)


def test_the_same_requests_count_however_fast_they_come():
    """At twice the rate the traffic would be over before a warm-up of three fifths of it."""
    found, demand, groups = ready(2, run={"warmup_s": 3.0})
    assert demand.sample.duration_s < 6.0
    late = [{"name": "chat", "slo": {"ttft_s": 0.6, "percentile": 50}}, BATCH]
    found = replace(found, service_classes=fleet(service_classes=late).service_classes)
    assert headroom(found, demand, groups, seed=0) < MOST - 1 / 32


def test_only_what_is_served_and_arrives_over_time_has_headroom():
    plan = planned(service_classes=[{"name": "chat", "slo": {"ttft_s": 1e-4}}, BATCH],
                   plan={"pooling": "class"})
    assert list(plan.headroom) == ["llama-3-8b/batch"]
    assert planned(traffic(num_requests=1)).headroom == {}
