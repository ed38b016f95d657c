"""Melange's problem: buckets of request sizes on a mix of GPU types, over sizes and slices.

    python benchmarks/melange.py            # about 2 minutes

Melange (Griggs et al., 2024) cuts each bucket's load into slices and assigns whole slices to GPU
types; GPUs are whole. Here a pool is a GPU type and a demand a slice, or, with mixed demands, a
whole bucket that may be split at will, which is the limit of many slices. Tables are random, drawn
so that dear types are faster, the more so for large requests.
"""

import sys
import time
from typing import Any

import numpy as np
from common import REPOSITORY, show

from penstock.plan.assign.problem import Demand, Option, Pool, Problem
from penstock.plan.assign.solve import solve

sys.path.insert(0, str(REPOSITORY / "tests"))
from support.plan_check import check

TYPES = (("A10G", 1.01), ("A100-80GB", 3.67), ("H100", 7.516), ("L4", 0.7))
# Buckets per side, requests per second, slices per bucket, GPU types.
CASES = ((2, 30.0, 1, 2), (6, 60.0, 4, 4), (10, 60.0, 4, 4), (10, 600.0, 4, 4), (14, 200.0, 8, 4))


def buckets(side: int, rate_per_s: float, slices: int, num_types: int, seed: int,
            mixed: bool) -> Problem:
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.ones(side * side)).reshape(side, side)
    pools = tuple(Pool(name, price, {name: 1}) for name, price in TYPES[:num_types])
    demands = []
    for i in range(side):
        for j in range(side):
            work = 2.0 ** (0.35 * i + 0.5 * j)
            loads = []
            for pool in pools:
                throughput = pool.cost_per_hour ** rng.normal(1.0, 0.15) * 12.0 / work
                loads.append(Option(pool.name, rate_per_s * share[i, j] / throughput))
            count = 1 if mixed else slices
            demands += [Demand(f"bucket-{i:02}-{j:02}-{k}", tuple(
                Option(o.pool, o.load / count) for o in loads), mixed=mixed) for k in range(count)]
    return Problem(pools, tuple(demands))


def row(side: int, rate_per_s: float, slices: int, num_types: int, seed: int,
        mixed: bool) -> dict[str, Any]:
    problem = buckets(side, rate_per_s, slices, num_types, seed, mixed)
    cpu_s, began_s = time.process_time(), time.perf_counter()
    found = solve(problem, gap=0.0, time_limit_s=60.0)
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    if faults := check(problem, found):
        raise AssertionError(faults[0])
    singles = [solve(Problem((pool,), tuple(
        Demand(d.name, tuple(o for o in d.options if o.pool == pool.name), mixed=mixed)
        for d in problem.demands))).cost_per_hour for pool in problem.pools]
    return {"buckets": f"{side}x{side}", "rate_per_s": rate_per_s, "slices": slices,
            "types": num_types, "seed": seed, "mixed": mixed,
            "wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2), "gap": found.gap,
            "replicas": dict(found.replicas), "cost_per_hour": round(found.cost_per_hour, 2),
            "best_single_type": round(min(singles), 2)}


if __name__ == "__main__":
    results = []
    for case in CASES:
        for mixed in (False, True):
            for seed in (0, 1, 2):
                results.append(row(*case, seed=seed, mixed=mixed))
                print(results[-1], file=sys.stderr, flush=True)
    show({"results": results})
