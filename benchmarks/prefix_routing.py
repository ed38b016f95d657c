"""Reuse of prefixes and TTFT by router, on 8 and on 64 replicas.

    python benchmarks/prefix_routing.py            # about 15 minutes on 2 cores
    python benchmarks/prefix_routing.py --replicas 8 --caches ample --routes reuse prefix_aware

Requests of Mooncake's conversation trace (Qin et al., FAST 2025) with their own times: at the
trace's rate for 8 replicas of Llama-3.1-70B on 4 H100 each, compressed eightfold for 64.
"""

import argparse
import json
from typing import Any

import numpy as np
from common import SHARED, in_parallel, show

TRACE = SHARED / "traces" / "mooncake_conversation_with_hash_ids.jsonl.gz"
RATE_PER_REPLICA = 3.4 / 8
ROUTES: tuple[Any, ...] = (
    "round_robin", "random", "least_loaded", "two_choices", "shortest_queue", "consistent_hash",
    "prefix_aware", "sglang-cache-aware", "dynamo-kv", "llm-d", "least_added_time")
CACHES: dict[str, dict[str, Any]] = {
    "gpu": {}, "host": {"engine.kv_tiers": [
        {"name": "host", "gib": 1024, "read_gb_per_s": 100, "latency_s": 0.001}]},
    "remote": {"engine.kv_tiers": [
        {"name": "host", "gib": 256, "read_gb_per_s": 100, "latency_s": 0.001},
        {"name": "remote", "gib": 65536, "read_gb_per_s": 20, "latency_s": 0.01,
         "shared": True}]},
    "ample": {"engine.kv_tokens": 100_000_000}}
"""GPU memory alone; 1 TiB of host memory for each replica; 256 GiB and a remote store that all
replicas share; GPU memory without end, for comparison."""


def fleet(job: tuple[int, str, Any, int]) -> Any:
    """The fleet of so many replicas, with a cache and a router."""
    from penstock.fleet.load import parse_fleet

    replicas, cache, route, num_requests = job
    return parse_fleet(f"""
name: prefix-routing
accelerators: [{{name: h100-80gb, count: {4 * replicas}}}]
models: [{{name: llama-3.1-70b}}]
engine: {{prefix_caching: true}}
service_classes: [{{name: all, slo: {{ttft_s: 10, percentile: 99}}}}]
traffic: [{{trace: {{file: {TRACE}}}, rate_per_s: {RATE_PER_REPLICA * replicas}}}]
replicas: [{{accelerator: h100-80gb, count: {replicas}, parallelism: {{tensor: 4}}}}]
policies: {{schedule: sarathi}}
run: {{beliefs: exact}}
""", "prefix-routing", {"policies.route": route, "traffic[0].num_requests": num_requests,
                        **CACHES[cache]})


def outcome(job: tuple[int, str, Any, int]) -> dict[str, Any]:
    """Reuse, latency and balance of one run."""
    from penstock.experiment.run import run_fleet
    from penstock.fleet.sources import fleet_workload

    replicas, cache, route, _ = job
    chosen = fleet(job)
    result = run_fleet(chosen, fleet_workload(chosen, 1), 1).result
    reuse, table = result.prefix_reuse, result.table
    ttft_s = np.where(np.isnan(table.ttft_s), np.inf, table.ttft_s)
    requests = np.bincount(table.replica[table.replica >= 0], minlength=replicas)
    delivered = reuse.delivered_tokens
    return {"replicas": replicas, "cache": cache, "route": route,
            "of_available": round(delivered / reuse.available_tokens, 4),
            "of_pooled": round(delivered / reuse.pooled_tokens, 4),
            "captured": round(reuse.captured_tokens / reuse.available_tokens, 4),
            "available_share": round(reuse.available_tokens / reuse.prompt_tokens, 4),
            "ttft_p50_s": round(float(np.quantile(ttft_s, 0.5)), 3),
            "ttft_p99_s": round(float(np.quantile(ttft_s, 0.99)), 3),
            "tpot_p99_s": round(float(np.nanquantile(table.tpot_s, 0.99)), 4),
            "busy_mean": round(float(result.busy_s.mean() / result.end_s), 3),
            "busy_max_over_mean": round(float(result.busy_s.max() / result.busy_s.mean()), 3),
            "requests_max_over_mean": round(float(requests.max() / requests.mean()), 3)}


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--caches", nargs="+", default=list(CACHES), choices=list(CACHES))
    parser.add_argument("--routes", nargs="+", default=None, help="names, or JSON with settings")
    parser.add_argument("--num-requests", type=int, default=12_031)
    return parser.parse_args()


if __name__ == "__main__":
    given = parsed()
    routes = ROUTES if given.routes is None else tuple(
        json.loads(one) if one.startswith("{") else one for one in given.routes)
    show({"rows": in_parallel(outcome, [
        (replicas, cache, route, given.num_requests) for replicas in given.replicas
        for cache in given.caches for route in routes])})
