"""Goodput of every policy at 1.5 times what Penstock sustains, and how each request ends.

    python benchmarks/overload.py             # about 10 minutes on 2 cores
"""

from typing import Any

from common import TRACES, fleet_of, in_parallel, show

POLICIES = ({"name": "penstock"}, {"name": "niyama"}, {"name": "srpf"}, {"name": "edf"},
            {"name": "sarathi"}, {"name": "fcfs"}, {"name": "orca"})
REQUESTS = {"code": 90_000, "conv": 110_000, "sharegpt": 50_000}
OVERLOAD = 1.5


def overload(job: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """One policy at 1.5 times the throughput bound, which Penstock's capacity is close to."""
    from penstock.experiment.run import run_fleet
    from penstock.fleet.sources import fleet_workload
    from penstock.plan.bound import throughput_bound
    from penstock.workload.mixing import scale_rate

    trace, schedule = job
    fleet = fleet_of(trace, {"traffic[0].num_requests": REQUESTS[trace],
                             "policies.schedule": schedule})
    workload = fleet_workload(fleet, 1)
    rate = OVERLOAD * throughput_bound(fleet, fleet.replicas[0], workload).rate_per_s
    scaled = scale_rate(workload, rate / workload.rate_per_s)
    run = run_fleet(fleet, scaled, 1)
    overall = run.summary.overall
    met = int(run.result.table.met_slo.sum())
    return {"trace": trace, "policy": schedule["name"], "rate_per_s": rate,
            "met_per_s_of_arrivals": met / scaled.duration_s,
            "attainment": overall.attainment, "finished": overall.finished,
            "shed": overall.shed, "rejected": overall.rejected,
            "unfinished": overall.received - overall.finished - overall.shed
            - overall.rejected, "reasons": run.summary.document()["refusals"]}


if __name__ == "__main__":
    show({"overload": in_parallel(overload, [(trace, policy) for trace in TRACES
                                             for policy in POLICIES])})
