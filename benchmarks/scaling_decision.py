"""Time of one decision of the scaler for 50 models with 5 variants each.

    python benchmarks/scaling_decision.py
"""

import sys
import time
from dataclasses import replace

import numpy as np

from penstock.fleet.load import parse_fleet
from penstock.fleet.scaler import scaler_context
from penstock.policy.scale.penstock import penstock
from penstock.policy.scale.values import Gauges, Observation, SeenDemand, SeenGroup, SeenReplica

FLEET = """\
name: many
accelerators:
  - {name: a100-80gb}
  - {name: h100-80gb}
  - {name: l40s}
  - {name: h200-141gb}
  - {name: h100-nvl, price_per_hour: 3}
models: [{name: llama-3.1-8b}]
service_classes:
  - {name: chat, slo: {ttft_s: 2, itl_s: 0.1}}
  - {name: doc, slo: {ttft_s: 20, itl_s: 0.3}}
traffic: [{mix: {chat: 0.5, doc: 0.5}, lengths: azure-2023-conv, rate_per_s: 1, num_requests: 10}]
replicas:
  - {accelerator: a100-80gb, count: 2, max_replicas: 50}
  - {accelerator: h100-80gb, count: 2, max_replicas: 50}
  - {accelerator: l40s, count: 2, max_replicas: 50}
  - {accelerator: h200-141gb, count: 2, max_replicas: 50}
  - {accelerator: h100-nvl, count: 2, max_replicas: 50}
scaling: {start_s: 60}
policies: {scale: penstock}
"""
NUM_MODELS, NUM_DECISIONS, MOST_MS = 50, 60, 100.0


def main() -> int:
    """Print the median and the longest decision in milliseconds."""
    one = scaler_context(parse_fleet(FLEET), 0)
    context = replace(one, groups=tuple(replace(group, model=f"m{i}") for i in range(NUM_MODELS)
                                        for group in one.groups),
                      capacity=one.capacity * NUM_MODELS, step_s=one.step_s * NUM_MODELS)
    scaler, rng = penstock({}, context), np.random.default_rng(0)
    arrived = np.zeros((NUM_MODELS, 2), np.int64)
    groups = tuple(SeenGroup(2, tuple(
        SeenReplica(i, "ready", 0.0, Gauges(20, 2, 0.5)) for i in range(2)))
        for _ in context.groups)
    taken_ms = []
    for step in range(NUM_DECISIONS):
        arrived += rng.poisson(60 * (1 + step % 7), arrived.shape)
        recent = [tuple(zip(rng.lognormal(6, 1, 2048).astype(int).tolist(),
                            rng.lognormal(5, 1, 2048).astype(int).tolist(), strict=True))
                  for _ in ("chat", "doc")]
        demand = tuple(SeenDemand(f"m{i}", name, int(arrived[i, j]), 0, int(arrived[i, j]), 0,
                                  num_met=int(arrived[i, j]), recent=recent[j])
                       for i in range(NUM_MODELS) for j, name in enumerate(("chat", "doc")))
        seen = Observation(10.0 * step, groups, demand)
        begin_s = time.perf_counter()
        scaler.decide(seen, 10.0 * step)
        taken_ms.append((time.perf_counter() - begin_s) * 1e3)
    print(f"{len(context.groups)} groups: median {np.median(taken_ms):.1f} ms, "
          f"longest {max(taken_ms):.1f} ms")
    return 1 if max(taken_ms) > MOST_MS else 0


if __name__ == "__main__":
    sys.exit(main())
