"""Cost of simulating LoRA adapters: 500 on 8 replicas, against the same requests without.

    python benchmarks/adapters.py   # about 10 s

CPU time per request of whole simulations, least of three each, in turn. ``ratio`` should be at
most 2. Loads are those of all replicas.
"""

import time
from typing import Any

from common import show

RUNS, REQUESTS = 3, 20_000
CASES = (("sarathi", 40, 32), ("sarathi", 80, 8), ("penstock", 40, 32))
"""Scheduling policy, requests per second, places for adapters; 80 per second is too many."""


def fleet(policy: str, rate_per_s: int, max_loras: int, *, adapters: bool) -> Any:
    """Eight replicas with 500 adapters, which requests name or not."""
    from penstock.fleet.load import parse_fleet

    named = ", ".join(f"{{name: a{number}, rank: 16}}" for number in range(500))
    traffic = ", adapters: {zipf: 1.0}" if adapters else ""
    return parse_fleet(f"""
name: adapters
accelerators: [{{name: h100-80gb, count: 8}}]
models: [{{name: llama-3.1-8b, adapters: [{named}]}}]
service_classes: [{{name: chat, slo: {{ttft_s: 2, itl_s: 0.05}}}}]
traffic: [{{rate_per_s: {rate_per_s}, num_requests: {REQUESTS}, lengths: azure-2023-conv{traffic}}}]
replicas: [{{count: 8, lora: {{max_loras: {max_loras}, max_cpu_loras: 200}}}}]
policies: {{route: least_loaded, schedule: {policy}}}
""")


def case(policy: str, rate_per_s: int, max_loras: int) -> dict[str, Any]:
    """CPU time per request with and without adapters."""
    from penstock.fleet.sources import fleet_workload
    from penstock.sim.simulation import simulate

    least: dict[bool, float] = {}
    loads = None
    for adapters in (False, True) * RUNS:
        one = fleet(policy, rate_per_s, max_loras, adapters=adapters)
        workload = fleet_workload(one)
        start = time.process_time()
        found = simulate(one, workload)
        taken = (time.process_time() - start) / REQUESTS
        least[adapters] = min(taken, least.get(adapters, taken))
        loads = found.adapter_loads if adapters else loads
    assert loads is not None
    return {"policy": policy, "rate_per_s": rate_per_s, "max_loras": max_loras,
            "us_per_request": round(1e6 * least[True], 1),
            "us_without": round(1e6 * least[False], 1),
            "ratio": round(least[True] / least[False], 2),
            "from_disk": loads.from_disk, "to_device": loads.to_device}


if __name__ == "__main__":
    show({"cases": [case(*one) for one in CASES]})
