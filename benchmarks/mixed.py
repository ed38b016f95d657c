"""What a mixed fleet saves against the best single kind of accelerator, both checked by simulation.

    python benchmarks/mixed.py              # about 10 minutes on 2 cores

Code and conversation lengths of Azure's 2023 traces, one to two, share Llama-3.1-8B; every plan
must hold with three seeds and once more a little faster.
"""

import json
from typing import Any

from common import in_parallel, show

ACCELERATORS = ("l4", "l40s", "a100-80gb", "h100-80gb", "mi300x")
RATES_PER_S = (6.0, 12.0, 18.0, 27.0, 40.0, 60.0)
SHARES = {"azure-2023-code": 1 / 3, "azure-2023-conv": 2 / 3}
LENGTH_S = 240.0

Job = tuple[float, str, tuple[str, ...]]
"""Requests per second, what shares replicas, and the accelerators there are."""


def document(job: Job) -> dict[str, Any]:
    """A fleet file's document."""
    rate_per_s, pooling, accelerators = job
    return {
        "name": "mixed",
        "accelerators": [{"name": name} for name in accelerators],
        "models": [{"name": "llama-3.1-8b", "max_context_tokens": 32768}],
        "service_classes": [
            {"name": "interactive", "priority": 1, "slo": {"ttft_s": 2, "itl_s": 0.05}},
            {"name": "batch", "priority": 2, "slo": {"e2e_s": 120}}],
        "traffic": [{"trace": trace, "mix": {"interactive": 0.6, "batch": 0.4},
                     "arrivals": "poisson", "rate_per_s": round(share * rate_per_s, 3),
                     "num_requests": int(share * rate_per_s * LENGTH_S)}
                    for trace, share in SHARES.items()],
        "plan": {"num_seeds": 3, "tensor": [1, 2], "pooling": pooling},
        "run": {"beliefs": "exact"}}


def planned(job: Job) -> dict[str, Any]:
    """The checked plan with these accelerators alone; no cost where it does not serve all."""
    from penstock.fleet.load import parse_fleet
    from penstock.plan.assign.solve import solve
    from penstock.plan.plan import plan_fleet

    plan = plan_fleet(parse_fleet(json.dumps(document(job))), solve)
    return {"rate_per_s": job[0], "pooling": job[1], "accelerators": list(job[2]),
            "cost_per_hour": plan.checked.solution.cost_per_hour if plan.served_in_full else None,
            "replicas": {demand: dict(counts) for demand, counts in plan.checked.counts.items()},
            "trials": len(plan.checked.trials)}


def saving(rows: list[dict[str, Any]], rate_per_s: float, pooling: str) -> dict[str, Any]:
    """The mixed fleet against the best single kind, at one rate."""
    mine = [row for row in rows if (row["rate_per_s"], row["pooling"]) == (rate_per_s, pooling)]
    mixed = next(row for row in mine if len(row["accelerators"]) > 1)
    single = min((row for row in mine if len(row["accelerators"]) == 1 and row["cost_per_hour"]),
                 key=lambda row: row["cost_per_hour"])
    return {"rate_per_s": rate_per_s, "pooling": pooling, "mixed": mixed["replicas"],
            "mixed_per_hour": mixed["cost_per_hour"], "single": single["replicas"],
            "single_per_hour": single["cost_per_hour"],
            "saving": 1.0 - mixed["cost_per_hour"] / single["cost_per_hour"]}


if __name__ == "__main__":
    kinds: list[tuple[str, ...]] = [ACCELERATORS, *((name,) for name in ACCELERATORS)]
    jobs = [(rate, pooling, kind) for rate in RATES_PER_S for pooling in ("model", "class")
            for kind in kinds]
    rows = in_parallel(planned, jobs)
    show({"plans": rows, "savings": [saving(rows, rate, pooling) for rate in RATES_PER_S
                                     for pooling in ("model", "class")]})
