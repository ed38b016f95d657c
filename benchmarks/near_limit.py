"""Sustained rates against the throughput bound: paced deadlines at fixed shares of the bound, and
strict gaps against a sweep of fixed chunks.

    python benchmarks/near_limit.py paced     # about 6 minutes on 2 cores
    python benchmarks/near_limit.py strict    # about 15 minutes
"""

import sys
from typing import Any

from common import TRACES, fleet_of, in_parallel, show

SHARES = (0.96, 0.98)
PACED_REQUESTS = {"code": 120_000, "conv": 150_000, "sharegpt": 60_000}
STRICT_REQUESTS = 20_000
CHUNKS = (128, 192, 256, 320, 384, 448, 512, 640, 768)


def paced(job: tuple[str, str, float]) -> dict[str, Any]:
    """Attainment of a policy at a share of the bound."""
    from penstock.experiment.run import run_fleet
    from penstock.fleet.judge import attainment_by_class
    from penstock.fleet.sources import fleet_workload
    from penstock.plan.bound import throughput_bound
    from penstock.workload.mixing import scale_rate

    trace, policy, share = job
    fleet = fleet_of(trace, {"traffic[0].num_requests": PACED_REQUESTS[trace],
                             "policies.schedule": {"name": policy}})
    workload = fleet_workload(fleet, 1)
    bound = throughput_bound(fleet, fleet.replicas[0], workload).rate_per_s
    scaled = scale_rate(workload, share * bound / workload.rate_per_s)
    run = run_fleet(fleet, scaled, 1)
    shares = attainment_by_class(fleet, run.result.table)
    return {"trace": trace, "policy": policy, "bound_per_s": bound, "share_of_bound": share,
            "rate_per_s": share * bound,
            "attainment": {name: a.share for name, a in shares.items()},
            "after_last_arrival_s": run.result.end_s - scaled.duration_s}


def strict(job: tuple[str, str, int]) -> dict[str, Any]:
    """Capacity of a policy when every gap is judged."""
    from penstock.experiment.capacity import find_capacity

    trace, policy, chunk = job
    schedule = {"name": policy, **({"chunk_tokens": chunk} if chunk else {})}
    fleet = fleet_of(trace, {"traffic[0].num_requests": STRICT_REQUESTS,
                             "service_classes[0].slo.itl": "strict",
                             "policies.schedule": schedule})
    found = find_capacity(fleet, [1], tolerance=0.02)
    return {"trace": trace, "policy": policy, "chunk_tokens": chunk,
            "capacity_per_s": found.rate_per_s}


if __name__ == "__main__":
    if sys.argv[1:] == ["strict"]:
        jobs = [(trace, "penstock", 0) for trace in TRACES]
        jobs += [(trace, policy, chunk) for trace in TRACES for policy in ("sarathi", "edf")
                 for chunk in CHUNKS]
        show({"strict": in_parallel(strict, jobs)})
    else:
        show({"paced": in_parallel(paced, [(trace, policy, share) for trace in TRACES
                                           for policy in ("penstock", "niyama")
                                           for share in SHARES])})
