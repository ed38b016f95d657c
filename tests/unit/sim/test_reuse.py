"""Reuse of prefixes: what there was, what the routes caught, and what was not computed."""

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.fleet.load import parse_fleet
from penstock.fleet.values import Fleet
from penstock.fleet.write import resolved
from penstock.policy.kv.counting import CountingKv
from penstock.policy.kv.prefix import PrefixKv
from penstock.sim.reuse import PrefixReuse, ReuseMeter
from penstock.sim.simulation import simulate
from penstock.workload.workload import Workload

BLOCK = 16


def request(number: int, hashes: tuple[int, ...], more: int = 1) -> Request:
    return Request(number, 0.0, BLOCK * len(hashes) + more, 1, ServiceClass("any"), "m", "default",
                   hashes, BLOCK)


def test_each_count_has_its_own_cache() -> None:
    kvs = {0: PrefixKv(4, BLOCK), 1: PrefixKv(4, BLOCK)}
    meter = ReuseMeter(kvs, ["m", "m"])
    first = request(0, (1, 2))
    meter.routed(first, 0)
    assert kvs[0].allocate(0, first.prompt_tokens, 33, (1, 2), BLOCK, 0) == 0
    kvs[0].computed(0, 33)
    meter.routed(request(1, (1, 2)), 1)  # the other replica has nothing
    meter.routed(request(2, (1, 2)), 0)
    meter.routed(request(3, tuple(range(10, 18))), 1)  # evicts 1 and 2 from the pool of 8 blocks
    meter.routed(request(4, (1,)), 1)
    assert meter.reuse(32) == PrefixReuse(33 * 3 + 129 + 17, 32 + 32 + 16, 32 + 32, 32, 32)


def test_the_last_token_is_not_available() -> None:
    meter = ReuseMeter({0: PrefixKv(9, BLOCK)}, ["m"])
    for number in range(2):
        meter.routed(request(number, (1, 2), more=0), 0)
    assert meter.reuse(0) == PrefixReuse(64, 16, 16, 0, 0)


def test_models_share_nothing() -> None:
    meter = ReuseMeter({0: PrefixKv(9, BLOCK), 1: PrefixKv(9, BLOCK)}, ["m", "n"])
    for replica in (0, 1):
        meter.routed(request(replica, (1, 2)), replica)
    assert meter.reuse(0) == PrefixReuse(66, 0, 0, 0, 0)


def test_without_hashes_or_caches_nothing_is_said() -> None:
    meter = ReuseMeter({0: CountingKv(9, BLOCK), 1: PrefixKv(9, BLOCK)}, ["m", "m"])
    meter.routed(request(0, (1,)), 0)
    meter.routed(request(1, ()), 1)
    assert meter.reuse(0) is None


def fleet(route: str, engine: str = "") -> Fleet:
    return parse_fleet(f"""
name: reuse
accelerators: [{{name: a100-80gb, count: 3}}]
models: [{{name: llama-3-8b}}]
engine: {{prefix_caching: true, kv_tokens: 2560{engine}}}
service_classes: [{{name: all, slo: {{ttft_s: 5}}}}]
traffic: [{{lengths: {{prompt: {{fixed: 500}}, output: {{fixed: 20}}}}, rate_per_s: 1}}]
replicas: [{{accelerator: a100-80gb, count: 3}}]
policies: {{schedule: sarathi, route: {route}}}
run: {{beliefs: exact}}
""", "reuse")


def conversations(num: int = 264, talks: int = 11) -> Workload:
    """Conversations that take turns, each prompt one block of 128 tokens longer than the last."""
    turns = np.arange(num) // talks % 6 + 1
    values = [1000 * (row % talks) + 100_000 * (row // talks // 6) + place
              for row in range(num) for place in range(turns[row])]
    zero = np.zeros(num, dtype=np.int64)
    return Workload(np.arange(num) * 0.05, turns * 128 + 10, zero + 20, zero + 20, ("llama-3-8b",),
                    zero, ("all",), zero, ("default",), zero,
                    np.concatenate(([0], np.cumsum(turns))), np.array(values), 128)


@pytest.mark.parametrize("route", ["round_robin", "least_added_time", "llm-d"])
def test_no_route_delivers_more_than_there_is(route: str) -> None:
    reuse = simulate(fleet(route), conversations()).prefix_reuse
    assert reuse is not None
    assert reuse.pooled_tokens <= reuse.available_tokens
    assert reuse.delivered_tokens <= reuse.available_tokens
    assert reuse.captured_tokens <= reuse.available_tokens
    other = simulate(fleet("shortest_queue"), conversations()).prefix_reuse
    assert other is not None
    assert reuse[:3] == other[:3]  # these do not depend on routes


def test_routing_by_added_time_keeps_conversations_together() -> None:
    turns, ours = (simulate(fleet(route), conversations()).prefix_reuse
                   for route in ("round_robin", "least_added_time"))
    assert turns is not None
    assert ours is not None
    assert ours.delivered_tokens > 1.2 * turns.delivered_tokens


def test_a_host_tier_keeps_what_the_cache_evicts() -> None:
    tier = ", kv_tiers: [{name: host, gib: 4, read_gb_per_s: 50, latency_s: 0.0001}]"
    plain, tiered = (simulate(fleet("least_added_time", engine), conversations())
                     for engine in ("", tier))
    assert plain.prefix_reuse is not None
    assert tiered.prefix_reuse is not None
    assert plain.prefix_reuse.tier_tokens is None
    loaded = tiered.prefix_reuse.tier_tokens
    assert loaded is not None
    assert loaded["host"] > 0
    assert tiered.prefix_reuse.load_s is not None
    assert tiered.prefix_reuse.load_s > 0
    assert tiered.prefix_reuse.delivered_tokens > plain.prefix_reuse.delivered_tokens


def test_replicas_share_a_remote_store() -> None:
    tier = ", kv_tiers: [{name: remote, gib: 64, read_gb_per_s: 50, shared: %s}]"
    alone, shared = (simulate(fleet("round_robin", tier % word), conversations()).prefix_reuse
                     for word in ("false", "true"))
    assert alone is not None
    assert shared is not None
    assert shared.delivered_tokens > alone.delivered_tokens


@pytest.mark.parametrize(("engine", "problem"), [
    ("prefix_caching: false, kv_tiers: [{name: host, gib: 1, read_gb_per_s: 1}]",
     "need a prefix cache"),
    ("prefix_caching: true, kv_tiers: [{name: disk, gib: 1, read_gb_per_s: 1}, "
     "{name: host, gib: 1, read_gb_per_s: 1}]", "expected each tier once, the fastest first"),
    ("prefix_caching: true, kv_tiers: [{name: tape, gib: 1, read_gb_per_s: 1}]", "host"),
    ("prefix_caching: true, kv_tiers: [{name: host, gib: 0, read_gb_per_s: 1}]", "more than 0"),
    ("prefix_caching: true, kv_tiers: [{name: host, gib: 0.001, read_gb_per_s: 1}]",
     r"kv_tiers\[0\]\.gib: 0.001 has no room for a block of llama-3-8b: expected at least 0.00195, "
     "16 tokens")])
def test_wrong_tiers_are_refused(engine: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        parse_fleet(f"""
name: reuse
accelerators: [{{name: a100-80gb, count: 1}}]
models: [{{name: llama-3-8b}}]
engine: {{{engine}}}
service_classes: [{{name: all, slo: {{ttft_s: 5}}}}]
traffic: [{{lengths: {{prompt: {{fixed: 500}}, output: {{fixed: 20}}}}, rate_per_s: 1}}]
replicas: [{{accelerator: a100-80gb, count: 1}}]
policies: {{schedule: sarathi}}
""", "reuse")


def test_tiers_are_written_as_they_are_read() -> None:
    tier = ", kv_tiers: [{name: host, gib: 4, read_gb_per_s: 50}]"
    written = resolved(fleet("least_added_time", tier))
    assert written["engine"]["kv_tiers"] == [
        {"name": "host", "gib": 4.0, "read_gb_per_s": 50.0, "latency_s": 0.0, "shared": False}]
    assert "kv_tiers" not in resolved(fleet("least_added_time"))["engine"]
