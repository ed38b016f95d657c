"""Waits for places of adapters: the estimate of a plan against simulation, on random fleets.

    python benchmarks/adapter_waits.py [SEED]   # about a minute

Of each fleet the same requests are simulated twice, with its places and with a place for every
adapter. The difference of the times to first token is the wait for a place; the estimate has it by
itself. ``demand`` is the share of the places that would be in use if nobody waited, where every
adapter keeps to one replica: the sum of 1 - exp(-rate * seconds) over adapters, divided by places.
``agree`` counts fleets whose mean waits are within 0.25 s or a quarter, below and above 0.8.
"""

import math
import sys
from random import Random
from typing import Any, NamedTuple

import numpy as np
from common import show

NUM, REQUESTS, WAITS_S, LIMIT = 20, 2_000, 0.05, 0.8
_TOKEN_S = 0.01  # of a decode, to draw rates of all demands


class Case(NamedTuple):
    """A fleet of equal replicas: its room, its adapters, and its requests."""

    seed: int
    replicas: int
    places: int
    adapters: int
    zipf: float
    base_share: float
    prompt: int
    output: int
    policy: str
    demand: float

    def shares(self) -> Any:
        """Shares of the adapters among the requests."""
        weights = np.arange(1, self.adapters + 1) ** -self.zipf
        return weights / weights.sum() * (1.0 - self.base_share)

    def demanded(self, rate_per_s: float, stay_s: float) -> float:
        """Share of the places that adapters would use without waits."""
        used = 1.0 - np.exp(-self.shares() * rate_per_s * stay_s)
        return float(used.sum()) / (self.places * self.replicas)

    def rate_per_s(self) -> float:
        """The rate of about the demand that was drawn."""
        low, high = 1e-3, 1e4
        for _ in range(60):
            middle = math.sqrt(low * high)
            more = self.demanded(middle, self.output * _TOKEN_S) < self.demand
            low, high = (middle, high) if more else (low, middle)
        return low


def drawn(seed: int) -> Case:
    """A random fleet."""
    rng = Random(seed)
    places = rng.choice((2, 4, 8, 16))
    return Case(seed, rng.randint(1, 6), places,
                rng.choice((places + 2, 2 * places, 4 * places, 100, 300)),
                rng.choice((0.0, 0.5, 1.0, 1.5)), rng.choice((0.0, 0.0, 0.3)),
                rng.choice((200, 500, 1500)), rng.choice((40, 100, 250)),
                rng.choice(("sarathi", "penstock")), rng.uniform(0.2, 1.3))


def lengths(mean: int) -> str:
    """Lengths of that mean, lognormal."""
    return f"{{weights: [1], mus: [{math.log(mean) - 0.245:.4f}], sigmas: [0.7], max_tokens: 8000}}"


def fleet(case: Case, places: int) -> Any:
    """The fleet with so many places; the KV cache is the same whatever the places take."""
    from penstock.fleet.load import parse_fleet

    names = ", ".join(f"{{name: a{number}, rank: 16}}" for number in range(case.adapters))
    return parse_fleet(f"""
name: waits
accelerators: [{{name: h100-80gb, count: {case.replicas}}}]
models: [{{name: llama-3.1-8b, adapters: [{names}]}}]
service_classes: [{{name: chat, slo: {{ttft_s: 2}}}}]
traffic: [{{rate_per_s: {case.rate_per_s()}, num_requests: {REQUESTS},
  lengths: {{prompt: {lengths(case.prompt)}, output: {lengths(case.output)}}},
  adapters: {{zipf: {case.zipf}, base_share: {case.base_share}}}}}]
engine: {{kv_tokens: 400000}}
run: {{seed: {case.seed}}}
replicas: [{{count: {case.replicas},
  lora: {{max_loras: {places}, max_cpu_loras: {case.adapters}, max_rank: 16}}}}]
policies: {{route: least_loaded, schedule: {case.policy}}}
""")


def compared(case: Case) -> dict[str, Any] | None:
    """Estimate and simulation of a fleet, None where the estimate knows no steady state."""
    from penstock.fleet.sources import fleet_workload
    from penstock.plan.demands import demands_of
    from penstock.plan.estimate import replica_queue
    from penstock.plan.variants import variants_of
    from penstock.sim.simulation import simulate

    own = fleet(case, case.places)
    workload = fleet_workload(own)
    demand, = demands_of(own, (workload,))
    found, _ = variants_of(own, demand.model, demand.longest_tokens, own.replicas)
    variant = next(one for one in found if one.group.parallelism.num_accelerators == 1)
    queue = replica_queue(own, demand, variant)
    rate_per_s = demand.rate_per_s / case.replicas
    waits_s, state = queue.adapter_waits_s(rate_per_s, case.replicas), queue.operation(rate_per_s)
    if waits_s is None or state is None:
        return None
    tables = [simulate(own, workload).table, simulate(fleet(case, case.adapters), workload).table]
    both = tables[0].finished & tables[1].finished
    seen_s = (tables[0].ttft_s - tables[1].ttft_s)[both]
    return {**case._asdict(), "rate_per_s": round(demand.rate_per_s, 2),
            "demand": round(case.demanded(demand.rate_per_s, case.output * state.gap_s), 2),
            "waiting": share_of(waits_s), "waiting_simulated": share_of(seen_s),
            "mean_s": round(float(waits_s.mean()), 3),
            "mean_simulated_s": round(float(seen_s.mean()), 3)}


def share_of(waits_s: Any) -> float:
    """The share of requests that wait noticeably."""
    return round(float((waits_s > WAITS_S).mean()), 3)


def agrees(one: dict[str, Any]) -> bool:
    """Whether the mean waits are within 0.25 s or a quarter."""
    return bool(abs(one["mean_s"] - one["mean_simulated_s"])
                <= max(0.25, 0.25 * one["mean_simulated_s"]))


if __name__ == "__main__":
    cases, number = [], int(sys.argv[1]) if len(sys.argv) > 1 else 0
    while len(cases) < NUM:
        case = compared(drawn(number))
        number += 1
        if case is not None:
            cases.append(case)
    sides = {"below": [one for one in cases if one["demand"] < LIMIT],
             "above": [one for one in cases if one["demand"] >= LIMIT]}
    show({"cases": cases, "agree": {name: f"{sum(map(agrees, some))} of {len(some)}"
                                    for name, some in sides.items()}})
