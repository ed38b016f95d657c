"""What a mixed fleet saves against the best single kind of accelerator, both checked by simulation.

    python benchmarks/mixed.py              # about 5 minutes on 2 cores

Code and conversation lengths of Azure's 2023 traces share Llama-3.1-8B; every plan must hold with
three seeds and once more a little faster.
"""

import json
from typing import Any

from common import in_parallel, show

ACCELERATORS = ("l4", "l40s", "a100-80gb", "h100-80gb", "mi300x")
RATES = {"azure-2023-code": (2.0, 5.0), "azure-2023-conv": (4.0, 9.0)}


def document(accelerators: tuple[str, ...], scale: int) -> dict[str, Any]:
    """A fleet file's document; ``scale`` picks the traffic."""
    return {
        "name": "mixed",
        "accelerators": [{"name": name} for name in accelerators],
        "models": [{"name": "llama-3.1-8b", "max_context_tokens": 32768}],
        "service_classes": [
            {"name": "interactive", "priority": 1, "slo": {"ttft_s": 2, "itl_s": 0.05}},
            {"name": "batch", "priority": 2, "slo": {"e2e_s": 120}}],
        "traffic": [{"trace": trace, "mix": {"interactive": 0.6, "batch": 0.4},
                     "arrivals": "poisson", "rate_per_s": rates[scale],
                     "num_requests": int(400 * rates[scale])} for trace, rates in RATES.items()],
        "plan": {"num_seeds": 3, "tensor": [1, 2]}}


def cost(job: tuple[tuple[str, ...], int]) -> dict[str, Any]:
    """The checked plan's cost with these accelerators alone."""
    from penstock.fleet.load import parse_fleet
    from penstock.plan.assign.solve import solve
    from penstock.plan.plan import plan_fleet

    accelerators, scale = job
    plan = plan_fleet(parse_fleet(json.dumps(document(accelerators, scale))), solve)
    return {"accelerators": list(accelerators), "scale": scale, "served": plan.served_in_full,
            "cost_per_hour": plan.checked.solution.cost_per_hour,
            "replicas": dict(next(iter(plan.checked.counts.values()))),
            "trials": len(plan.checked.trials)}


if __name__ == "__main__":
    kinds: list[tuple[str, ...]] = [ACCELERATORS, *((name,) for name in ACCELERATORS)]
    rows = in_parallel(cost, [(kind, scale) for scale in (0, 1) for kind in kinds])
    for scale in (0, 1):
        mine = [row for row in rows if row["scale"] == scale and row["served"]]
        single = min(r["cost_per_hour"] for r in mine if len(r["accelerators"]) == 1)
        mixed = next(r["cost_per_hour"] for r in mine if len(r["accelerators"]) > 1)
        rows.append({"scale": scale, "mixed": mixed, "best_single": single,
                     "saving": 1.0 - mixed / single})
    show({"mixed": rows})
