"""Growth of planning over demands and pools: time, memory, gap; ample and scarce supply.

    python benchmarks/plan_scale.py exact         # 50 to 200 servers, one program (about 5 minutes)
    python benchmarks/plan_scale.py decompose     # 200 to 5,000 servers, columns (about 5 minutes)
    python benchmarks/plan_scale.py target        # 200 x 10 to gap 1e-4, 5,000 x 20 (12 minutes)

Every row is a process of its own. ``scarcity`` is the supply of each accelerator type over what it
would take to carry its even part of all servers; well below 1 not all can be served.
"""

import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from common import REPOSITORY, show

SIZES = {
    "exact": [(n, m) for n in (50, 100, 200) for m in (5, 10)],
    "decompose": [(n, m) for n in (200, 1000, 5000) for m in (5, 20)],
    "target": [(200, 10), (5000, 20)],
}
SCARCITY = {"exact": (1.0,), "decompose": (1.0, 0.5), "target": (4.0, 1.0, 0.5, 0.3)}
SEEDS = {"exact": range(1), "decompose": range(1), "target": range(6)}
SEEDS_OF_LARGE = 3
GAPS = {200: 1e-4, 5000: 1e-3}


def row(job: tuple[str, int, int, float, int, bool]) -> dict[str, Any]:
    """One plan, checked."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from penstock.plan.assign.decompose import solve_decomposed
    from penstock.plan.assign.exact import solve_exact
    from penstock.plan.assign.solve import solve
    from support.plan_check import check
    from support.random_planning_problems import server_problem

    mode, servers, types, scarcity, seed, mixed = job
    problem = server_problem(servers, types, scarcity, seed, mixed=mixed)
    solver = {"exact": solve_exact, "decompose": solve_decomposed, "target": solve}[mode]
    cpu_s, began_s = time.process_time(), time.perf_counter()
    found = solver(problem, gap=GAPS.get(servers, 1e-3), time_limit_s=60.0)
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    if faults := check(problem, found):
        raise AssertionError(faults[0])
    return {"mode": mode, "servers": servers, "types": types, "scarcity": scarcity, "seed": seed,
            "mixed": mixed, "wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2),
            "method": found.method, "cost_gap": found.gap, "worst_gap": found.worst_gap,
            "unserved": len(found.unserved),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


if __name__ == "__main__":
    mode = sys.argv[1] if len(sys.argv) > 1 else "target"
    jobs = [(mode, *size, scarcity, seed, mixed) for size in SIZES[mode] for mixed in (False, True)
            for scarcity in SCARCITY[mode]
            for seed in SEEDS[mode][:SEEDS_OF_LARGE if size[0] > 1000 else None]]
    results = []
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for result in pool.map(row, jobs):
            print(result, file=sys.stderr, flush=True)
            results.append(result)
    show({"results": results})
