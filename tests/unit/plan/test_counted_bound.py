"""The throughput bound keeps to the counts of the fleet file, and says what binds."""

from itertools import product
from math import inf

import pytest

from penstock.cli.capacity_bound import bound_tables, bounds_document
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.plan.counted_bound import accelerators_bound, most_replicas, replicas_bound
from penstock.plan.fleet_bound import fleet_bound_per_s, group_bounds
from support.small_fleet import FLEET

UNSIZED = FLEET.replace("replicas: [{count: 1}]\n", "")
BY_CLASS = "[{{service_classes: [chat], count: {}}}, " \
           "{{service_classes: [batch], count: {}, parallelism: {{tensor: 2}}}}]"


def found(text, replicas="[{count: 1}]"):
    fleet = parse_fleet(text.replace("[{count: 1}]", replicas))
    return fleet, group_bounds(fleet, fleet_workload(fleet))


@pytest.mark.parametrize(("count", "binds"), [(1, "replica count"), (3, "replica count"),
                                              (4, "accelerator count")])
def test_stated_replicas_bind_until_they_hold_every_accelerator(count, binds):
    fleet, bounds = found(FLEET, f"[{{count: {count}}}]")
    stated, most = replicas_bound(fleet, bounds), accelerators_bound(fleet, bounds)
    assert stated.binds == binds
    assert stated.rate_per_s == fleet_bound_per_s(fleet, fleet_workload(fleet))
    assert stated.rate_per_s == pytest.approx(count / 4 * most.rate_per_s)


def test_without_replicas_the_accelerators_bind():
    fleet, bounds = found(UNSIZED)
    most = accelerators_bound(fleet, bounds)
    assert replicas_bound(fleet, bounds) is None
    assert most.binds == "accelerator count"
    assert most.rate_per_s == pytest.approx(4 * bounds[0].bound.rate_per_s)
    rented, bounds = found(UNSIZED.replace(", count: 4", ""))
    assert accelerators_bound(rented, bounds) is None
    assert most_replicas(rented, bounds[0]) is None


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 12])
def test_the_accelerators_rate_is_that_of_the_best_whole_replicas(count):
    fleet, bounds = found(FLEET.replace("count: 4", "count: 40"), BY_CLASS.format(1, 1))
    fleet = parse_fleet(UNSIZED.replace("count: 4", f"count: {count}"))
    each = [one.bound.rate_per_s / one.share for one in bounds]
    best = max((min(number * rate for number, rate in zip(numbers, each, strict=True))
                for numbers in product(range(1, 13), repeat=2)
                if numbers[0] + 2 * numbers[1] <= count), default=0.0)
    assert accelerators_bound(fleet, bounds).rate_per_s == pytest.approx(best)
    assert [most_replicas(fleet, one) for one in bounds] == [count, count // 2]


def test_the_group_that_gives_way_first_is_named():
    fleet, bounds = found(FLEET, BY_CLASS.format(1, 1))
    totals = [one.bound.rate_per_s / one.share for one in bounds]
    stated = replicas_bound(fleet, bounds)
    assert stated.first == (bounds[totals.index(min(totals))],)


def test_groups_that_share_some_requests_have_no_counted_bound():
    fleet, bounds = found(FLEET, "[{service_classes: [chat]}, {count: 1}]")
    assert replicas_bound(fleet, bounds) is accelerators_bound(fleet, bounds) is None
    assert bounds_document(fleet, fleet_workload(fleet))["binds"] is None


@pytest.mark.parametrize(("lengths", "edit", "binds"), [
    ("{prompt: {fixed: 4000}, output: {fixed: 2}}", "", "compute"),
    ("{prompt: {fixed: 20}, output: {fixed: 4000}}", "", "KV cache"),
    ("{prompt: {fixed: 1}, output: {fixed: 40}}", "engine: {kv_tokens: 64}\n", "KV cache"),
])
def test_a_replica_says_what_binds_it(lengths, edit, binds):
    text = FLEET.replace("{prompt: {fixed: 400}, output: {fixed: 40}}", lengths) + edit
    _, (one,) = found(text)
    assert one.bound.binds == binds
    assert (one.bound.kv_gain > 0.01) is (binds == "KV cache")
    if binds == "KV cache":
        assert one.bound.busiest == "memory bandwidth"


@pytest.mark.parametrize(("coefficients", "busiest"), [
    ("{base_s: 10, prefill_token_s: 0, work_s: 0, decode_seq_s: 0, context_s: 0}",
     "step overhead")])
def test_a_step_that_mostly_waits_for_the_host_says_so(coefficients, busiest):
    _, (one,) = found(FLEET, f"[{{step_time: {{kind: linear, coefficients: {coefficients}}}}}]")
    assert one.bound.busiest == busiest


def test_more_kv_cache_raises_a_rate_that_it_binds():
    long = UNSIZED.replace("{fixed: 40}", "{fixed: 2000}")
    rates = {}
    for tokens in (20_000, 40_000):
        _, (one,) = found(long + f"engine: {{kv_tokens: {tokens}}}\n")
        assert one.bound.binds == "KV cache"
        rates[tokens] = one.bound.rate_per_s
        assert one.bound.kv_gain < inf
    assert rates[40_000] > rates[20_000]


def test_the_document_and_the_text_say_what_is_short():
    fleet = parse_fleet(UNSIZED.replace("rate_per_s: 5", "rate_per_s: 300"))
    document = bounds_document(fleet, fleet_workload(fleet))
    assert document["rate_per_s"] is None
    assert document["binds"] == {"count": "accelerator count", "resources": ["compute"],
                                 "groups": ["llama-3-8b on a100-80gb"]}
    needed = document["replicas_needed"]
    assert document["accelerators"] == [{"name": "a100-80gb", "count": 4, "needed": needed}]
    assert document["groups"][0]["most_replicas"] == 4 < needed
    text = "\n".join(block for block in bound_tables(document) if isinstance(block, str))
    assert "what binds: accelerator count of llama-3-8b on a100-80gb; in each replica comp" in text
    assert f"{needed} a100-80gb needed, 4 stated: too few for this traffic" in text
