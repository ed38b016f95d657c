"""Penstock's capacity when what it believes is wrong, relative to when it is right.

    python benchmarks/robustness.py           # about 8 minutes on 2 cores
"""

from typing import Any

from common import TRACES, fleet_of, in_parallel, show

REQUESTS = 30_000
WRONG = ((1.0, 1.0), (0.8, 1.0), (1.2, 1.0), (1.0, 0.5), (1.0, 1.5))


def capacity(job: tuple[str, float, float]) -> dict[str, Any]:
    """Capacity with step times and lengths believed to be these multiples of the truth."""
    from penstock.experiment.capacity import find_capacity
    from penstock.sim.beliefs import Beliefs

    trace, step_time_factor, length_factor = job
    fleet = fleet_of(trace, {"traffic[0].num_requests": REQUESTS,
                             "policies.schedule": {"name": "penstock"}})
    found = find_capacity(fleet, [1], tolerance=0.02,
                          beliefs=Beliefs(step_time_factor, length_factor))
    return {"trace": trace, "step_time_factor": step_time_factor, "length_factor": length_factor,
            "capacity_per_s": found.rate_per_s}


if __name__ == "__main__":
    results = in_parallel(capacity, [(trace, *wrong) for trace in TRACES for wrong in WRONG])
    right = {r["trace"]: r["capacity_per_s"] for r in results
             if r["step_time_factor"] == r["length_factor"] == 1.0}
    show({"robustness": [{**r, "of_right": r["capacity_per_s"] / right[r["trace"]]}
                         for r in results]})
